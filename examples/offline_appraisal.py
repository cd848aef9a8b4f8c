"""Judge evidence that was collected elsewhere and earlier: no device, no network.

    spdm attest tcp://192.0.2.7 --trust-anchor root.pem --evidence nic.cbor
    python examples/offline_appraisal.py root.pem nic.json nic.cbor [MORE.cbor ...]

One verifier serves for many pieces of evidence; what cannot be read or is not authentic gets a
result as well, with the step that noticed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.outcome import AttestationResult
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.errors import DecodeError, SpdmError


def judge(verifier: Verifier, path: Path, now: int) -> AttestationResult:
    """The result for one file."""
    try:
        evidence = Evidence.from_cbor(path.read_bytes())
    except DecodeError as error:
        return verifier.refused(error, now)
    return verifier.appraise_evidence(evidence, now)


def main() -> int:
    """Judge each file; the exit code is the worst there was."""
    parser = argparse.ArgumentParser(description="Judge evidence offline.")
    parser.add_argument("trust_anchor")
    parser.add_argument("reference")
    parser.add_argument("evidence", nargs="+", type=Path)
    given = parser.parse_args()
    worst = 0
    try:
        verifier = Verifier.from_files(
            Sources(trust_anchors=[given.trust_anchor], references=[given.reference])
        )
        for path in given.evidence:
            result = judge(verifier, path, int(time.time()))
            print(f"{path}: {result.verdict}  {'; '.join(result.reasons)}")
            worst = worst if worst == 1 else result.exit_code() or worst
    except (SpdmError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return worst


if __name__ == "__main__":
    sys.exit(main())

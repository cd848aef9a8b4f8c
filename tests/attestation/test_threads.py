"""What worker threads read first, they may read at the same moment: each in a fresh process.

msgspec reads the declaration of a structure at its first use, and two threads that meet there crash
the process (0.22.0). A verifier's first devices come together, so that they did meet.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

SCRIPT = """
import sys, threading
sys.setswitchinterval(1e-6)
{imports}
barrier = threading.Barrier(8)
def first():
    barrier.wait()
    try:
        {call}
    except Exception as error:
        if type(error).__name__ not in ("ConfigurationError", "DecodeError"):
            raise
threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""

EVIDENCE = """
from spdmkit.attestation.cbor import Tag, encode
from spdmkit.attestation.evidence import EVIDENCE_TAG, Evidence
data = encode(Tag(EVIDENCE_TAG, {'format': 1, 'slot': 0, 'exchanges': []}))
"""

FIRST_USES = {
    "reference values": (
        "from spdmkit.attestation.reference.json_format import from_json",
        'from_json(b\'{"spdm_reference": 1, "id": "x", "measurements": [{"index": 1}]}\')',
    ),
    "policy": (
        "from spdmkit.attestation.policy_file import read_policy",
        "read_policy(b'[policy]\\\\nname = \"x\"\\\\n[[component]]\\\\nindex = 7\\\\n')",
    ),
    "evidence": (
        EVIDENCE,
        "Evidence.from_cbor(data)",
    ),
    "redfish": (
        "from spdmkit.attestation.evidence_import import import_redfish",
        "import_redfish(b'{\"Certificate\": {}}')",
    ),
}


@pytest.mark.parametrize("what", FIRST_USES)
def test_the_first_use_may_be_in_several_threads(what: str) -> None:
    imports, call = FIRST_USES[what]
    script = SCRIPT.format(imports=imports, call=call)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_structure_is_decoded_by_its_type_alone() -> None:
    """`msgspec.json.decode(data, type=...)` reads the declaration at its first use."""
    found = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in sorted(SRC.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "msgspec.json.decode"
        and any(keyword.arg == "type" for keyword in node.keywords)
    ]
    assert found == []

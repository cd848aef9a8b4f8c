"""`spdm bench appraise`: what it costs to appraise recorded evidence, offline.

The floor is the four signatures in the evidence: two links of the chain, CHALLENGE_AUTH and
MEASUREMENTS. Reference values are loaded before. Beside it: the same with the chain validated
before, which then has two signatures left to verify.
"""

from __future__ import annotations

from typing import Final

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.outcome import Verdict
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.bench.device import Bench, bench_device
from spdmkit.bench.measuring import Result, Round, cpu, median, result_of, verifier
from spdmkit.bench.peer import served
from spdmkit.errors import AuthenticationError
from spdmkit.identity import ChainCache
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import Settings
from spdmkit.transports import blocking
from spdmkit.transports.requesters import requester_factory

__all__ = ["BAR", "measure_appraise"]

BAR: Final = 1.5
ROUNDS: Final = 5
VERIFICATIONS: Final = 4
LINKS: Final = 2
_WARM_UP: Final = 10


def measure_appraise(algorithm: str = "ecdsa-p384", count: int = 200) -> Result:
    """Appraise the recorded evidence of a software device again and again.

    Args:
        algorithm: of the device's keys.
        count: how often, at least once in each round.
    """
    each = max(1, round(count / ROUNDS))
    verify = verifier(algorithm)
    with bench_device(algorithm) as device:
        evidence = Evidence.from_cbor(_record(device).to_cbor())
        sources = Sources(
            trust_anchors=[device.folder / "trust-anchor.pem"],
            references=[device.folder / "reference.json"],
        )
        plain = Verifier.from_files(sources)
        remembering = Verifier.from_files(sources, cache=ChainCache())
    now = device.trust.time

    def appraise(one: Verifier) -> None:
        result = one.appraise_evidence(evidence, now)
        if result.verdict is not Verdict.TRUSTED:
            raise AuthenticationError("appraisal", "; ".join(result.reasons))

    for _ in range(_WARM_UP):
        appraise(plain)
        appraise(remembering)
        verify()
    rounds: list[Round] = []
    remembered: list[float] = []
    for _ in range(ROUNDS):
        figures, floors = [], []
        for _ in range(each):
            figures.append(cpu(lambda: appraise(plain)))
            floors.append(cpu(verify))
            remembered.append(cpu(lambda: appraise(remembering)))
        rounds.append(Round(figures, floors))
    left = VERIFICATIONS - LINKS
    verification = median([floor for found in rounds for floor in found.floors])
    return result_of(
        "appraise",
        rounds,
        times=VERIFICATIONS,
        bar=BAR,
        what="appraising recorded evidence offline, reference values loaded before",
        of_what=f"{VERIFICATIONS} {algorithm} verifications",
        details={
            "algorithm": algorithm,
            "count": each * ROUNDS,
            "chain_validated_before_ms": round(median(remembered), 4),
            "chain_validated_before_floor_ms": round(left * verification, 4),
            "chain_validated_before_ratio": round(median(remembered) / left / verification, 3),
        },
    )


def _record(device: Bench) -> Evidence:
    settings = Settings(capabilities=requester_capabilities(), keep_messages=True)
    with (
        served(device.folder) as peer,
        blocking.connect(peer.uri, requester_factory(settings)) as connection,
    ):
        link = Link(connection.endpoint.connection)
        wanted = Wanted(now=device.trust.time)
        return connection.run(collect(link, device.trust, wanted)).evidence

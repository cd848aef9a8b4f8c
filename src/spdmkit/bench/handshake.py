"""`spdm bench handshake`: what opening a session costs the requester, KEY_EXCHANGE to FINISH_RSP.

The device's chain was verified before. The floor is the cryptography that one handshake contains:
making an ephemeral key, agreeing on a secret, verifying one signature, the hashes of the
transcripts, the HMACs of the key schedule, and sealing and opening one record.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from spdmkit.attestation.collect import Wanted, collect
from spdmkit.bench.device import bench_device
from spdmkit.bench.measuring import Result, Round, cpu, result_of, verifier, woken
from spdmkit.bench.peer import served
from spdmkit.crypto.registry import AEAD, BASE_HASH, DHE
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.sessions import OpenedSession, end_session, key_exchange
from spdmkit.protocol.settings import AlgorithmSet, Settings
from spdmkit.transports import blocking
from spdmkit.transports.requesters import requester_factory

__all__ = ["BAR", "measure_handshake"]

BAR: Final = 1.5
ROUNDS: Final = 5
_WARM_UP: Final = 10

GROUP: Final = "secp384r1"
CIPHER: Final = "aes-256-gcm"
_HASH: Final = "sha-384"
_TRANSCRIPT: Final = 760
"""Bytes that a handshake's transcript hashes: VCA, KEY_EXCHANGE and its response, FINISH."""
_DIGESTS: Final = 4
"""Digests of the transcript on its way: for the signature, TH1, verify data, TH2."""
_HMACS: Final = 20
"""Two to extract, the salt between them, S0 to S3, the export secret; key and IV for four
directions; two finished keys and what is made with them."""
_KEYS: Final = 4
"""Ciphers made: both directions, in the handshake and after it."""


def measure_handshake(algorithm: str = "ecdsa-p384", count: int = 100) -> Result:
    """Open sessions with a software device over loopback, with the blocking driver.

    Args:
        algorithm: of the device's keys.
        count: how often, at least once in each round.
    """
    each = max(1, round(count / ROUNDS))
    algorithms = AlgorithmSet.available().narrowed(
        base_hash=BASE_HASH.by_name(_HASH).mask,
        dhe=DHE.by_name(GROUP).mask,
        aead=AEAD.by_name(CIPHER).mask,
        kem=0,
    )
    settings = Settings(
        capabilities=requester_capabilities(sessions=True),
        algorithms=algorithms,
        keep_messages=True,
    )
    floor = _cryptography(algorithm)
    rounds: list[Round] = []
    with (
        bench_device(algorithm) as device,
        served(device.folder, awake=True) as peer,
        blocking.connect(peer.uri, requester_factory(settings)) as connection,
    ):
        link = Link(connection.endpoint.connection)
        wanted = Wanted(challenge=False)
        key = connection.run(collect(link, device.trust, wanted)).proof.key
        opened: list[OpenedSession] = []

        def handshake() -> None:
            opened.append(connection.run(key_exchange(link, key)))

        def end() -> None:
            connection.run(end_session(opened.pop().link))

        for _ in range(_WARM_UP):
            handshake()
            end()
            floor()
        for _ in range(ROUNDS):
            figures, floors = [], []
            for _ in range(each):
                figures.append(cpu(handshake))
                end()
                floors.append(woken(floor))
            rounds.append(Round(figures, floors))
        negotiated = connection.endpoint.connection.algorithms.names()
    return result_of(
        "handshake",
        rounds,
        bar=BAR,
        what="KEY_EXCHANGE to FINISH_RSP, the chain verified before (blocking driver)",
        of_what="its key exchange, signature verification, hashes, HMACs and records",
        details={"algorithms": negotiated, "count": each * ROUNDS},
    )


def _cryptography(algorithm: str) -> Callable[[], None]:
    """A function that does the cryptography of one handshake, and nothing else."""
    group, cipher, hash_algorithm = (
        DHE.by_name(GROUP),
        AEAD.by_name(CIPHER),
        BASE_HASH.by_name(_HASH),
    )
    verify = verifier(algorithm)
    theirs = group.generate().exchange_data
    secret = os.urandom(hash_algorithm.size)
    info = os.urandom(40)
    transcript = os.urandom(_TRANSCRIPT)
    key, nonce, header = os.urandom(cipher.key_size), bytes(cipher.iv_size), bytes(6)
    finish = os.urandom(4 + hash_algorithm.size)

    def work() -> None:
        group.generate().shared_secret(theirs)
        verify()
        running = hash_algorithm.new()
        running.update(transcript)
        for _ in range(_DIGESTS):
            running.digest()
        for _ in range(_HMACS):
            hash_algorithm.hmac(secret, info)
        ciphers = [cipher.new(key) for _ in range(_KEYS)]
        ciphers[0].open(nonce, ciphers[1].seal(nonce, finish, header), header)

    return work

"""Cases by chance: combinations that nobody thought of. A seed makes them again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from emulator.case import Case, Ours
from emulator.matrix import (
    AEADS,
    ATTEST,
    GROUPS,
    HASHES,
    ML_DSA,
    ML_KEM,
    MUTUAL,
    NO_MUTUAL,
    OPEN,
    SESSION_VERSIONS,
    SHORT_SESSION,
    SIGNATURES,
)
from emulator.matrix_responder import ONLY_KEY_EXCHANGE
from emulator.suite import Suite
from spdmkit.messages import V12, V13, V14, RequesterFlags, ResponderFlags
from spdmkit.protocol.session import MutualAuth

__all__ = ["random_cases"]

_TRANSPORTS = ("mctp", "tcp", "doe")
_SIZES = (None, None, 0x80, 0x100, 0x300, 0x1000)
_CLEAR = int(RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP)
_SEVERAL = int(ResponderFlags.MULTI_KEY_CAP_NEG | ResponderFlags.GET_KEY_PAIR_INFO_CAP)
_EVERYTHING = (*OPEN, "in-session", "update-all", "log-in-session", "end", "challenge")


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """So many cases; the same seed gives the same."""
    chance = random.Random(seed)  # noqa: S311  # nothing secret comes of it
    for number in range(count):
        version = chance.choice(SESSION_VERSIONS)
        shared: dict[str, Any] = {
            "transport": chance.choice(_TRANSPORTS),
            "version": version,
            "suite": _suite(chance, version),
        }
        size = chance.choice(_SIZES) if version >= V12 else None
        settings: dict[str, Any] = {}
        if size:
            settings = {"data_transfer_size": size, "transmit_size": size}
        several = version >= V13 and chance.random() < 0.4
        if several:
            settings["multi_key"] = True
        make = chance.choice((_requester, _responder))
        name = f"{seed}.{number}"
        yield make(chance, name, settings, several=several, **shared)


def _suite(chance: random.Random, version: int) -> Suite:
    signatures = [name for name in SIGNATURES if version >= V12 or not name.startswith("EDDSA")]
    post_quantum = list(ML_DSA) if version >= V14 else []
    return Suite(
        hash=chance.choice(HASHES),
        asym=chance.choice([*signatures, *post_quantum]),
        req_asym=chance.choice([*signatures, *post_quantum]),
        exchange=chance.choice([*GROUPS, *(ML_KEM if version >= V14 else ())]),
        aead=chance.choice(AEADS),
        meas_hash=chance.choice(HASHES),
    )


def _requester(
    chance: random.Random, name: str, settings: dict[str, Any], *, several: bool, **shared: Any
) -> Case:
    mutual = chance.choice((MutualAuth.NONE, *MUTUAL))
    if mutual is MutualAuth.WITHOUT_ENCAPSULATION and shared["suite"].req_asym in ML_DSA:
        mutual = MutualAuth.ENCAPSULATED  # the emulator refuses its own requester in this
    steps = (*ATTEST, *SHORT_SESSION[2:])
    if shared["version"] >= V13:
        steps = chance.choice((steps, _EVERYTHING))
    return Case(
        group="chance",
        what=name,
        ours=Ours.REQUESTER,
        steps=steps,
        settings=settings,
        capabilities=chance.choice((0, _CLEAR)),
        mutual=mutual,
        slot=chance.choice((0, 1, 4) if several else (0, 1)),
        emulator=("--mut_auth", MUTUAL[mutual], *NO_MUTUAL[2:]) if mutual else NO_MUTUAL,
        **shared,
    )


def _responder(
    chance: random.Random, name: str, settings: dict[str, Any], *, several: bool, **shared: Any
) -> Case:
    options = {
        "--exe_session": f"{ONLY_KEY_EXCHANGE}{chance.choice(('', ',PSK'))}",
        "--meas_op": chance.choice(("ALL", "ONE_BY_ONE")),
        "--meas_sum": chance.choice(("NO", "TCB", "ALL")),
        "--meas_att": chance.choice(("HASH", "RAW")),
        "--key_upd": chance.choice(("REQ", "ALL", "RSP")),
    }
    flags = chance.choice((0, _CLEAR)) | (_SEVERAL if several else 0)
    mutual = chance.choice((MutualAuth.NONE, MutualAuth.ENCAPSULATED, MutualAuth.GET_DIGESTS))
    if shared["transport"] == "doe" and settings:
        # It hashes the padding too that DOE puts behind a request in CHUNK_SEND_ACK.
        mutual = MutualAuth.NONE
    return Case(
        group="chance",
        what=name,
        ours=Ours.RESPONDER,
        steps=("session:END_SESSION",),
        settings=settings,
        capabilities=flags,
        mutual=mutual,
        slots=(0, 1, 4) if several else (0, 1),
        emulator=tuple(word for pair in options.items() for word in pair),
        **shared,
    )

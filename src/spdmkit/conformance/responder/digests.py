"""GET_DIGESTS and DIGESTS (DSP0274 10.8)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Scene, answering, cutting, flipping, putting
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V13,
    Digests,
    ErrorCode,
    GetDigests,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.requester.certificates import get_certificate

CASES = Cases("digests", "DSP0274 10.8")
R = RequestCode
E = ErrorCode
CERT = ResponderFlags.CERT_CAP
DIGESTS = ResponseCode.DIGESTS


@CASES.case(
    "layout",
    "DIGESTS has a digest for each provisioned slot and nothing more",
    needs=CERT,
    breaks=answering(DIGESTS, cutting(1)),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GetDigests(), Digests)
    slots = message.provisioned_slot_mask.bit_count()
    talk.equal(len(message.digests), slots, "the number of digests")
    talk.check(slots > 0, "at least one slot is provisioned")


CASES.ends(Digests, lambda _talk: GetDigests(), needs=CERT)


@CASES.case(
    "version",
    "DIGESTS has the negotiated version",
    needs=CERT,
    breaks=answering(DIGESTS, putting(0, 0x1F)),
)
def version(talk: Talk) -> Exchange[None]:
    yield from talk.expect(GetDigests(), Digests)


@CASES.case(
    "supported-slots",
    "every provisioned slot is a supported one",
    needs=CERT,
    since=V13,
    breaks=answering(DIGESTS, putting(2, 0x80)),
)
def supported_slots(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GetDigests(), Digests)
    beyond = message.provisioned_slot_mask & ~message.supported_slot_mask
    talk.equal(beyond, 0, "slots that are provisioned and not supported")


@CASES.case(
    "default-slot",
    "slot 0 is provisioned",
    clause="DSP0274 10.7",
    needs=CERT,
    breaks=answering(DIGESTS, putting(3, 0x02)),
)
def default_slot(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GetDigests(), Digests)
    talk.check(bool(message.provisioned_slot_mask & 1), "slot 0 is provisioned")


@CASES.case(
    "digest",
    "each digest is the hash of the slot's chain",
    needs=CERT,
    breaks=answering(DIGESTS, flipping(4)),
)
def digest(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(GetDigests(), Digests)
    for slot_id, found in message.by_slot().items():
        if not any(found):
            continue  # a key without a chain (1.3)
        chain = yield from get_certificate(talk.outside, slot_id)
        wanted = talk.outside.peer_hash.digest(chain.raw)
        talk.equal(found, wanted, f"the digest of slot {slot_id}")


@CASES.case(
    "again",
    "DIGESTS does not change from one request to the next",
    needs=CERT,
    breaks=answering(DIGESTS, lambda sent, _r, scene: _changing(sent, scene)),
)
def again(talk: Talk) -> Exchange[None]:
    first = yield from talk.ask(GetDigests())
    second = yield from talk.ask(GetDigests())
    talk.equal(second, first, "DIGESTS when it is asked for again")


def _changing(sent: bytearray, scene: Scene) -> bytearray:
    sent[-1] ^= scene.count & 0xFF
    return sent


def _mended(raw: bytearray, scene: Scene) -> bytes | bytearray:
    if raw[1] != R.GET_DIGESTS:
        return raw
    return bytes((scene.connection.version, R.GET_DIGESTS, 0, 0))


for _value in (0x00, 0x20):
    CASES.refuses(
        f"version-byte-{_value:02x}",
        f"GET_DIGESTS with version byte {_value:#04x} is refused",
        lambda _talk, value=_value: bytes((value, R.GET_DIGESTS, 0, 0)),  # type: ignore[misc] # default argument binds the loop variable
        E.VERSION_MISMATCH,
        needs=CERT,
        mend=_mended,
    )
CASES.refuses(
    "older-version",
    "GET_DIGESTS in another version than the negotiated one is refused",
    lambda talk: bytes((0x10 if talk.version != 0x10 else 0x11, R.GET_DIGESTS, 0, 0)),
    E.VERSION_MISMATCH,
    needs=CERT,
    mend=_mended,
)

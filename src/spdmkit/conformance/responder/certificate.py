"""GET_CERTIFICATE and CERTIFICATE (DSP0274 10.9)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Bend, Scene, answering, cutting, putting
from spdmkit.conformance.talk import Talk
from spdmkit.errors import DecodeError, SpdmError
from spdmkit.identity import CertificateChain
from spdmkit.messages import (
    V13,
    V14,
    Certificate,
    ErrorCode,
    GetCertificate,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("certificate", "DSP0274 10.9")
R = RequestCode
E = ErrorCode
CERT = ResponderFlags.CERT_CAP
CERTIFICATE = ResponseCode.CERTIFICATE
PORTION_OFFSET, CHAIN_OFFSET = 4, 8
WHOLE = 0xFFFF


def _portion(talk: Talk, offset: int, length: int) -> Exchange[Certificate]:
    request = GetCertificate(slot_id=0, offset=offset, length=length)
    return (yield from talk.expect(request, Certificate))


def _chain(talk: Talk, size: int = 512) -> Exchange[bytes]:
    """The whole chain of slot 0, in portions."""
    data = b""
    while True:
        message = yield from _portion(talk, len(data), size)
        talk.need(bool(message.cert_chain), "a portion of the chain is not empty")
        data += message.cert_chain
        if not message.remainder_length:
            return data


def _in(offset: int, change: Bend) -> Bend:
    """Change a CERTIFICATE only when it carries the chain from an offset on."""

    def bend(sent: bytearray, request: bytes, scene: Scene) -> bytes | bytearray:
        asked = int.from_bytes(request[4:6], "little")
        return change(sent, request, scene) if asked == offset else sent

    return bend


@CASES.case(
    "layout",
    "CERTIFICATE is well formed, and for the slot asked for",
    needs=CERT,
    breaks=answering(CERTIFICATE, putting(2, 3)),
)
def layout(talk: Talk) -> Exchange[None]:
    message = yield from _portion(talk, 0, 64)
    talk.equal(message.slot_id, 0, "SlotID")
    talk.check(len(message.cert_chain) <= 64, "no more than what was asked for is sent")


CASES.ends(Certificate, lambda _talk: GetCertificate(slot_id=0, offset=0, length=64), needs=CERT)


@CASES.case(
    "portion-length",
    "PortionLength is the length of the portion",
    needs=CERT,
    breaks=answering(CERTIFICATE, cutting(3)),
)
def portion_length(talk: Talk) -> Exchange[None]:
    yield from _portion(talk, 0, 64)


@CASES.case(
    "remainder",
    "RemainderLength counts down to zero at the end of the chain",
    needs=CERT,
    breaks=answering(CERTIFICATE, _in(100, putting(6, 1, 0))),
)
def remainder(talk: Talk) -> Exchange[None]:
    first = yield from _portion(talk, 0, 100)
    total = len(first.cert_chain) + first.remainder_length
    at = len(first.cert_chain)
    second = yield from _portion(talk, at, 100)
    left = total - at - len(second.cert_chain)
    talk.equal(second.remainder_length, left, "RemainderLength of the second portion")
    last = yield from _portion(talk, total - 1, 100)
    talk.equal(len(last.cert_chain), 1, "the length of the last portion")
    talk.equal(last.remainder_length, 0, "RemainderLength at the end")


@CASES.case(
    "portions",
    "portions of any size make the same chain",
    needs=CERT,
    breaks=answering(CERTIFICATE, _in(101, putting(CHAIN_OFFSET, 0))),
)
def portions(talk: Talk) -> Exchange[None]:
    whole = yield from _chain(talk, 1024)
    pieces = yield from _chain(talk, 101)
    talk.equal(pieces, whole, "the chain in portions of 101 bytes")


@CASES.case(
    "structure",
    "the chain has its length, the hash of its root, and certificates",
    clause="DSP0274 10.7, table 35",
    needs=CERT,
    breaks=answering(CERTIFICATE, _in(0, putting(CHAIN_OFFSET + 4, 0))),
)
def structure(talk: Talk) -> Exchange[None]:
    data = yield from _chain(talk)
    algorithm = talk.outside.peer_hash
    length = int.from_bytes(data[:4], "little")
    talk.equal(length, len(data), "Length of the chain structure")
    try:
        chain = CertificateChain.parse(data, algorithm, False)
    except DecodeError as error:
        talk.need(False, f"the chain structure is well formed: {error}")
        return
    first = chain.certificates[0]
    own_root = chain.root_hash == algorithm.digest(first)
    talk.check(own_root or len(chain.certificates) > 1, "RootHash is that of a root of the chain")
    try:
        talk.verified(chain)
        holds, why = own_root, "" if own_root else ": RootHash names another root"
    except SpdmError as error:
        holds, why = False, f": {error}"
    talk.check(holds, f"each certificate is signed by the one above it{why}")


@CASES.case(
    "slot-size",
    "SlotSizeRequested gets the room of the slot and no chain",
    needs=CERT,
    since=V13,
    breaks=answering(CERTIFICATE, lambda sent, r, _c: sent if not r[3] & 1 else _no_room(sent)),
)
def slot_size(talk: Talk) -> Exchange[None]:
    request = GetCertificate(slot_id=0, slot_size_requested=True)
    message = yield from talk.expect(request, Certificate)
    talk.equal(len(message.cert_chain), 0, "the length of the chain")
    chain = yield from _chain(talk)
    talk.check(message.remainder_length >= len(chain), "the slot has room for its own chain")


def _no_room(sent: bytearray) -> bytearray:
    sent[6:8] = b"\x01\x00"
    return sent


@CASES.case(
    "length-zero",
    "a Length of zero gets no chain and the chain's size",
    needs=CERT,
    since=V13,
    breaks=answering(
        CERTIFICATE,
        lambda sent, r, _c: sent if any(r[6:8]) else sent[:6] + b"\x01\x00" + sent[8:],
    ),
)
def length_zero(talk: Talk) -> Exchange[None]:
    message = yield from _portion(talk, 0, 0)
    talk.equal(len(message.cert_chain), 0, "the length of the portion")
    chain = yield from _chain(talk)
    talk.equal(message.remainder_length, len(chain), "RemainderLength")


@CASES.case(
    "large-form",
    "the large form gets the same chain",
    needs=CERT | ResponderFlags.LARGE_RESP_CAP,
    since=V14,
    breaks=answering(
        CERTIFICATE, lambda sent, r, _c: sent if not r[2] & 0x80 else sent[:-1] + b"!"
    ),
)
def large_form(talk: Talk) -> Exchange[None]:
    request = GetCertificate(slot_id=0, large=True, offset=0, length=256)
    message = yield from talk.expect(request, Certificate)
    chain = yield from _chain(talk)
    got = message.cert_chain
    talk.equal(got, chain[: len(got)], "the beginning of the chain")
    talk.check(message.large, "the answer is of the large form")


def _mended(raw: bytearray, scene: Scene) -> bytes | bytearray:
    if raw[1] != R.GET_CERTIFICATE:
        return raw
    return bytes((scene.connection.version, R.GET_CERTIFICATE, 0, 0, 0, 0, 64, 0))


def _request(talk: Talk, slot: int = 0, offset: int = 0, length: int = 64) -> bytes:
    sizes = offset.to_bytes(2, "little") + length.to_bytes(2, "little")
    return talk.header(R.GET_CERTIFICATE, slot) + sizes


for _slot in (8, 9, 15):
    CASES.refuses(
        f"slot-{_slot}",
        f"slot {_slot} does not exist",
        lambda talk, slot=_slot: _request(talk, slot),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        E.UNSPECIFIED,
        needs=CERT,
        mend=_mended,
    )
CASES.refuses(
    "offset-beyond",
    "an offset beyond the chain is refused",
    lambda talk: _request(talk, offset=0xFFF0),
    E.INVALID_REQUEST,
    E.UNSPECIFIED,
    needs=CERT,
    mend=_mended,
)
for _cut in (1, 2, 4):
    CASES.refuses(
        f"cut-{_cut}",
        f"GET_CERTIFICATE without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: _request(talk)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        needs=CERT,
        mend=_mended,
    )

"""What is fuzzed: every reader of bytes from a stranger, and whole connections of both roles.

A target takes bytes. What it may raise is `SpdmError`: an error that somebody can act on. Whatever
else comes out is a defect. Some targets check more: that what was read can be written again, that
a responder answers each request once, that a session whose record was altered is over.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.measurement_log import read_log
from spdmkit.attestation.policy_file import read_policy
from spdmkit.attestation.reference.loader import read_references
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.capture.keylog import parse_line
from spdmkit.capture.sources import read_recording
from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.device.configuration_file import read_configuration
from spdmkit.errors import DecodeError, SpdmError
from spdmkit.identity import (
    CertificateChain,
    CertificateModel,
    Profile,
    Purpose,
    RequesterInfo,
    TimePolicy,
    TrustAnchors,
    build_csr,
    load_certificates,
    verify_chain,
    verify_csr,
)
from spdmkit.messages import V10, V11, V12, V13, V14, Context, message_type, parse_message
from spdmkit.messages.base import message_tree
from spdmkit.messages.opaque import parse_opaque
from spdmkit.protocol.connection import Role
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.measurements import get_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, psk_exchange
from spdmkit.provisioning.profile import read_ca_configuration
from spdmkit.proxy.configuration import parse_configuration
from spdmkit.transports.framing import Framing, Side
from spdmkit.transports.mctp.packets import Packet, Reassembler
from spdmkit.transports.mctp.serial import SerialDecoder
from spdmkit.transports.tcp import TcpBinding
from spdmkit.transports.uri import parse_uri
from spdmkit.wire.errors import EncodeError
from tests.protocol.support import PSK, PSK_HINT, Pair

__all__ = ["TARGETS", "Target"]

DATA = Path(__file__).parent.parent / "data"
VERSIONS = (V10, V11, V12, V13, V14)
SIZES = Context(
    version=V12,
    hash_size=48,
    signature_size=96,
    req_signature_size=96,
    exchange_request_size=96,
    exchange_response_size=96,
)


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        run: reads bytes.
        seeds: what to begin with.
        allowed: what it may raise.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    allowed: tuple[type[BaseException], ...] = (SpdmError,)


# --- seeds ---------------------------------------------------------------------------------------


@functools.cache
def recorded() -> tuple[tuple[int, bytes], ...]:
    """SPDM messages of the recorded conversations, with the version they were said in."""
    found: dict[bytes, int] = {}
    for path in sorted((DATA / "vectors").glob("*.json")):
        document = json.loads(path.read_text())
        if document["transport"] != "tcp":
            continue
        for each in document["messages"]:
            frame = bytes.fromhex(each["frame"])
            if frame[3:4] == b"\x05" and len(frame) >= 8:
                found.setdefault(frame[4:], frame[4])
    return tuple((version, message) for message, version in found.items())


def messages() -> list[bytes]:
    return [message for _, message in recorded() if len(message) < 4096][:300]


def files(*patterns: str) -> Callable[[], list[bytes]]:
    return lambda: [p.read_bytes() for pattern in patterns for p in sorted(DATA.glob(pattern))]


def texts(*values: str) -> Callable[[], list[bytes]]:
    return lambda: [value.encode() for value in values]


def chains() -> list[bytes]:
    pems = (DATA / "nvidia-h100" / "certificate_chain.pem").read_bytes()
    certificates = [each.der for each in load_certificates(pems)]
    algorithm = BASE_HASH.by_name("sha-384")
    return [CertificateChain.from_certificates(reversed(certificates), algorithm).encode()]


# --- readers -------------------------------------------------------------------------------------


def any_message(data: bytes) -> None:
    """Decode in the version that the bytes say; the tree agrees, and it can be written again."""
    if len(data) < 4:
        return
    context = Context(**{**{n: getattr(SIZES, n) for n in SIZES.__slots__}, "version": data[0]})
    try:
        message, size = parse_message(data, context)
    except DecodeError:
        with contextlib.suppress(DecodeError):
            message_tree(data, context)
        return
    assert 4 <= size <= len(data)
    message_tree(data, context)
    with contextlib.suppress(EncodeError):  # what was ignored on reading may not be written
        again = message.encode(context)
        assert message_type(again) is type(message)


def chain(data: bytes) -> None:
    found = CertificateChain.parse(data, BASE_HASH.by_name("sha-384"), True)
    anchors = TrustAnchors(found.certificates[:1], Purpose.DEVICE)
    verify_chain(found, anchors, purpose=Purpose.DEVICE, time=TimePolicy.ignoring_validity())


def framing(make: Callable[[], Framing]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        made = make()
        step = (data[0] % 7 + 1) if data else 1
        for at in range(0, len(data), step):
            made.receive(data[at : at + step])
            for _ in range(1000):
                event = made.next_event()
                if event is None:
                    break
            else:
                raise AssertionError("a framing that never ends")

    return run


def mctp(data: bytes) -> None:
    assembly = Reassembler()
    for packet in SerialDecoder().feed(data):
        with contextlib.suppress(SpdmError):
            assembly.add(Packet.decode(packet), 0.0)
    with contextlib.suppress(SpdmError):
        assembly.add(Packet.decode(data), 1.0)
    assert assembly.pending <= 1 << 22


def recording(data: bytes) -> None:
    found = read_recording(io.BytesIO(data))
    for _ in zip(found.events, range(1000), strict=False):
        pass


# --- whole connections ---------------------------------------------------------------------------


def cut(data: bytes) -> list[bytes]:
    """Messages in a row, each after its length in two bytes."""
    found: list[bytes] = []
    at = 0
    while at + 2 <= len(data) and len(found) < 40:
        size = int.from_bytes(data[at : at + 2], "little") % 2048
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found


def joined(parts: list[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(2, "little") + part for part in parts)


def conversations() -> list[bytes]:
    """Requests of sane conversations, one version each, and one of everything."""
    found = []
    for version in VERSIONS:
        pair = Pair(versions=(version,))
        pair.run(negotiate(pair.link))
        pair.run(get_digests(pair.link))
        pair.run(get_certificate(pair.link, 0))
        pair.run(get_measurements(pair.link))
        found.append(joined([f.body for who, f in pair.wire if who == "requester"]))
    found.append(joined([m for m in messages() if m[1] & 0x80][:40]))
    return found


def responder(data: bytes) -> None:
    """Every request gets one answer, whatever it is; nothing ever comes out but SPDM messages."""
    pair = Pair(versions=VERSIONS)
    for request in cut(data):
        pair.responder.receive(Frame(FrameKind.MESSAGE, request), pair.clock.now)
        for _ in range(100):
            jobs = pair.responder.work()
            if not jobs:
                break
            for job in jobs:
                try:
                    outcome: object = job.call()
                except Exception as error:
                    outcome = error
                pair.responder.complete(job.token, outcome, pair.clock.now)
        answers = pair.responder.outgoing()
        assert len(answers) == 1, "one request, one answer"
        assert answers[0].kind is FrameKind.MESSAGE
        assert len(answers[0].body) >= 4


def inside(data: bytes) -> None:
    """The same in a session: it survives, or it is over and says so in the clear."""
    pair = Pair(versions=(V13,))
    pair.run(negotiate(pair.link))
    link = pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK))).link
    for request in cut(data):
        session = link.session
        if session is None or not session.established:
            return
        with contextlib.suppress(SpdmError):
            pair.run(link.ask_raw(request))


def requester(data: bytes) -> None:
    """A requester whose peer says something else than it should: an error, and nothing worse."""
    pair = Pair(versions=(V13, V12))
    parts = cut(data)

    def bend(who: str, frame: Frame) -> Frame:
        if who == "requester" or not parts:
            return frame
        part = parts.pop(0)
        return Frame(frame.kind, part) if part else frame

    pair.bend = bend
    pair.run(negotiate(pair.link))
    pair.run(get_digests(pair.link))
    pair.run(get_certificate(pair.link, 0))
    pair.run(get_measurements(pair.link))


def answers() -> list[bytes]:
    found = []
    for version in (V12, V13):
        pair = Pair(versions=(version,))
        pair.run(negotiate(pair.link))
        pair.run(get_digests(pair.link))
        found.append(joined([f.body for who, f in pair.wire if who == "responder"]))
    return found


@functools.cache
def _key() -> PrivateKey:
    return PrivateKey.from_seed("ecdsa-p256", b"fuzz")


@functools.cache
def _csr() -> bytes:
    return build_csr(_key(), subject="CN=x", profile=Profile.leaf(CertificateModel.DEVICE, "a:b:c"))


TARGETS: dict[str, Target] = {
    "messages": Target(any_message, messages),
    "opaque": Target(
        lambda data: parse_opaque(data, SIZES),
        lambda: [bytes.fromhex("01000000000005000101010011000000"), bytes(4)],
    ),
    "chain": Target(chain, chains),
    "certificates": Target(load_certificates, files("nvidia-h100/*.pem")),
    "csr": Target(verify_csr, lambda: [_csr()]),
    "requester-info": Target(RequesterInfo.parse, lambda: [_csr()]),
    "public-key": Target(PublicKey.load, lambda: [_key().public_key.spki()]),
    "private-key": Target(PrivateKey.load, lambda: [_key().to_pem(), _key().to_pkcs8()]),
    "evidence-cbor": Target(Evidence.from_cbor, lambda: [b"\xa1\x01\x02"]),
    "evidence-json": Target(Evidence.from_json, texts('{"format": 1, "exchanges": []}')),
    "reference": Target(
        lambda data: read_references(data, SignerCheck(None, 0)),
        lambda: [
            *files("nvidia-h100/*.swidtag")(),
            b'{"spdm_reference": 1, "id": "x", "measurements": []}',
        ],
    ),
    "policy": Target(
        read_policy,
        texts("name = 'x'\n[identity]\nexpected = ['a:b:c']\n[[component]]\nindex = 1\n"),
    ),
    "device-toml": Target(
        read_configuration, texts('[device]\nname = "a:b:c"\nversions = ["1.2"]')
    ),
    "ca-toml": Target(
        lambda data: read_ca_configuration(data, "ca.toml"),
        texts('[[profile]]\nname = "x"\nidentities = ["*"]\n'),
    ),
    "proxy-toml": Target(
        lambda data: parse_configuration(data, "proxy.toml"),
        texts('[[device]]\nlisten = "tcp://:4194"\nto = "emu+mctp://h"\n'),
    ),
    "log": Target(read_log, lambda: [bytes(16)]),
    "key-log": Target(
        lambda data: parse_line(data.decode("utf-8", "replace")),
        texts("SPDM_REQUEST_HANDSHAKE_SECRET " + "00" * 32 + " " + "00" * 32 + " " + "00" * 48),
    ),
    "recording": Target(
        recording,
        lambda: [data[:20_000] for data in files("captures/*.pcap")()] + [b"10840000\n"],
    ),
    "uri": Target(
        lambda data: parse_uri(data.decode("utf-8", "replace")),
        texts("tcp://[::1]:4194?dialect=strict", "mctp://1/8", "mctp+serial:///dev/ttyS0?eid=8"),
    ),
    "tcp-listener": Target(
        framing(lambda: TcpBinding(Side.LISTENER, {Role.REQUESTER, Role.RESPONDER})),
        lambda: [b"\x04\x00\x01\x05\x10\x84\x00\x00" * 3, b"\x00\x00\x01\xbf"],
    ),
    "tcp-initiator": Target(
        framing(lambda: TcpBinding(Side.INITIATOR, {Role.REQUESTER})),
        lambda: [b"\x08\x00\x01\x05\x10\x04\x00\x00\x00\x01\x00\x12", b"\x00\x00\x01\xc1"],
    ),
    "mctp": Target(
        mctp, lambda: [bytes.fromhex("7e0108010009c80510840000ffff7e"), b"\x01\x08\x09\xc8\x05"]
    ),
    "responder": Target(responder, conversations, ()),
    "session": Target(inside, conversations, ()),
    "requester": Target(requester, answers),
}

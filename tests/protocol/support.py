"""Two endpoints and no socket: a device in memory, and a pair that carries frames between them."""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import HashAlgorithm, SignatureAlgorithm
from spdmkit.crypto.signing import LocalSigner
from spdmkit.errors import AuthenticationError, PeerError, SpdmError, TransportError
from spdmkit.identity import (
    CertificateChain,
    Profile,
    Purpose,
    TrustAnchors,
    VerifiedChain,
    build_csr,
    verify_chain,
)
from spdmkit.messages import ErrorCode, MeasurementKind, Message, ResponderFlags
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.connection import Connection, Role
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.endpoint import RequesterEndpoint
from spdmkit.protocol.events import ProtocolEvent
from spdmkit.protocol.frames import Frame
from spdmkit.protocol.link import Link
from spdmkit.protocol.notifier import EventsSince, Occurrence, SupportedEvents, dmtf_events
from spdmkit.protocol.proofs import ProvenKey
from spdmkit.protocol.records import TCP_STRICT, RecordProfile
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import PreSharedKey, psk_exchange
from spdmkit.protocol.responder.device import (
    Bank,
    CsrRequest,
    KeyPair,
    Measurement,
    Peer,
    SetCertificateRequest,
    VendorMessage,
)
from spdmkit.protocol.responder.endpoint import ResponderEndpoint
from spdmkit.protocol.settings import ALL_VERSIONS, Settings

from .pki import make_chain

T = TypeVar("T")
M = TypeVar("M", bound=Message)
F = ResponderFlags
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

EVERYTHING = (
    F.CERT_CAP
    | F.CHAL_CAP
    | F.MEAS_CAP_SIG
    | F.MEAS_FRESH_CAP
    | F.ENCRYPT_CAP
    | F.MAC_CAP
    | F.MUT_AUTH_CAP
    | F.KEY_EX_CAP
    | F.PSK_CAP_CONTEXT
    | F.ENCAP_CAP
    | F.HBEAT_CAP
    | F.KEY_UPD_CAP
    | F.CHUNK_CAP
    | F.SET_CERT_CAP
    | F.CSR_CAP
    | F.EP_INFO_CAP_SIG
    | F.MEL_CAP
    | F.LARGE_RESP_CAP
)
PSK_HINT, PSK = b"hint", bytes(range(32))


@functools.cache
def chain(
    algorithm: str, seed: bytes = b"device", *, requester: bool = False
) -> tuple[PrivateKey, tuple[bytes, ...]]:
    """A leaf key and its chain, root first; the same object for all tests."""
    return make_chain(algorithm, seed, requester=requester)


class MemoryDevice:
    """A device of a test: everything in attributes that a test may change."""

    def __init__(self, algorithm: str = "ecdsa-p384", slots: Sequence[int] = (0,)) -> None:
        self.key, self.certificates = chain(algorithm)
        self.credentials = Credentials(
            [Slot(slot, self.certificates, LocalSigner(self.key)) for slot in slots],
            supported=range(8),
        )
        self.values: list[Measurement] = [
            Measurement(1, MeasurementKind.IMMUTABLE_ROM, raw=b"rom", tcb=True),
            Measurement(2, MeasurementKind.MUTABLE_FIRMWARE, raw=b"firmware"),
            Measurement(0x10, MeasurementKind.MUTABLE_FIRMWARE_SVN, raw=bytes(7) + b"\x01"),
        ]
        self.psks = {PSK_HINT: PSK}
        self.requester_anchors: TrustAnchors | None = None
        self.received: list[tuple[bytes, Peer]] = []
        self.known: dict[int, ProvenKey] = {}
        self.csr_requests: list[CsrRequest] = []
        self.stored: list[SetCertificateRequest] = []
        self.provisioning_error: SpdmError | None = None
        self.endpoint_infos = {1: b"\x01\x00\x00\x00\x03\x00\x00\x00"}
        self.operations = frozenset({4, 0x20, 0x21, 0x22})
        self.banks: list[Bank] = []
        self.configured: list[tuple[int, int, int]] = []
        self.events: list[SupportedEvents] = [dmtf_events([2, 4])]
        self.happened: list[Occurrence] = []
        self.events_lost = False
        self.pairs: list[KeyPair] = []
        self.pair_changes: list[tuple[int, ...]] = []

    def measurements(self, *, fresh: bool) -> Sequence[Measurement]:
        return self.values

    def measurement_log(self, algorithm: HashAlgorithm) -> bytes:
        return bytes(16)

    def pre_shared_key(self, hint: bytes) -> bytes | None:
        return self.psks.get(hint)

    def verify_requester(
        self, chain: CertificateChain, algorithm: SignatureAlgorithm
    ) -> VerifiedChain:
        if self.requester_anchors is None:
            raise AuthenticationError("mutual", "no requester roots")
        return verify_chain(
            chain,
            self.requester_anchors,
            purpose=Purpose.REQUESTER,
            time=NOW,
            algorithm=algorithm,
        )

    def known_requester(self, slot_id: int, algorithm: HashAlgorithm) -> ProvenKey | None:
        return self.known.get(slot_id)

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        self.csr_requests.append(request)
        if self.provisioning_error is not None:
            raise self.provisioning_error
        profile = Profile.leaf(request.model, "ACME:Widget:0001", requester=True)
        return build_csr(self.key, subject="CN=Test Device", profile=profile)

    def set_certificate(self, request: SetCertificateRequest) -> None:
        self.stored.append(request)
        if self.provisioning_error is not None:
            raise self.provisioning_error
        slots = dict(self.credentials.slots)
        slots.pop(request.slot_id, None)
        if not request.erase:
            signer = LocalSigner(self.key)
            slots[request.slot_id] = Slot(request.slot_id, request.certificates, signer)
        self.credentials = Credentials(slots.values(), supported=range(8))

    def key_pairs(self) -> Sequence[KeyPair]:
        return self.pairs

    def set_key_pair(
        self,
        key_pair_id: int,
        operation: int,
        usage: int,
        asym: int,
        pqc: int,
        slot_mask: int,
        peer: Peer,
    ) -> None:
        if self.provisioning_error is not None:
            raise self.provisioning_error
        self.pair_changes.append((key_pair_id, operation, usage, asym, pqc, slot_mask))

    def slot_operations(self) -> frozenset[int]:
        return self.operations

    def slot_banks(self, peer: Peer) -> Sequence[Bank]:
        return self.banks

    def configure_bank(self, bank_id: int, asym: int, pqc: int, peer: Peer) -> None:
        if self.provisioning_error is not None:
            raise self.provisioning_error
        self.configured.append((bank_id, asym, pqc))

    def endpoint_info(self, sub_code: int) -> bytes | None:
        return self.endpoint_infos.get(sub_code)

    def supported_events(self, version: int) -> Sequence[SupportedEvents]:
        return self.events

    def event_place(self) -> int:
        return len(self.happened)

    def events_since(self, place: int) -> EventsSince:
        return EventsSince(len(self.happened), self.happened[place:], lost=self.events_lost)

    def vendor_defined(self, message: VendorMessage, peer: Peer) -> VendorMessage | None:
        return message if message.standard_id == 4 else None

    def application_data(self, data: bytes, peer: Peer) -> bytes | None:
        self.received.append((data, peer))
        return data


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A requester and a responder with a wire between them that a test may tap or bend.

    Attributes:
        wire: every frame that passed, with who sent it.
        bend: called with (sender, frame); what it returns is delivered, None withholds it.
    """

    def __init__(
        self,
        device: MemoryDevice | None = None,
        *,
        versions: tuple[int, ...] = ALL_VERSIONS,
        requester: dict[str, Any] | None = None,
        responder: dict[str, Any] | None = None,
        profile: RecordProfile = TCP_STRICT,
        credentials: Credentials | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.clock = Clock()
        self.device = device or MemoryDevice()
        self.events: list[tuple[str, ProtocolEvent]] = []
        req: dict[str, Any] = {
            "versions": versions,
            "capabilities": requester_capabilities(
                sessions=True, psk=True, mutual=credentials is not None
            ),
            "keep_messages": True,
        }
        rsp: dict[str, Any] = {"versions": versions, "capabilities": EVERYTHING}
        req.update(requester or {})
        rsp.update(responder or {})
        responds = Settings(**rsp) if settings is None else replace(settings, versions=versions)
        self.requester = RequesterEndpoint(
            self._connection(Role.REQUESTER, Settings(**req), profile, credentials)
        )
        self.responder = ResponderEndpoint(
            self._connection(Role.RESPONDER, responds, profile), self.device
        )
        self.link = Link(self.requester.connection)
        self.wire: list[tuple[str, Frame]] = []
        self.proven: Any = None
        self.bend: Callable[[str, Frame], Frame | None] = lambda _who, frame: frame

    def _connection(
        self,
        role: Role,
        settings: Settings,
        profile: RecordProfile,
        credentials: Credentials | None = None,
    ) -> Connection:
        return Connection(
            role,
            settings,
            clock=self.clock,
            random=os.urandom,
            events=lambda event: self.events.append((role.value, event)),
            record_profile=profile,
            credentials=credentials,
        )

    def run(self, exchange: Exchange[T]) -> T:
        """Drive an exchange to its end; time passes whenever nothing else happens."""
        ticket = self.requester.submit(exchange)
        for _ in range(100_000):
            if ticket.done:
                return ticket.result()
            if not self.step():
                deadline = self.requester.next_deadline()
                other = self.responder.next_deadline()
                times = [time for time in (deadline, other) if time is not None]
                if not times:
                    raise TransportError("nothing happens any more")
                self.clock.now = max(self.clock.now, min(times))
                self.requester.on_time(self.clock.now)
                self.responder.on_time(self.clock.now)
        raise TransportError("the exchange does not end")

    def step(self) -> bool:
        """Carry what is outgoing and do the work that is asked for; False when idle."""
        busy = False
        for who, endpoint, other in (
            ("requester", self.requester, self.responder),
            ("responder", self.responder, self.requester),
        ):
            for job in endpoint.work():
                busy = True
                try:
                    outcome: Any = job.call()
                except Exception as error:
                    outcome = error
                endpoint.complete(job.token, outcome, self.clock.now)
            for frame in endpoint.outgoing():
                busy = True
                self.wire.append((who, frame))
                bent = self.bend(who, frame)
                if bent is not None:
                    other.receive(bent, self.clock.now)
        return busy

    def raw(self, message: bytes) -> bytes:
        """Put one clear message on the wire by hand and return the responder's answer."""
        from spdmkit.protocol.frames import FrameKind

        self.responder.receive(Frame(FrameKind.MESSAGE, message), self.clock.now)
        while self.responder._jobs:
            for job in self.responder.work():
                self.responder.complete(job.token, job.call(), self.clock.now)
        frames = self.responder.outgoing()
        return frames[-1].body if frames else b""


def ask(link: Link, request: Message, expected: type[M]) -> Exchange[M]:
    """One request as it stands, without the checks that an exchange makes first."""
    return (yield from link.ask(request, expected)).message


def refusal(pair: Pair, exchange: Exchange[Any]) -> ErrorCode:
    """The ERROR code that the responder answers an exchange with."""
    with pytest.raises(PeerError) as caught:
        pair.run(exchange)
    return ErrorCode(caught.value.code)


def psk_session(pair: Pair) -> Link:
    """Negotiate and open a session by pre-shared key: the way through it."""
    pair.run(negotiate(pair.link))
    return pair.run(psk_exchange(pair.link, PreSharedKey(PSK_HINT, PSK))).link

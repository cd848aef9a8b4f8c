#!/usr/bin/env python3
"""Record conversations of SPDM over TCP for others to test against.

    tools/make_vectors.py [FOLDER]          writes FOLDER/*.json, by default vectors/

Both ends are spdmkit's, on sockets of the loopback interface, with keys and certificates made for
the recording. Nothing of it is the same twice. tools/check_vectors.py, which shares nothing with
what recorded them, says whether they hold.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spdmkit.attestation.collect import Wanted, authenticate, collect
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.capture.decode import Decoder
from spdmkit.capture.keylog import Label
from spdmkit.capture.secretfiles import Secrets
from spdmkit.capture.sources import read_recording
from spdmkit.cli.connecting import algorithms_option
from spdmkit.cli.serving import responder_factory
from spdmkit.crypto.keyschedule import DirectionSecrets, KeySchedule
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.shared_keys import read_shared_key
from spdmkit.errors import SpdmError
from spdmkit.identity import Purpose, TrustAnchors, load_certificates
from spdmkit.messages import V12, V13, V14
from spdmkit.messages.dsp0287 import ServiceId
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.measurements import get_signed_measurements
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    PreSharedKey,
    end_session,
    heartbeat,
    key_exchange,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.settings import AlgorithmSet, Settings, requester_settings
from spdmkit.provisioning.authority import CertificateAuthority
from spdmkit.provisioning.serving import ServiceProvisioner
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.dialling import Caller
from spdmkit.services.listening import VerifierService
from spdmkit.services.provider import Provider, gifts_from
from spdmkit.services.wishes import Wish
from spdmkit.transports.aio import connect
from spdmkit.transports.requesters import requester_factory
from spdmkit.transports.server import Limits, listen

ALGORITHMS = algorithms_option("ecdsa-p384,sha-384,secp384r1,aes-256-gcm")
"""One of each kind: who checks the vectors needs no more than these."""
EXTRA = {"strict": 0, "libspdm": 2}
POLICY = """\
[policy]
name = "vectors"
version = 1

[[component]]
index = 5
minimum_svn = 1
"""


@dataclass
class Tape:
    """What passed on one connection, and the secrets that were derived meanwhile."""

    whole: bool = True
    passed: list[tuple[bool, bytes]] = field(default_factory=list)
    secrets: list[tuple[str, bytes]] = field(default_factory=list)

    def tap(self, _local: str, _peer: str) -> Tape:
        """A tap on the side that opens the connection."""
        return self

    def sent(self, data: bytes) -> None:
        """Our side wrote."""
        self.passed.append((True, data))

    def received(self, data: bytes) -> None:
        """Our side read."""
        self.passed.append((False, data))

    def closed(self, *, by_peer: bool = False) -> None:
        """The connection ended."""

    def frames(self, dialect: str) -> Iterator[tuple[bool, bytes]]:
        """The frames, each when its last byte passed; what is broken, as it was written."""
        if not self.whole:
            yield from self.passed
            return
        waiting = {True: b"", False: b""}
        for initiator, data in self.passed:
            waiting[initiator] += data
            while len(waiting[initiator]) >= 4:
                length, _, kind = struct.unpack_from("<HBB", waiting[initiator])
                size = 4 + length - (EXTRA[dialect] if kind in (5, 6) else 0)
                if kind >= 0xBF:
                    size = 4
                if len(waiting[initiator]) < size:
                    break
                yield initiator, waiting[initiator][:size]
                waiting[initiator] = waiting[initiator][size:]


@contextmanager
def secrets_noted(tape: Tape) -> Iterator[None]:
    """Note what each session's key schedule begins with; both ends begin with the same."""
    original = KeySchedule.start_handshake

    def noting(self: KeySchedule, secret: Any, th1: Any, *, psk: bool = False) -> DirectionSecrets:
        entry = ("psk" if psk else "dhe_secret", bytes(secret))
        if entry not in tape.secrets:
            tape.secrets.append(entry)
        return original(self, secret, th1, psk=psk)

    KeySchedule.start_handshake = noting  # type: ignore[method-assign]  # for the recording only
    try:
        yield
    finally:
        KeySchedule.start_handshake = original  # type: ignore[method-assign]


@dataclass
class Bench:
    """The folders of a device and of a verifier that know each other."""

    device: Path
    verifier: Path
    policy: Path

    @classmethod
    def make(cls, folder: Path) -> Bench:
        """Make both, and let the device know the roots of the verifier."""
        made = cls(folder / "device", folder / "verifier", folder / "policy.toml")
        initialise(made.device, serial="0001")
        initialise(made.verifier, serial="V001", requester=True)
        made.policy.write_text(POLICY)
        shutil.copy(made.verifier / "trust-anchor.pem", made.device / "requesters.pem")
        return made

    def trusts_requesters(self) -> None:
        """From now on the device wants to know who asks, and takes what they set."""
        path = self.device / "device.toml"
        text = path.read_text()
        for old, new in (
            (
                '# requester_trust_anchors = ["requesters.pem"]',
                'requester_trust_anchors = ["requesters.pem"]',
            ),
            ("may_provision = []", 'may_provision = ["certificate:*"]'),
            ("may_set_reference = []", 'may_set_reference = ["certificate:*", "psk:*"]'),
        ):
            if old not in text:
                raise SystemExit(f"device.toml has no line {old!r}")
            text = text.replace(old, new)
        path.write_text(text)

    def authority(self) -> CertificateAuthority:
        """Who issues certificates for the device."""
        folder = self.device.parent / "authority"
        return CertificateAuthority.create(folder, "passphrase")

    def anchors(self, *, both: bool = False) -> dict[str, str]:
        """The roots, by whose they are; that of the authority when it has issued something."""
        found = {"device": self.device / "trust-anchor.pem"}
        if both:
            found["verifier"] = self.verifier / "trust-anchor.pem"
        root = self.device.parent / "authority" / "root.pem"
        if root.exists():
            found["authority"] = root
        return {
            name: load_certificates(path.read_bytes(), source=name)[0].der.hex()
            for name, path in found.items()
        }


Talk = Callable[[Link], Exchange[Any]]


@dataclass
class Case:
    """One vector: what it shows, and how it comes about."""

    name: str
    about: str
    record: Callable[[Bench, Tape], Awaitable[None]]
    dialect: str = "strict"
    initiator: str = "requester"
    both_anchors: bool = False
    anchors: bool = True


# --- conversations ------------------------------------------------------------------------------


@asynccontextmanager
async def device_listens(bench: Bench, limits: Limits | None = None) -> AsyncIterator[str]:
    """The device on a port of its own; gives its address."""
    device = FolderDevice.load(bench.device)
    async with await listen(
        "tcp://127.0.0.1:0", responder_factory(device), limits=limits
    ) as listener:
        yield str(listener.uri)


async def dial(
    bench: Bench,
    tape: Tape,
    talk: Talk,
    *,
    versions: tuple[int, ...],
    query: str = "",
    psk: bool = False,
) -> None:
    """A requester connects to the device and talks."""
    settings = Settings(
        versions=versions,
        capabilities=requester_capabilities(sessions=True, psk=psk),
        algorithms=ALGORITHMS or AlgorithmSet.available(),
        keep_messages=True,
    )

    async with (
        device_listens(bench) as uri,
        await connect(f"{uri}{query}", requester_factory(settings), tap=tape.tap) as connection,
    ):
        await connection.run(talk(Link(connection.endpoint.connection)))


def trust(bench: Bench) -> DeviceTrust:
    """Whom to believe that a key is the device's."""
    anchors = TrustAnchors.from_files([bench.device / "trust-anchor.pem"], Purpose.DEVICE)
    return DeviceTrust(int(time.time()), anchors)


def attesting(bench: Bench, *, session: bool = False) -> Talk:
    """An attestation, in the clear or inside a session."""
    return lambda link: collect(link, trust(bench), Wanted(session=session))


def in_a_session(bench: Bench) -> Talk:
    """Everything that one does in a session: measurements, keys, application data."""

    def talk(link: Link) -> Exchange[None]:
        yield from negotiate(link)
        _, key = yield from authenticate(link, trust(bench))
        opened = yield from key_exchange(link, key, summary=0xFF)
        yield from get_signed_measurements(opened.link, key)
        yield from live(opened.link)

    return talk


def live(link: Link) -> Exchange[None]:
    """What happens in a session until it ends."""
    yield from heartbeat(link)
    yield from link.converse(b"application data")
    for all_keys in (False, True):
        yield from key_update(link, all_keys=all_keys)
        yield from link.converse(b"under new keys")
    yield from end_session(link)


def by_psk(bench: Bench) -> Talk:
    """A session by pre-shared key."""
    shared = read_shared_key(bench.device / "psk.toml")

    def talk(link: Link) -> Exchange[None]:
        yield from negotiate(link)
        psk = PreSharedKey(shared.hint, shared.key)
        opened = yield from psk_exchange(link, psk, summary=0xFF)
        yield from live(opened.link)

    return talk


def services(*wanted: ServiceId, query: str = "") -> Callable[[Bench, Tape], Awaitable[None]]:
    """The device connects, says that it responds, and asks for services (reach-out model)."""

    async def record(bench: Bench, tape: Tape) -> None:
        bench.trusts_requesters()
        credentials = FolderDevice.load(bench.verifier).credentials
        sources = Sources(
            trust_anchors=[bench.device / "trust-anchor.pem"],
            references=[bench.device / "reference.json"],
        )
        provider = Provider(
            Verifier.from_files(sources),
            gifts=gifts_from([bench.device / "reference.json"]),
            policy_document=Provider.policy_file(bench.policy),
            provisioner=(
                ServiceProvisioner(bench.authority())
                if ServiceId.PROVISION_CERTIFICATE in wanted
                else None
            ),
        )
        settings = requester_settings(sessions=True, credentials=credentials, algorithms=ALGORITHMS)
        service = VerifierService(
            provider, replace(settings, versions=(V13,)), credentials=credentials
        )
        device = FolderDevice.load(bench.device)
        desk = ServiceDesk(device)
        device.register_vendor(desk)
        async with await service.listen(f"tcp://127.0.0.1:0{query}") as listener:
            caller = Caller(device, desk, tap=tape.tap)
            wishes = [Wish.of(each) for each in wanted]
            call = await caller.call(str(listener.uri), wishes, tries=1)
        if call.error is not None:
            raise call.error

    return record


def error_frame(
    *sent: bytes, listener: str = "device", limits: Limits | None = None
) -> Callable[[Bench, Tape], Awaitable[None]]:
    """Somebody sends what a listener does not take, and gets an error message."""

    async def record(bench: Bench, tape: Tape) -> None:
        tape.whole = False

        async def talk(uri: str) -> None:
            await asyncio.to_thread(_raw, uri, tape, sent)

        if listener == "device":
            async with device_listens(bench, limits) as uri:
                await talk(uri)
            return
        sources = Sources(trust_anchors=[bench.device / "trust-anchor.pem"])
        service = VerifierService(Provider(Verifier.from_files(sources)))
        async with await service.listen("tcp://127.0.0.1:0") as listening:
            await talk(str(listening.uri))

    return record


def _raw(uri: str, tape: Tape, sent: Sequence[bytes]) -> None:
    port = int(uri.rpartition(":")[2].partition("?")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for frame in sent:
            connection.sendall(frame)
            tape.sent(frame)
            answer = connection.recv(4096)
            if answer:
                tape.received(answer)


GET_VERSION = bytes.fromhex("0400010510840000")

CASES = (
    Case(
        "strict_attest",
        "A requester connects: certificates, CHALLENGE, signed MEASUREMENTS. SPDM 1.2.",
        lambda bench, tape: dial(bench, tape, attesting(bench), versions=(V12,)),
    ),
    Case(
        "strict_session",
        "A session by KEY_EXCHANGE: measurements, HEARTBEAT, application data, KEY_UPDATE of one "
        "and of both directions. SPDM 1.3.",
        lambda bench, tape: dial(bench, tape, in_a_session(bench), versions=(V13,)),
    ),
    Case(
        "libspdm_session",
        "The same in the other dialect: PayloadLen counts two bytes more, and a second header "
        "stands inside each record.",
        lambda bench, tape: dial(
            bench, tape, in_a_session(bench), versions=(V13,), query="?dialect=libspdm"
        ),
        dialect="libspdm",
    ),
    Case(
        "strict_session_14",
        "An attestation inside a session. SPDM 1.4.",
        lambda bench, tape: dial(bench, tape, attesting(bench, session=True), versions=(V14,)),
    ),
    Case(
        "strict_psk",
        "A session by PSK_EXCHANGE. SPDM 1.2.",
        lambda bench, tape: dial(bench, tape, by_psk(bench), versions=(V12,), psk=True),
        anchors=False,
    ),
    Case(
        "strict_psk_13",
        "The same in SPDM 1.3, where Salt_0 is all ones.",
        lambda bench, tape: dial(bench, tape, by_psk(bench), versions=(V13,), psk=True),
        anchors=False,
    ),
    Case(
        "strict_reach_out",
        "A device connects and says by Role-Inquiry that it responds. In a session in which both "
        "sides prove who they are it asks to have its measurements verified, read and logged, and "
        "for reference values and a policy.",
        services(
            ServiceId.VERIFY_MEASUREMENTS,
            ServiceId.GET_MEASUREMENTS,
            ServiceId.GET_MEL,
            ServiceId.PROVISION_REFERENCE_MEASUREMENTS,
            ServiceId.PROVISION_VERIFICATION_POLICY,
        ),
        initiator="responder",
        both_anchors=True,
    ),
    Case(
        "libspdm_reach_out",
        "A device that connects, in the other dialect.",
        services(ServiceId.VERIFY_MEASUREMENTS, query="?dialect=libspdm"),
        dialect="libspdm",
        initiator="responder",
        both_anchors=True,
    ),
    Case(
        "strict_reach_out_session_only",
        "A device that connects and only wants a session.",
        services(ServiceId.SESSION_ONLY),
        initiator="responder",
        both_anchors=True,
    ),
    Case(
        "strict_reach_out_certificate",
        "A device that connects and asks for a certificate: CSR, SET_CERTIFICATE, and the new slot "
        "read back and challenged.",
        services(ServiceId.PROVISION_CERTIFICATE),
        initiator="responder",
        both_anchors=True,
    ),
    Case(
        "strict_error_too_large",
        "0xC0: PayloadLen is more than the listener takes, which does not wait for the payload.",
        error_frame(GET_VERSION, bytes.fromhex("ffff0105"), limits=Limits(max_frame=4096)),
        anchors=False,
    ),
    Case(
        "strict_error_version",
        "0xC1: BindingVer is not supported.",
        error_frame(bytes.fromhex("0400020510840000")),
        anchors=False,
    ),
    Case(
        "strict_error_not_a_requester",
        "0xC2: the listener cannot be a requester.",
        error_frame(bytes.fromhex("000001bf")),
        initiator="responder",
        anchors=False,
    ),
    Case(
        "strict_error_not_a_responder",
        "0xC3: the listener cannot be a responder.",
        error_frame(GET_VERSION, listener="verifier"),
        anchors=False,
    ),
)


# --- files --------------------------------------------------------------------------------------


def document(case: Case, bench: Bench, tape: Tape) -> dict[str, Any]:
    """The vector, with everything that one can derive from it."""
    other = {"requester": "responder", "responder": "requester"}[case.initiator]
    made: dict[str, Any] = {
        "name": case.name,
        "about": case.about,
        "transport": "tcp",
        "dialect": case.dialect,
        "initiator": case.initiator,
        "trust_anchors": bench.anchors(both=case.both_anchors) if case.anchors else {},
        "messages": [
            {"from": case.initiator if initiator else other, "frame": frame.hex()}
            for initiator, frame in tape.frames(case.dialect)
        ],
        "derived": [],
    }
    made["derived"] = [[name, value.hex()] for name, value in derived(made, tape)]
    return made


def derived(made: dict[str, Any], tape: Tape) -> list[tuple[str, bytes]]:
    """What the decoder derives from the conversation, given what the key schedules began with."""
    secrets = Secrets()
    for name, value in tape.secrets:
        secrets.add_loose(Label.PSK if name == "psk" else Label.DHE_SECRET, value)
    found: list[tuple[str, bytes]] = []

    def sink(name: str, value: bytes) -> None:
        found.append((name, value))

    with tempfile.TemporaryFile() as stream:
        stream.write(json.dumps(made).encode())
        stream.seek(0)
        with Decoder(read_recording(stream), secrets=secrets, sink=sink) as decoder:
            summary = decoder.run()
    complete = summary.records == summary.records_decrypted
    complete = complete and not (tape.whole and summary.undecoded)
    if not complete or summary.failed:
        raise SystemExit(f"{made['name']}: our own decoder does not read it: {summary.to_json()}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Record all vectors."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parent.parent / "vectors"
    folder.mkdir(exist_ok=True)
    for case in CASES:
        tape = Tape()
        with tempfile.TemporaryDirectory() as name, secrets_noted(tape):
            bench = Bench.make(Path(name))
            try:
                asyncio.run(_record(case, bench, tape))
            except SpdmError as error:
                raise SystemExit(f"{case.name}: {error}") from error
            made = document(case, bench, tape)
        path = folder / f"{case.name}.json"
        path.write_text(json.dumps(made, indent=1) + "\n")
        print(f"{path}: {len(made['messages'])} frames")
    return 0


async def _record(case: Case, bench: Bench, tape: Tape) -> None:
    await case.record(bench, tape)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

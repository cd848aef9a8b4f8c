"""Our requester against the emulator's responder: the blocking driver, step by step."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from emulator import provisioning, samples
from emulator.case import Case
from emulator.failed import Failed
from emulator.programs import Emulator, RunningResponder
from emulator.record import Record
from spdmkit.errors import AuthenticationError, SpdmError, TransportError
from spdmkit.identity import (
    Purpose,
    TrustedPublicKey,
    verify_chain,
)
from spdmkit.messages import V12, V13, KeyUpdateOperation, MeasurementSummaryHashType
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.credentials import PROVISIONED_KEY_SLOT, Credentials
from spdmkit.protocol.endpoint import RequesterEndpoint
from spdmkit.protocol.events import KeysUpdated, ProtocolEvent
from spdmkit.protocol.link import Link
from spdmkit.protocol.proofs import ProvenKey
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.challenge import challenge
from spdmkit.protocol.requester.encapsulated import serve_encapsulated
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.measurements import (
    get_measurement_count,
    get_measurements,
    get_signed_measurements,
)
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    OpenedSession,
    PreSharedKey,
    end_session,
    heartbeat,
    key_exchange,
    key_update,
    psk_exchange,
)
from spdmkit.protocol.settings import Settings
from spdmkit.transports.blocking import BlockingConnection, connect
from spdmkit.transports.conduit import EndpointFactory
from spdmkit.transports.emu import EmuCommand
from spdmkit.transports.requesters import requester_factory

__all__ = [
    "STEPS",
    "Driver",
    "Visit",
    "connect_to",
    "endpoint_factory",
    "judge",
    "run",
    "settings",
    "take_steps",
]

T = TypeVar("T")

_START_SECONDS = 10.0
_MCTP_PLDM = 0x01
_PLDM_GET_TID = bytes((0x80, 0x00, 0x02))
"""A PLDM request that the emulator answers as application data (DSP0240, GetTID)."""


class Driver(Protocol):
    """What steps need of a connection."""

    @property
    def endpoint(self) -> RequesterEndpoint:
        """Our end."""

    def run(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end."""

    def command(self, command: int, payload: bytes = b"") -> bytes:
        """Have the emulator do something out of band."""


class Visit:
    """One connection to the emulator's responder.

    Attributes:
        link: the way outside sessions.
        key: what the responder's signatures verify with.
        session: the session that is open, if one is.
    """

    def __init__(
        self, case: Case, keys: Path, connection: Driver, events: list[ProtocolEvent]
    ) -> None:
        self.case = case
        self.keys = keys
        self.connection = connection
        self.run = connection.run
        self.link = Link(connection.endpoint.connection)
        self.events = events
        self._key: ProvenKey | None = None
        self._session: OpenedSession | None = None

    @property
    def key(self) -> ProvenKey:
        """The responder's key, once it is proven."""
        if self._key is None:
            raise Failed("the case has a step before 'identify' that needs the key")
        return self._key

    @key.setter
    def key(self, value: ProvenKey) -> None:
        self._key = value

    @property
    def session(self) -> OpenedSession:
        """The session opened last."""
        if self._session is None:
            raise Failed("the case has a step in a session before there is one")
        return self._session

    @session.setter
    def session(self, value: OpenedSession) -> None:
        self._session = value

    @property
    def credentials(self) -> Credentials:
        """Our identity."""
        credentials = self.link.connection.credentials
        if credentials is None:
            raise Failed("the case gives us no identity")
        return credentials


def run(case: Case, emulator: Emulator) -> None:
    """Run a case.

    Raises:
        Failed, SpdmError: it failed.
    """
    with emulator.responder(case.options()) as responder:
        record = Record(responder.folder)
        with connect_to(case, emulator.keys, responder, record) as connection:
            take_steps(Visit(case, emulator.keys, connection, record.events), responder)
        judge(case, emulator, record)


def take_steps(visit: Visit, responder: RunningResponder) -> None:
    """Do what the case says, in its order.

    Raises:
        Failed: a step failed.
    """
    for step in visit.case.steps:
        try:
            STEPS[step](visit)
        except SpdmError as error:
            raise Failed(f"{step}: {type(error).__name__}: {error}") from error
        except Failed as error:
            raise Failed(f"{step}: {error}") from error
        if responder.gone:
            raise Failed(f"{step}: the responder's process is gone")


def judge(case: Case, emulator: Emulator, record: Record) -> None:
    """Have the record decoded.

    Raises:
        Failed: something in it does not hold.
    """
    known = frozenset({"PSK_EXCHANGE_RSP"}) if "wrong-psk" in case.steps else frozenset()
    believed = samples.believed(emulator.keys, case.suite.asym, case.suite.req_asym)
    wrong = record.judge(*believed, known=known)
    if wrong:
        raise Failed("; ".join(wrong[:3]))


def connect_to(
    case: Case,
    keys: Path,
    responder: RunningResponder,
    record: Record,
    *,
    ending: str = "shutdown",
    allowed: Settings | None = None,
) -> BlockingConnection:
    """Connect as soon as it listens; it serves one connection at a time, so no trial ones.

    Args:
        case: what it is for.
        keys: folder of the sample keys' folders.
        responder: the emulator's responder.
        record: sees what passes.
        ending: what we bid the responder in the end, "shutdown" or "continue".
        allowed: our settings, where they are not the case's.
    """
    uri = f"emu+{case.transport}://127.0.0.1:{responder.port}?end={ending}"
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            factory = endpoint_factory(case, keys, record, allowed)
            return connect(uri, factory, tap=record.dialling)
        except TransportError as error:
            if time.monotonic() > give_up:
                raise
            if responder.gone:
                raise Failed("the responder did not start: " + responder.log()[-200:]) from error
            time.sleep(0.05)


def endpoint_factory(
    case: Case, keys: Path, record: Record, allowed: Settings | None = None
) -> EndpointFactory:
    """Makes our requester for a connection."""
    return requester_factory(
        allowed or settings(case),
        credentials=_credentials(case, keys),
        events=record.sink,
        log_keys=True,
    )


def _credentials(case: Case, keys: Path) -> Credentials | None:
    if not case.proves_itself:
        return None
    return samples.credentials(
        keys, case.suite.req_asym, "requester", slots=case.slots, key_only=case.key_only
    )


def settings(case: Case) -> Settings:
    """Our settings: this version and these algorithms, and nothing else."""
    flags = int(
        requester_capabilities(
            sessions=True,
            psk=True,
            mutual=case.proves_itself and not case.key_only,
            provisioned_key=case.key_only,
        )
    )
    return Settings(
        versions=(case.version,),
        capabilities=(flags | case.capabilities) & ~case.without,
        algorithms=case.suite.algorithm_set(),
        shortest_psk=len(samples.PSK),
        **case.settings,
    )


# --- steps ---------------------------------------------------------------------------------------


def _negotiate(visit: Visit) -> None:
    """VCA, and nothing else than what was asked for."""
    connection = visit.run(negotiate(visit.link))
    names = connection.algorithms.names()
    expected = visit.case.suite.expected(connection.version, sessions=True)
    wrong = {kind: names.get(kind) for kind, name in expected.items() if names.get(kind) != name}
    if connection.version != visit.case.version or wrong:
        raise Failed(f"negotiated {names} of version 0x{connection.version:02x}")


def _identify(visit: Visit) -> None:
    """GET_DIGESTS, GET_CERTIFICATE, and the chain verified from the sample root."""
    case = visit.case
    if case.slot == PROVISIONED_KEY_SLOT:
        visit.key = TrustedPublicKey(samples.public_key(visit.keys, case.suite.asym, "responder"))
        return
    digests = visit.run(get_digests(visit.link))
    expected = digests.slots[case.slot].digest
    chain = visit.run(get_certificate(visit.link, case.slot, expected_digest=expected))
    visit.key = verify_chain(
        chain,
        samples.anchors(visit.keys, case.suite.asym, Purpose.DEVICE, case.slot),
        purpose=Purpose.DEVICE,
        time=dt.datetime.now(dt.UTC),
        algorithm=visit.link.peer_signature,
        policy=samples.chain_policy(case.version),
    )


def _challenge(visit: Visit) -> None:
    visit.run(
        challenge(
            visit.link,
            visit.key,
            slot_id=visit.case.slot,
            summary=MeasurementSummaryHashType.ALL,
        )
    )


def _basic_mutual(visit: Visit) -> None:
    """CHALLENGE, whose answer asks for ours: its encapsulated requests are then answered."""
    proof = visit.run(challenge(visit.link, visit.key, slot_id=visit.case.slot))
    if not proof.basic_mutual_auth:
        raise Failed("CHALLENGE_AUTH does not ask for basic mutual authentication")
    if not visit.run(serve_encapsulated(visit.link, visit.credentials)):
        raise Failed("the responder had no encapsulated request")


def _measurements(visit: Visit, link: Link | None = None) -> None:
    link = link or visit.link
    count = visit.run(get_measurement_count(link))
    blocks = visit.run(get_measurements(link, raw=visit.case.version >= V12))
    if len(blocks) != count:
        raise Failed(f"{len(blocks)} measurements where the count is {count}")
    visit.run(get_measurements(link, blocks[0].index))
    slot = visit.case.slot & 0xF
    signed = visit.run(get_signed_measurements(link, visit.key, slot_id=slot))
    if [each.index for each in signed.blocks] != [each.index for each in blocks]:
        raise Failed("the signed measurements have other indices")


def _open(visit: Visit) -> None:
    visit.session = visit.run(
        key_exchange(
            visit.link,
            visit.key,
            slot_id=visit.case.slot,
            summary=MeasurementSummaryHashType.ALL,
        )
    )
    if not visit.session.session.established:
        raise Failed("the session is not established")
    if visit.session.session.mutual is not visit.case.mutual:
        raise Failed(f"mutual authentication was {visit.session.session.mutual!r}")


def _open_psk(visit: Visit) -> None:
    psk = PreSharedKey(samples.PSK_HINT, samples.PSK)
    visit.session = visit.run(psk_exchange(visit.link, psk, summary=MeasurementSummaryHashType.ALL))
    if not visit.session.session.established:
        raise Failed("the session is not established")


def _heartbeat(visit: Visit) -> None:
    visit.run(heartbeat(visit.session.link))


def _in_session(visit: Visit) -> None:
    """What is legal inside and outside: measurements always, certificates from 1.3 on."""
    link = visit.session.link
    _measurements(visit, link)
    if visit.case.version >= V13:
        digests = visit.run(get_digests(link))
        digest = digests.slots[visit.case.slot].digest
        visit.run(get_certificate(link, visit.case.slot, expected_digest=digest))


def _psk_measurements(visit: Visit) -> None:
    """Unsigned: no signature is needed, nor a key for one."""
    _unsigned(visit, visit.session.link)


def _unsigned(visit: Visit, link: Link) -> None:
    if len(visit.run(get_measurements(link))) != visit.run(get_measurement_count(link)):
        raise Failed("the number of measurements is another")


def _update_own(visit: Visit) -> None:
    visit.run(key_update(visit.session.link))
    visit.run(heartbeat(visit.session.link))


def _update_all(visit: Visit) -> None:
    visit.run(key_update(visit.session.link, all_keys=True))
    visit.run(heartbeat(visit.session.link))


def _update_by_responder(visit: Visit) -> None:
    """The responder starts it by an encapsulated KEY_UPDATE; it is armed out of band."""
    session_id = visit.session.session.session_id
    visit.connection.command(EmuCommand.OOB_ENCAP_KEY_UPDATE, session_id.to_bytes(4, "little"))
    before = _response_key_updates(visit)
    if not visit.run(serve_encapsulated(visit.session.link, Credentials())):
        raise Failed(f"the responder had no KEY_UPDATE ({KeyUpdateOperation.UPDATE_KEY.name})")
    if _response_key_updates(visit) != before + 1:
        raise Failed("the responder's keys were not updated")
    visit.run(heartbeat(visit.session.link))


def _response_key_updates(visit: Visit) -> int:
    return sum(isinstance(e, KeysUpdated) and e.direction == "response" for e in visit.events)


def _application(visit: Visit) -> None:
    answer = visit.run(visit.session.link.converse(_PLDM_GET_TID, message_type=_MCTP_PLDM))
    if answer.message_type != _MCTP_PLDM or not answer.data.startswith(b"\x00\x00\x02"):
        raise Failed(f"GetTID was answered with {answer.data.hex()}")


def _log(visit: Visit) -> None:
    if not visit.run(get_measurement_log(visit.link)):
        raise Failed("the measurement extension log is empty")


def _log_in_session(visit: Visit) -> None:
    if not visit.run(get_measurement_log(visit.session.link)):
        raise Failed("the measurement extension log is empty")


def _end(visit: Visit) -> None:
    visit.run(end_session(visit.session.link))
    if visit.link.connection.sessions:
        raise Failed("a session is left")


def _wrong_psk(visit: Visit) -> None:
    """The responder that does not hold our key is found out."""
    psk = PreSharedKey(samples.PSK_HINT, bytes(32))
    try:
        visit.run(psk_exchange(visit.link, psk))
    except AuthenticationError:
        return
    raise Failed("a responder without our key was believed")


STEPS: dict[str, Callable[[Visit], None]] = {
    "negotiate": _negotiate,
    "identify": _identify,
    "challenge": _challenge,
    "basic-mutual": _basic_mutual,
    "measurements": _measurements,
    "unsigned-measurements": lambda visit: _unsigned(visit, visit.link),
    "log": _log,
    "open": _open,
    "open-psk": _open_psk,
    "wrong-psk": _wrong_psk,
    "heartbeat": _heartbeat,
    "in-session": _in_session,
    "psk-measurements": _psk_measurements,
    "log-in-session": _log_in_session,
    "update-own": _update_own,
    "update-all": _update_all,
    "update-by-responder": _update_by_responder,
    "application": _application,
    "end": _end,
    **provisioning.STEPS,
}
"""What a case's step does."""

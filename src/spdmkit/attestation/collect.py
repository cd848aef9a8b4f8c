"""Collecting evidence from a live device: negotiate, authenticate, measure.

`collect` is an exchange like those of the protocol, so that any driver runs it. Each proof is
verified as it comes and is a value that the next step needs; `verify_evidence` then takes what was
proven live and adds what only evidence as a whole can show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spdmkit.attestation.blocks import Block
from spdmkit.attestation.evidence import PROVISIONED_KEY, Evidence
from spdmkit.attestation.measurement_log import check_log
from spdmkit.attestation.verification import (
    DeviceTrust,
    LiveProof,
    VerifiedEvidence,
    verify_evidence,
    witness_psk,
)
from spdmkit.errors import AuthenticationError, ConfigurationError, PeerError
from spdmkit.identity import (
    CertificateModel,
    Identity,
    Purpose,
    Step,
    VerifiedChain,
    verify_chain,
)
from spdmkit.identity import Outcome as StepOutcome
from spdmkit.messages import (
    ContentChanged,
    MeasurementBlock,
    MeasurementSummaryHashType,
    ResponderFlags,
)
from spdmkit.protocol.actions import Exchange, Meanwhile, settled
from spdmkit.protocol.requester.certificates import SlotDigests, get_certificate, get_digests
from spdmkit.protocol.requester.challenge import VerifiedChallenge, challenge_answered
from spdmkit.protocol.requester.encapsulated import authenticate_basic
from spdmkit.protocol.requester.measurement_log import get_measurement_log
from spdmkit.protocol.requester.measurements import (
    SignedMeasurements,
    get_measurements,
    get_signed_measurements,
)
from spdmkit.protocol.requester.negotiate import negotiate
from spdmkit.protocol.requester.sessions import (
    OpenedSession,
    PreSharedKey,
    end_session,
    key_exchange,
    psk_exchange,
)

if TYPE_CHECKING:
    from spdmkit.protocol.connection import Connection
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey

__all__ = [
    "Collected",
    "PskCollected",
    "Wanted",
    "authenticate",
    "collect",
    "collect_more",
    "collect_psk",
    "read_psk",
]

F = ResponderFlags
_MEAS_CAP = int(F.MEAS_CAP_MASK)
_TRIES_WHILE_CHANGING = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to collect.

    Attributes:
        slot: certificate slot, or 255 for the provisioned public key of the trust.
        session: measure inside a session.
        raw: ask for raw bit streams instead of digests (1.2).
        challenge: CHALLENGE the slot, when the device can be challenged.
        measurements: read measurements, when the device has any.
        measurement_log: read the log that leads to them too, when the device has one (1.3).
        nonce: 32 bytes that the signed MEASUREMENTS are to answer, for example those of a relying
            party; fresh random ones by default. Only fresh ones show that the answer is new.
        target: the address, for the evidence.
        transport: how it is reached, for the evidence.
        collector: our software's name, for the evidence.
        now: seconds since 1970, for the evidence.
    """

    slot: int = 0
    session: bool = False
    raw: bool = False
    challenge: bool = True
    measurements: bool = True
    measurement_log: bool = True
    nonce: bytes | None = None
    target: str = ""
    transport: str = ""
    collector: str = ""
    now: int | None = None


@dataclass(slots=True)
class Collected:
    """A device's evidence and what was proven while it was collected.

    Attributes:
        evidence: what can be kept.
        proof: what was verified live.
        digests: what DIGESTS said; None with a provisioned key.
        unsigned: measurement blocks that no signature covers.
        steps: what was done and not done, beside the steps of verification.
        session: the session, when it is to be kept open.
    """

    evidence: Evidence
    proof: LiveProof
    digests: SlotDigests | None = None
    unsigned: tuple[MeasurementBlock, ...] = ()
    steps: list[Step] = field(default_factory=list)
    session: OpenedSession | None = None

    def verified(self, trust: DeviceTrust) -> VerifiedEvidence:
        """The evidence as verified; signatures that were verified live are not verified again.

        Raises:
            EvidenceError: not authentic.
        """
        return verify_evidence(self.evidence, trust, live=self.proof)

    @property
    def identity(self) -> Identity | None:
        """Who the device is; None with a provisioned key."""
        return self.proof.key.identity if isinstance(self.proof.key, VerifiedChain) else None


def collect(
    link: Link, trust: DeviceTrust, wanted: Wanted, *, keep_session: bool = False
) -> Exchange[Collected]:
    """Negotiate with a device, have it prove who it is, and read its measurements.

    Args:
        link: a fresh connection, whose settings keep messages.
        trust: whose keys are believed.
        wanted: what to collect.
        keep_session: leave the session open for the caller.

    Raises:
        AuthenticationError: a proof does not hold; the step says which.
        ConfigurationError: the settings keep no messages, or there is no trust anchor.
        PeerError: the device refused.
        SpdmError: as `Link.ask`.
    """
    connection = link.connection
    if not connection.settings.keep_messages:
        raise ConfigurationError("evidence needs settings that keep messages")
    yield from negotiate(link)
    digests, chain = yield from _authentication(link, trust, wanted.slot, None)
    steps: list[Step] = []
    # Each verification is done while the device works on the next answer, which needs nothing from
    # it: its processor and ours work at the same time.
    challenged = yield from _challenge(link, chain, wanted, steps)
    key = yield from settled(chain)
    opened: OpenedSession | None = None
    if wanted.session:
        if challenged is not None:
            yield from settled(challenged)
        opened = yield from key_exchange(
            link, key, slot_id=wanted.slot, summary=_summary(connection)
        )
    collected = yield from _read(link, key, wanted, challenged, opened, steps)
    collected.digests = digests
    if opened is not None and not keep_session:
        yield from end_session(opened.link)
    if keep_session:
        collected.session = opened
    return collected


def collect_more(
    link: Link, key: ProvenKey, wanted: Wanted, *, opened: OpenedSession | None = None
) -> Exchange[Collected]:
    """Read the measurements of a device on a connection that already knows who it is.

    Args:
        link: the way to it outside of any session, negotiated.
        key: from `authenticate`, of the slot that is wanted.
        wanted: what to collect; it is challenged outside the session, also when there is one.
        opened: a session to read in; its handshake becomes evidence when the same slot signed it.

    Raises:
        AuthenticationError: a proof does not hold; the step says which.
        SpdmError: as `Link.ask`.
    """
    if not link.connection.settings.keep_messages:
        raise ConfigurationError("evidence needs settings that keep messages")
    steps: list[Step] = []
    challenged = yield from _challenge(link, Meanwhile(lambda: key), wanted, steps)
    return (yield from _read(link, key, wanted, challenged, opened, steps))


def _read(
    link: Link,
    key: ProvenKey,
    wanted: Wanted,
    challenged: Meanwhile[VerifiedChallenge] | None,
    opened: OpenedSession | None,
    steps: list[Step],
) -> Exchange[Collected]:
    """Measure, in the session if there is one, and put the evidence together."""
    connection = link.connection
    inside = link if opened is None else opened.link
    measured, unsigned, log = yield from _measure(inside, key, wanted, steps, challenged)
    answered = None if challenged is None else (yield from settled(challenged))
    vouching = opened if opened is not None and _same(opened.key, key) else None
    proof = LiveProof(
        key,
        connection.vca,
        answered,
        measured,
        vouching,
        unsigned if vouching is not None else (),
    )
    evidence = Evidence(
        exchanges=proof.exchanges(),
        slot=wanted.slot,
        vca=tuple(connection.vca_messages),
        chain=key.chain.raw if isinstance(key, VerifiedChain) else b"",
        public_key=b"" if isinstance(key, VerifiedChain) else key.public_key.spki(),
        measurement_log=log,
        collected_at=wanted.now,
        collector=wanted.collector,
        target=wanted.target,
        transport=wanted.transport,
    )
    return Collected(evidence, proof, None, unsigned, steps)


def _same(one: ProvenKey | None, other: ProvenKey) -> bool:
    """Whether two proven keys are one, by the very same chain."""
    if isinstance(one, VerifiedChain) and isinstance(other, VerifiedChain):
        return one.chain.raw == other.chain.raw
    return one is other


def authenticate(
    link: Link, trust: DeviceTrust, slot_id: int = 0, *, digests: SlotDigests | None = None
) -> Exchange[tuple[SlotDigests | None, ProvenKey]]:
    """The verified chain of a slot, or the key that was provisioned to us, and what DIGESTS said.

    The device has not yet proven that it holds the key.

    Args:
        link: the way to the device outside of any session, negotiated.
        trust: whose keys are believed.
        slot_id: 0 to 7, or 255 for the provisioned key of the trust.
        digests: what DIGESTS said on this connection already.

    Raises:
        AuthenticationError: step "chain".
        ConfigurationError: there is nothing to believe it by.
        SpdmError: as `Link.ask`.
    """
    found, chain = yield from _authentication(link, trust, slot_id, digests)
    return found, (yield from settled(chain))


def _authentication(
    link: Link, trust: DeviceTrust, slot_id: int, digests: SlotDigests | None
) -> Exchange[tuple[SlotDigests | None, Meanwhile[ProvenKey]]]:
    """As `authenticate`, with the verification of the chain left to be done."""
    if slot_id == PROVISIONED_KEY:
        provisioned = trust.public_key
        if provisioned is None:
            raise ConfigurationError("slot 255 needs the device's public key")
        provisioned.check_algorithm(link.peer_signature)
        return None, Meanwhile(lambda: provisioned)
    if not link.connection.flag(F.CERT_CAP):
        raise AuthenticationError(
            "chain", "the device has no certificates (CERT_CAP)", hint="try --public-key or --psk"
        )
    if digests is None:
        digests = yield from get_digests(link)
    slot = digests.slots.get(slot_id)
    if slot is None:
        have = ", ".join(map(str, digests.slots)) or "none"
        raise AuthenticationError(
            "chain", f"slot {slot_id} holds no chain; provisioned are: {have}"
        )
    chain = yield from get_certificate(link, slot_id, expected_digest=slot.digest)
    anchors = trust.anchors
    if anchors is None:
        raise ConfigurationError("no trust anchor for devices", hint="give --trust-anchor")
    version = link.connection.version
    policy = trust.chain_policy(version, slot.model or CertificateModel.NONE)
    algorithm = link.peer_signature
    return digests, Meanwhile(
        lambda: verify_chain(
            chain,
            anchors,
            purpose=Purpose.DEVICE,
            time=trust.moment,
            algorithm=algorithm,
            policy=policy,
            revocation=trust.revocation,
            cache=trust.cache,
        )
    )


def _summary(connection: Connection) -> int:
    """All measurements summed up where there are any, so that the sum can be compared."""
    if connection.flag(F.MEAS_CAP_MASK):
        return MeasurementSummaryHashType.ALL
    return MeasurementSummaryHashType.NONE


def _challenge(
    link: Link, key: Meanwhile[ProvenKey], wanted: Wanted, steps: list[Step]
) -> Exchange[Meanwhile[VerifiedChallenge] | None]:
    connection = link.connection
    if not wanted.challenge or not connection.flag(F.CHAL_CAP):
        why = "not asked for" if not wanted.challenge else "the device cannot be challenged"
        steps.append(Step("challenge", StepOutcome.SKIPPED, why))
        return None
    challenged = yield from challenge_answered(
        link, key, slot_id=wanted.slot, summary=_summary(connection)
    )
    if connection.credentials is not None:
        # Whom we are to prove ourselves to has proven itself first.
        answered = yield from settled(challenged)
        if answered.basic_mutual_auth:
            yield from authenticate_basic(link, connection.credentials)
    return challenged


def _measure(
    link: Link,
    key: ProvenKey,
    wanted: Wanted,
    steps: list[Step],
    meanwhile: Meanwhile[VerifiedChallenge] | None,
) -> Exchange[tuple[SignedMeasurements | None, tuple[MeasurementBlock, ...], bytes]]:
    """All measurements, signed where the device signs, and the log that leads to them.

    Both are read again while they change meanwhile.
    """
    connection = link.connection
    kind = connection.peer.flags & _MEAS_CAP
    if not wanted.measurements or not kind:
        why = "not asked for" if kind else "the device has no measurements"
        steps.append(Step("measurements", StepOutcome.SKIPPED, why))
        return None, (), b""
    if kind == F.MEAS_CAP_NO_SIG:
        steps.append(
            Step("measurements", StepOutcome.NOT_COVERED, "the device does not sign measurements")
        )
    for attempt in range(1, _TRIES_WHILE_CHANGING + 1):
        measured: SignedMeasurements | None = None
        if kind == F.MEAS_CAP_NO_SIG:
            blocks = yield from get_measurements(link, raw=wanted.raw)
        else:
            measured = yield from get_signed_measurements(
                link,
                key,
                slot_id=wanted.slot & 0xF,
                raw=wanted.raw,
                nonce=wanted.nonce,
                meanwhile=meanwhile,
            )
            if measured.content_changed is ContentChanged.CHANGED:
                continue
            blocks = measured.blocks
        log = yield from _log(link, wanted)
        # A log that grew since the measurements were read leads beyond them.
        if attempt == _TRIES_WHILE_CHANGING or not log or _leads_to(log, blocks, connection):
            return measured, () if measured is not None else blocks, log
    raise PeerError("the device's measurements change faster than they can be read", code=0)


def _log(link: Link, wanted: Wanted) -> Exchange[bytes]:
    """The measurement extension log, where there is one (1.3) and it is wanted."""
    connection = link.connection
    if (
        not wanted.measurement_log
        or not connection.flag(F.MEL_CAP)
        or not connection.algorithms.mel_specification
    ):
        return b""
    return (yield from get_measurement_log(link))


def _leads_to(log: bytes, blocks: tuple[MeasurementBlock, ...], connection: Connection) -> bool:
    read = [Block.read(block) for block in blocks]
    return not check_log(log, read, connection.algorithms.measurement_hash).fault


# --- pre-shared keys -----------------------------------------------------------------------------


@dataclass(slots=True)
class PskCollected:
    """What a device said inside a session by pre-shared key.

    Nothing here is signed: it is as good as the session is, for whoever holds the key.

    Attributes:
        hint: the key's name; a PSK proves no other identity.
        blocks: its measurements.
        session: the session they came in.
        kept: True while the session is open.
        log: its measurement extension log, or empty.
    """

    hint: bytes
    blocks: tuple[MeasurementBlock, ...]
    session: OpenedSession
    kept: bool
    log: bytes = b""

    def verified(self, wanted: Wanted, time: int) -> VerifiedEvidence:
        """What was said, for the appraisal; it convinces nobody but this verifier.

        Args:
            wanted: names the address.
            time: the time of the appraisal, seconds since 1970.

        Raises:
            EvidenceError: the negotiation is not as it should be.
        """
        return witness_psk(
            self.session,
            self.blocks,
            hint=self.hint,
            log=self.log,
            time=time,
            target=wanted.target,
            transport=wanted.transport,
        )


def collect_psk(
    link: Link, psk: PreSharedKey, wanted: Wanted, *, keep_session: bool = False
) -> Exchange[PskCollected]:
    """Negotiate, open a session by pre-shared key, and read measurements in it.

    Raises:
        AuthenticationError: the device does not hold the key.
        SpdmError: as `Link.ask`.
    """
    yield from negotiate(link)
    opened = yield from psk_exchange(link, psk, summary=_summary(link.connection))
    found = yield from read_psk(opened, psk.hint, wanted)
    if not keep_session:
        yield from end_session(opened.link)
        found.kept = False
    return found


def read_psk(opened: OpenedSession, hint: bytes, wanted: Wanted) -> Exchange[PskCollected]:
    """Read measurements in a session by pre-shared key, which stays open.

    Raises:
        SpdmError: as `Link.ask`.
    """
    blocks: tuple[MeasurementBlock, ...] = ()
    log = b""
    link = opened.link
    if wanted.measurements and link.connection.flag(F.MEAS_CAP_MASK):
        for _ in range(_TRIES_WHILE_CHANGING):
            blocks = yield from get_measurements(link, raw=wanted.raw)
            log = yield from _log(link, wanted)
            # A log that grew since the measurements were read leads beyond them.
            if not log or _leads_to(log, blocks, link.connection):
                break
    return PskCollected(hint, blocks, opened, True, log)

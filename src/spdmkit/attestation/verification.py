"""Is evidence authentic? Recomputed from its bytes alone, offline.

The steps, in order; the first that fails ends it:

1. decode        the messages are well formed and belong together
2. chain         the certificate chain hangs on an anchor of ours; or the provisioned key is ours
3. revocation    what CRLs and OCSP responses at hand say
4. chain-hash    the slot that answered is the slot whose chain this is
5. challenge     CHALLENGE_AUTH is signed by the leaf
6. session       KEY_EXCHANGE_RSP is signed by the leaf
7. signature     MEASUREMENTS are signed by the leaf
8. negotiation   each choice was offered, and a signature covers VCA

The result is a `VerifiedEvidence`, which cannot be made otherwise; appraisal takes nothing less.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Final, NoReturn

from spdmkit.attestation.blocks import Block
from spdmkit.attestation.conversation import (
    Negotiated,
    Statement,
    Summary,
    challenge_verified,
    measurements_verified,
    read_negotiation,
    read_statement,
)
from spdmkit.attestation.evidence import (
    PROVISIONED_KEY,
    Evidence,
    ExchangeKind,
    SignedExchange,
)
from spdmkit.attestation.parties import read_parties
from spdmkit.attestation.reference.model import DeviceClaims
from spdmkit.crypto import signing
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_HASH, HashAlgorithm, SignatureAlgorithm
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    ProtocolViolation,
    SpdmError,
    UnsupportedAlgorithm,
)
from spdmkit.identity import (
    CertificateChain,
    CertificateModel,
    ChainCache,
    ChainError,
    ChainPolicy,
    Identity,
    KeyPurposeRule,
    Outcome,
    Purpose,
    RevocationData,
    Step,
    TimePolicy,
    TrustAnchors,
    TrustedPublicKey,
    VerifiedChain,
    moment_text,
    safe_text,
    verify_chain,
)
from spdmkit.identity.revocation import NO_REVOCATION_DATA
from spdmkit.messages import V12, V13, V14, MeasurementBlock, ResponseCode
from spdmkit.protocol.proofs import ProvenKey
from spdmkit.protocol.requester.challenge import VerifiedChallenge
from spdmkit.protocol.requester.measurements import SignedMeasurements
from spdmkit.protocol.requester.sessions import OpenedSession
from spdmkit.protocol.session import SessionKind

__all__ = [
    "DeviceTrust",
    "EvidenceError",
    "LiveProof",
    "VerifiedEvidence",
    "device_claims",
    "verify_evidence",
    "witness_psk",
]

_MAKER: Final = object()


class EvidenceError(AuthenticationError):
    """Evidence that is not to be believed.

    Attributes:
        steps: the steps up to and with the failed one.
    """

    def __init__(
        self, step: str, reason: str, *, hint: str = "", steps: tuple[Step, ...] = ()
    ) -> None:
        super().__init__(step, reason, hint=hint)
        self.steps = steps


@dataclass(frozen=True, slots=True)
class DeviceTrust:
    """Whom to believe that a key is a device's.

    Attributes:
        time: the time certificates are judged at, seconds since 1970.
        anchors: device roots, for slots 0 to 7.
        public_key: the key provisioned to us, for slot 255.
        revocation: CRLs and OCSP responses at hand.
        demand_revocation: each certificate must be covered by one of them.
        demand_hardware_identity: some certificate must be marked as hardware identity.
        demand_spdm_purpose: a leaf that restricts its purposes must name SPDM's among them.
        ignore_validity: do not check validity periods; for a verifier without a clock.
        cache: chains verified before; None verifies every time.
    """

    time: int
    anchors: TrustAnchors | None = None
    public_key: TrustedPublicKey | None = None
    revocation: RevocationData = NO_REVOCATION_DATA
    demand_revocation: bool = False
    demand_hardware_identity: bool = False
    demand_spdm_purpose: bool = False
    ignore_validity: bool = False
    cache: ChainCache | None = None

    def chain_policy(self, version: int, model: CertificateModel) -> ChainPolicy:
        """The rules for a chain of an SPDM version and certificate model, with our demands."""
        rules = ChainPolicy.for_version(version, model)
        if not (
            self.demand_revocation or self.demand_hardware_identity or self.demand_spdm_purpose
        ):
            return rules
        return replace(
            rules,
            key_purpose=(
                KeyPurposeRule.IF_PRESENT if self.demand_spdm_purpose else rules.key_purpose
            ),
            demand_revocation=self.demand_revocation,
            demand_hardware_identity=self.demand_hardware_identity,
        )

    @property
    def moment(self) -> TimePolicy:
        """`time` as chain verification takes it."""
        return _moment(self.time, self.ignore_validity)


@functools.lru_cache(maxsize=64)
def _moment(time: int, ignore_validity: bool) -> TimePolicy:
    return TimePolicy(dt.datetime.fromtimestamp(time, dt.UTC), ignore_validity=ignore_validity)


@dataclass(frozen=True, slots=True)
class VerifiedEvidence:
    """Evidence that was verified; only this module makes one.

    Attributes:
        evidence: what was verified.
        negotiated: version and algorithms.
        chain: the verified chain; None with a provisioned key.
        public_key: the key that signed; None when a pre-shared key is all there is.
        statements: what the signatures cover, in order; and what was read unsigned in a session
            whose authenticity only this process witnessed.
        steps: what was checked, in order.
        time: the time certificates were judged at, seconds since 1970.
        psk_hint: name of the pre-shared key of the session, or empty. It is no identity.
    """

    evidence: Evidence
    negotiated: Negotiated
    chain: VerifiedChain | None
    public_key: PublicKey | None
    statements: tuple[Statement, ...]
    steps: tuple[Step, ...]
    time: int
    maker: InitVar[object]
    psk_hint: bytes = b""

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only verify_evidence makes a VerifiedEvidence")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VerifiedEvidence does not travel; verify the evidence where it is used")

    def statement(self, kind: ExchangeKind) -> Statement | None:
        """The last statement of a kind, or None."""
        return next((each for each in reversed(self.statements) if each.kind is kind), None)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The measurement blocks that a signature or a session vouches for, by index."""
        measured = self.statement(ExchangeKind.MEASUREMENTS)
        return tuple(sorted(measured.blocks, key=lambda b: b.index)) if measured else ()

    @property
    def opaque(self) -> bytes:
        """Opaque data of the last MEASUREMENTS."""
        measured = self.statement(ExchangeKind.MEASUREMENTS)
        return measured.opaque if measured else b""

    @property
    def nonces(self) -> tuple[bytes, ...]:
        """The verifier's nonces that signatures cover."""
        return tuple(each.nonce for each in self.statements if each.nonce)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """The measurement summary hashes that signatures cover."""
        return tuple(each.summary for each in self.statements if each.summary is not None)

    @property
    def identity(self) -> Identity | None:
        """Who the device is; None without certificates."""
        return None if self.chain is None else self.chain.identity

    @property
    def claims(self) -> DeviceClaims:
        """What reference values are chosen by."""
        if self.chain is not None:
            return device_claims(self.chain)
        spki = "" if self.public_key is None else self.public_key.spki_sha256().hex()
        return DeviceClaims(spki_sha256=spki)


def device_claims(key: ProvenKey) -> DeviceClaims:
    """What a verified chain, or a provisioned key, says about a device."""
    spki = key.public_key.spki_sha256().hex()
    if not isinstance(key, VerifiedChain):
        return DeviceClaims(spki_sha256=spki)
    identity, name = key.identity, key.identity.device_name
    return DeviceClaims(
        name.manufacturer if name else "",
        name.product if name else "",
        name.serial_number if name else "",
        key.anchor.sha256.hex(),
        spki,
        identity.subject,
    )


@dataclass(frozen=True, slots=True)
class LiveProof:
    """What a live conversation verified already, so that no signature is verified twice.

    Only the protocol's verified values go in, and they stand for exactly the bytes they verified.

    Attributes:
        key: the chain that was verified, or the provisioned key.
        vca: the negotiation of the connection, which the signatures cover.
        challenge, measurements: the exchanges that were verified with it.
        session: the session that was opened with it.
        unsigned: measurements that were read in that session and that no signature covers.
    """

    key: ProvenKey
    vca: bytes = b""
    challenge: VerifiedChallenge | None = None
    measurements: SignedMeasurements | None = None
    session: OpenedSession | None = None
    unsigned: tuple[MeasurementBlock, ...] = ()
    _exchanges: tuple[SignedExchange, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exchanges", self._made())

    def exchanges(self) -> tuple[SignedExchange, ...]:
        """The verified exchanges in the form of evidence; the same tuple each time."""
        return self._exchanges

    def _made(self) -> tuple[SignedExchange, ...]:
        made: list[SignedExchange] = []
        if self.challenge is not None:
            made.append(
                SignedExchange.from_transcript(
                    ExchangeKind.CHALLENGE, self.challenge.signed, self.challenge.signature
                )
            )
        if self.session is not None and self.session.signed:
            made.append(SignedExchange(ExchangeKind.KEY_EXCHANGE, self.session.signed))
        if self.measurements is not None:
            made.append(
                SignedExchange.from_transcript(
                    ExchangeKind.MEASUREMENTS,
                    self.measurements.signed,
                    self.measurements.signature,
                    in_session=self.measurements.session_id is not None,
                )
            )
        return tuple(made)


def verify_evidence(
    evidence: Evidence, trust: DeviceTrust, *, live: LiveProof | None = None
) -> VerifiedEvidence:
    """Verify evidence from its bytes.

    Args:
        evidence: as collected or imported.
        trust: whose keys are believed, and at what time.
        live: what the conversation that collected it verified already.

    Raises:
        EvidenceError: not authentic; it names the step and carries the steps before it.
        ConfigurationError: there is no anchor, or no key, to judge it by.
    """
    return _Verification(evidence, trust, live).run()


@dataclass(slots=True)
class _Verification:
    """One verification: what is given, and what was found so far."""

    evidence: Evidence
    trust: DeviceTrust
    live: LiveProof | None = None
    steps: list[Step] = field(default_factory=list)

    def run(self) -> VerifiedEvidence:
        try:
            return self._run()
        except ChainError as error:
            raise self._failed("chain", error.reason, error.hint) from error
        except AuthenticationError as error:
            raise self._failed(error.step, error.reason, error.hint) from error
        except DecodeError as error:
            raise self._failed("decode", str(error)) from error
        except UnsupportedAlgorithm as error:
            raise self._failed("signature", str(error), error.hint) from error
        except ProtocolViolation as error:
            raise self._failed("decode", str(error), error.hint) from error

    def _failed(self, step: str, reason: str, hint: str = "") -> EvidenceError:
        steps = (*self.steps, Step(step, Outcome.FAILED, reason))
        return EvidenceError(step, reason, hint=hint, steps=steps)

    def _passed(self, name: str, detail: str) -> None:
        self.steps.append(Step(name, Outcome.PASSED, detail))

    def _run(self) -> VerifiedEvidence:
        if not self.evidence.exchanges:
            raise DecodeError("evidence", "exchanges", 0, "holds nothing that a device signed")
        certificates, negotiated = self._begin()
        algorithm = negotiated.selection.base_hash
        if certificates is not None:
            digest = certificates.digest(algorithm)
        else:
            digest = algorithm.digest(self._provisioned().spki)
        statements = [
            self._read_live(exchange, certificates, negotiated, digest)
            or read_statement(exchange, negotiated, self.evidence.slot, digest)
            for exchange in self.evidence.exchanges
        ]
        count = sum(len(exchange.messages) for exchange in self.evidence.exchanges)
        self._passed("decode", f"{count + len(self.evidence.vca)} messages")
        chain = self._chain(certificates, negotiated)
        key = chain.public_key if chain is not None else self._provisioned().public_key
        self._chain_hash(statements, digest)
        negotiated = self._signatures(statements, negotiated, key, chain)
        self._coverage(statements, negotiated)
        return VerifiedEvidence(
            self.evidence,
            negotiated,
            chain,
            key,
            (*(each for each in statements if each.signature), *self._witnessed()),
            tuple(self.steps),
            self.trust.time,
            _MAKER,
        )

    def _read_live(
        self,
        exchange: SignedExchange,
        certificates: CertificateChain | None,
        negotiated: Negotiated,
        digest: bytes,
    ) -> Statement | None:
        """What this process read and verified itself a moment ago; None to read the bytes.

        Only for the very evidence that was made of it: same exchanges, slot, chain and negotiation.
        """
        live = self.live
        if (
            live is None
            or self.evidence.exchanges is not live.exchanges()
            or not isinstance(live.key, VerifiedChain)
            or certificates is not live.key.chain
            or negotiated.vca != live.vca
        ):
            return None
        slot = self.evidence.slot
        challenged, measured = live.challenge, live.measurements
        if exchange.kind is ExchangeKind.CHALLENGE and challenged is not None:
            ours = challenged.key is live.key and challenged.slot_id == slot
            return challenge_verified(challenged, negotiated, digest) if ours else None
        if exchange.kind is ExchangeKind.MEASUREMENTS and measured is not None:
            ours = measured.key is live.key and measured.slot_id == slot
            return measurements_verified(measured, negotiated) if ours else None
        return None

    # --- who -----------------------------------------------------------------------------------

    def _begin(self) -> tuple[CertificateChain | None, Negotiated]:
        """The chain that is said to have signed, and what was negotiated.

        The step "chain" decides whether it is a device's.
        """
        proven = self.live.key if self.live is not None else None
        return read_parties(
            self.evidence,
            public_key=self._provisioned().public_key if self._by_key else None,
            known=proven.chain if isinstance(proven, VerifiedChain) else None,
        )

    @property
    def _what(self) -> str:
        """What CertChainHash is a hash of."""
        return "key" if self._by_key else "chain"

    @property
    def _by_key(self) -> bool:
        return self.evidence.slot == PROVISIONED_KEY

    def _provisioned(self) -> TrustedPublicKey:
        if self.trust.public_key is None:
            raise ConfigurationError(
                "the evidence is signed by a provisioned public key, and none was given",
                hint="give the device's public key with --public-key",
            )
        return self.trust.public_key

    def _chain(
        self, certificates: CertificateChain | None, negotiated: Negotiated
    ) -> VerifiedChain | None:
        if certificates is None:
            name = self._provisioned().spki_sha256.hex()
            self._passed("chain", f"the provisioned public key spki-sha256:{name}")
            return None
        proven = self.live.key if self.live is not None else None
        if isinstance(proven, VerifiedChain) and proven.chain.raw == certificates.raw:
            self.steps += _chain_steps(proven)
            return proven
        if self.trust.anchors is None:
            raise ConfigurationError(
                "no trust anchor for devices was given", hint="give one with --trust-anchor"
            )
        policy = self.trust.chain_policy(negotiated.version, self._model(negotiated))
        verified = verify_chain(
            certificates,
            self.trust.anchors,
            purpose=Purpose.DEVICE,
            time=self.trust.moment,
            algorithm=negotiated.selection.signature if negotiated.covered else None,
            policy=policy,
            revocation=self.trust.revocation,
            cache=self.trust.cache,
        )
        self.steps += _chain_steps(verified)
        return verified

    def _model(self, negotiated: Negotiated) -> CertificateModel:
        """The certificate model that CERTIFICATE told for this slot (from 1.3)."""
        if negotiated.version < V13:
            return CertificateModel.NONE
        for exchange in self.evidence.exchanges:
            for message in exchange.messages:
                if (
                    message[1:2] == bytes([ResponseCode.CERTIFICATE])
                    and len(message) > 3
                    and message[2] & 0xF == self.evidence.slot
                ):
                    told = message[3] & 0x7
                    if told in tuple(CertificateModel):
                        return CertificateModel(told)
        return CertificateModel.NONE

    # --- what was signed -----------------------------------------------------------------------

    def _chain_hash(self, statements: list[Statement], digest: bytes) -> None:
        told = [each.chain_hash for each in statements if each.kind is ExchangeKind.CHALLENGE]
        exchanged = any(each.kind is ExchangeKind.KEY_EXCHANGE for each in statements)
        if any(each != digest for each in told):
            raise AuthenticationError(
                "chain-hash",
                f"CertChainHash of CHALLENGE_AUTH is not that of the {self._what} at hand",
            )
        if told or exchanged:
            self._passed("chain-hash", f"the signature names this very {self._what}")
        else:
            self.steps.append(
                Step("chain-hash", Outcome.NOT_COVERED, "no signature at hand names the chain")
            )

    def _signatures(
        self,
        statements: list[Statement],
        negotiated: Negotiated,
        key: PublicKey,
        chain: VerifiedChain | None,
    ) -> Negotiated:
        verified = self._verified_live(chain, negotiated)
        for kind, step in _STEP_OF_KIND.items():
            found = [each for each in statements if each.kind is kind]
            if not found:
                witnessed = kind is ExchangeKind.MEASUREMENTS and any(self._witnessed())
                self.steps.append(_IN_SESSION if witnessed else _absent(step))
                continue
            if not any(each.signature for each in found):
                self.steps.append(Step(step, Outcome.NOT_COVERED, "the device did not sign it"))
                continue
            for statement in found:
                if statement.signature and statement.signature not in verified:
                    negotiated = _verify(statement, negotiated, key, step)
            signature = negotiated.selection.signature
            name = signature.name if signature is not None else "signature"
            self._passed(step, f"{name} by the leaf's key, {negotiated.selection.base_hash.name}")
        if not any(each.signature for each in statements):
            raise AuthenticationError("signature", "nothing in the evidence is signed")
        return negotiated

    def _verified_live(
        self, chain: VerifiedChain | None, negotiated: Negotiated
    ) -> frozenset[bytes]:
        """Signatures of exchanges that were verified live, with this key, over these very bytes."""
        live = self.live
        if (
            live is None
            or (chain is not None and live.key is not chain)
            or live.vca != negotiated.vca
        ):
            return frozenset()
        known = live.exchanges()
        own = {
            ExchangeKind.CHALLENGE: live.challenge and live.challenge.signature,
            ExchangeKind.MEASUREMENTS: live.measurements and live.measurements.signature,
            ExchangeKind.KEY_EXCHANGE: live.session and live.session.signature,
        }
        return frozenset(
            own[exchange.kind] or b"" for exchange in self.evidence.exchanges if exchange in known
        ) - {b""}

    def _witnessed(self) -> Iterator[Statement]:
        """Measurements that an authenticated session of this process vouches for."""
        live = self.live
        if live is not None and live.session is not None and live.unsigned:
            yield _session_statement(live.unsigned)

    def _coverage(self, statements: list[Statement], negotiated: Negotiated) -> None:
        """Whether a signature covers VCA, so that nobody talked version and algorithms down."""
        covering = [
            each
            for each in statements
            if each.signature
            and (each.kind is not ExchangeKind.MEASUREMENTS or negotiated.version >= V12)
        ]
        if negotiated.covered and covering:
            self._passed(
                "negotiation",
                f"SPDM {negotiated.version_text}; each choice was offered, and the signature of "
                f"{covering[-1].kind} covers it",
            )
            return
        why = "the messages of the negotiation are not at hand"
        if negotiated.covered:
            why = f"SPDM {negotiated.version_text} does not sign them with MEASUREMENTS"
        self.steps.append(Step("negotiation", Outcome.NOT_COVERED, why))


def witness_psk(
    opened: OpenedSession,
    blocks: Sequence[MeasurementBlock],
    *,
    hint: bytes,
    time: int,
    log: bytes = b"",
    target: str = "",
    transport: str = "",
) -> VerifiedEvidence:
    """What a device said inside a session by pre-shared key.

    Nothing in it is signed, so it convinces nobody but the verifier that holds the key, and it
    says nothing of who the device is beyond holding that key too.

    Args:
        opened: the session, authenticated by the key.
        blocks: measurements that were read in it.
        hint: the key's name.
        time: the time of the appraisal, seconds since 1970.
        log: measurement extension log that was read in it, or empty.
        target: address of the device.
        transport: how it was reached.

    Raises:
        EvidenceError: the negotiation is not as it should be.
        ConfigurationError: the session is none by pre-shared key.
    """
    session = opened.session
    if session.kind is not SessionKind.PSK or opened.key is not None:
        raise ConfigurationError("the session was not opened by a pre-shared key")
    name = safe_text(hint.decode("utf-8", "backslashreplace"))
    evidence = Evidence(
        (),
        vca=tuple(opened.link.connection.vca_messages),
        measurement_log=log,
        target=target,
        transport=transport,
    )
    try:
        negotiated = read_negotiation(evidence)
    except (AuthenticationError, DecodeError) as error:
        raise EvidenceError("negotiation", str(error)) from error
    statements = [_session_statement(blocks)] if blocks else []
    steps = (
        Step("decode", Outcome.PASSED, "read live"),
        Step("chain", Outcome.SKIPPED, "a pre-shared key has no certificates"),
        Step("challenge", Outcome.SKIPPED, "nothing to challenge"),
        Step("session", Outcome.PASSED, f"both sides hold the pre-shared key {name!r}"),
        _IN_SESSION if blocks else _absent("signature"),
        Step(
            "negotiation",
            Outcome.PASSED,
            f"SPDM {negotiated.version_text}; the handshake's MAC covers it",
        ),
    )
    if opened.summary_type and opened.summary:
        summary = Summary(opened.summary_type, opened.summary, "PSK_EXCHANGE_RSP")
        statements = [each._replace(summary=summary) for each in statements]
    return VerifiedEvidence(
        evidence, negotiated, None, None, tuple(statements), steps, time, _MAKER, hint
    )


def _session_statement(blocks: Sequence[MeasurementBlock]) -> Statement:
    return Statement(
        ExchangeKind.MEASUREMENTS,
        SigningContext.RESPONDER_MEASUREMENTS,
        b"",
        b"",
        blocks=tuple(Block.read(block) for block in blocks),
        all_requested=True,
        in_session=True,
    )


_IN_SESSION: Final = Step(
    "signature",
    Outcome.NOT_COVERED,
    "not signed; read in the authenticated session, which convinces this verifier alone",
)


def _absent(step: str) -> Step:
    return Step(step, Outcome.SKIPPED, "not part of the evidence")


_STEP_OF_KIND: Final = {
    ExchangeKind.CHALLENGE: "challenge",
    ExchangeKind.KEY_EXCHANGE: "session",
    ExchangeKind.MEASUREMENTS: "signature",
}


def _chain_steps(verified: VerifiedChain) -> Iterator[Step]:
    """Two steps of the many that chain verification takes: the chain, and revocation."""
    detail = f"{len(verified.chain)} certificates, below {verified.anchor.subject}"
    if verified.checked_at is not None:
        detail += f", valid at {moment_text(verified.checked_at)}"
    else:
        detail += ", validity periods ignored on request"
    yield Step("chain", Outcome.PASSED, detail)
    for step in verified.steps:
        if step.name == "revocation":
            yield step


def _verify(statement: Statement, negotiated: Negotiated, key: PublicKey, step: str) -> Negotiated:
    """Verify one signature; without VCA, find the algorithms it was made with.

    A signature that holds proves the hash and scheme it was made with, so trying the few that the
    key allows loosens nothing.
    """
    problem: SpdmError | None = None
    for algorithm, hash_algorithm in _candidates(negotiated, key):
        try:
            signing.verify(
                algorithm,
                key,
                statement.signature,
                version=negotiated.version,
                context=statement.signing,
                hash=hash_algorithm,
                digest=hash_algorithm.digest(statement.covered),
            )
        except (AuthenticationError, UnsupportedAlgorithm) as error:
            problem = problem or error
            continue
        if negotiated.covered:
            return negotiated
        selection = replace(negotiated.selection, base_hash=hash_algorithm, signature=algorithm)
        return replace(negotiated, selection=selection)
    reason = problem.reason if isinstance(problem, AuthenticationError) else str(problem)
    hint = ""
    if not negotiated.covered and negotiated.version >= V12:
        hint = "SPDM 1.2 and later sign the negotiation too: its messages have to be at hand"
    raise AuthenticationError(step, reason, hint=hint) from problem


def _candidates(
    negotiated: Negotiated, key: PublicKey
) -> Iterator[tuple[SignatureAlgorithm, HashAlgorithm]]:
    chosen = negotiated.selection.signature
    if chosen is not None:
        yield chosen, negotiated.selection.base_hash
    if negotiated.covered:
        if chosen is None:
            raise AuthenticationError("negotiation", "no signature algorithm was negotiated")
        return
    for algorithm in key.algorithms:
        for hash_algorithm in BASE_HASH.usable(V14):
            if (algorithm, hash_algorithm) != (chosen, negotiated.selection.base_hash):
                yield algorithm, hash_algorithm

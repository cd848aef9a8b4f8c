"""One verifier: policy, trust, reference values and revocation put together once, used many times.

What files are given adds to what the policy names; nothing given loosens it. Trust is per purpose:
roots of devices, roots of those who sign reference values, keys of collecting verifiers.

    verifier = Verifier.from_files(Sources(trust_anchors=["root.pem"], references=["nic.json"]))
    with connect("tcp://192.0.2.7", factory) as connection:
        link = Link(connection.endpoint.connection)
        attested = connection.run(verifier.attest(link, Wanted(now=int(time.time()))))
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spdmkit.attestation.appraiser import appraise, refused
from spdmkit.attestation.checks import Expectations
from spdmkit.attestation.collect import Wanted, collect, collect_psk
from spdmkit.attestation.conversation import read_negotiation
from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.outcome import AttestationResult
from spdmkit.attestation.policy import DEFAULT_POLICY, Policy, ProtocolRule
from spdmkit.attestation.policy_file import load_policy
from spdmkit.attestation.reference.loader import MAX_FILE_SIZE, Reference, read_references
from spdmkit.attestation.reference.model import DeviceClaims
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.attestation.reference.store import ReferenceStore, RejectedReference, Selection
from spdmkit.attestation.revocation import load_revocation
from spdmkit.attestation.verification import (
    DeviceTrust,
    EvidenceError,
    LiveProof,
    VerifiedEvidence,
    verify_evidence,
)
from spdmkit.crypto.keys import PublicKey
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import (
    ChainCache,
    Purpose,
    RevocationData,
    TrustAnchors,
    TrustedPublicKey,
)
from spdmkit.messages import V10
from spdmkit.protocol.actions import Exchange, perform

if TYPE_CHECKING:
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.requester.sessions import PreSharedKey

__all__ = ["Attested", "Sources", "Verifier"]

PathLike = str | Path


@dataclass(frozen=True, slots=True)
class Sources:
    """The files a verifier works with; a policy file may name more of each kind.

    Attributes:
        policy: the policy file, or None for the default policy.
        trust_anchors: roots of devices.
        public_key: a device's own key instead of roots (slot 255).
        pre_shared_key: neither roots nor a key: devices answer in sessions by a pre-shared key.
        references: files of reference values, in any format.
        reference_anchors: roots of those who may sign reference values.
        store: folder of a reference store, in place of the policy's.
        fallback_store: folder of a reference store for when nothing else names reference values.
        crls, ocsp: revocation lists and OCSP responses.
        collectors: public keys of verifiers that are trusted to say when they collected evidence.
        identities: identities, one of which each device must have.
        profile: vendor profile for manifests that do not show their own.
        ignore_reference_expiry: accept signers of reference values whose certificates have ended.
        max_age: most seconds since evidence was collected; the policy's limit if that is lower.
        minimum_version: lowest SPDM version, as the version byte, where no policy file says it.
        bare: without a policy file, accept messages whose negotiation is not at hand, as tools of
            some vendors store them. Whoever hands them over knows that none comes with them.
    """

    policy: PathLike | None = None
    trust_anchors: Sequence[PathLike] = ()
    public_key: PathLike | None = None
    pre_shared_key: bool = False
    references: Sequence[PathLike] = ()
    reference_anchors: Sequence[PathLike] = ()
    store: PathLike | None = None
    fallback_store: PathLike | None = None
    crls: Sequence[PathLike] = ()
    ocsp: Sequence[PathLike] = ()
    collectors: Sequence[PathLike] = ()
    identities: Sequence[str] = ()
    profile: str = ""
    ignore_reference_expiry: bool = False
    max_age: int | None = None
    minimum_version: int | None = None
    bare: bool = False

    def demands(self) -> Policy:
        """The policy: that of the file or the default one, with what is said here.

        Raises:
            ConfigurationError: the file cannot be read or is wrong.
        """
        policy = DEFAULT_POLICY if self.policy is None else load_policy(self.policy)
        if self.ignore_reference_expiry:
            rule = replace(policy.references, ignore_signer_expiry=True)
            policy = replace(policy, references=rule)
        if self.max_age is not None:
            limit = policy.freshness.max_age
            age = self.max_age if limit is None else min(self.max_age, limit)
            policy = replace(policy, freshness=replace(policy.freshness, max_age=age))
        if self.policy is None:
            policy = replace(policy, protocol=self._protocol(policy.protocol))
        return policy

    def _protocol(self, rule: ProtocolRule) -> ProtocolRule:
        if self.bare:
            rule = replace(rule, minimum_version=V10, accept_uncovered_negotiation=True)
        if self.minimum_version is not None:
            rule = replace(rule, minimum_version=self.minimum_version)
        return rule


@dataclass(frozen=True, slots=True)
class Attested:
    """What attesting a live device gave.

    Attributes:
        result: the verdict, and what it rests on.
        evidence: what can be kept; None when the device is not authentic, and with a pre-shared
            key, where nothing is signed.
        key: SHA-256 of the public key that answered, lower-case hex; empty when there is none.
    """

    result: AttestationResult
    evidence: Evidence | None = None
    key: str = ""


@dataclass(slots=True)
class Verifier:
    """Everything but the device: made once, safe to use from several threads.

    Attributes:
        policy: what is demanded.
        anchors: roots of devices, or None.
        public_key: a device's own key, or None.
        signers: roots of those who sign reference values, or None.
        documents: reference values as they came: name and bytes.
        store: where more of them are looked for, by identity.
        store_unasked: nobody named the store: what it holds is passed over where its signers are
            not known, instead of being a reason not to trust.
        revocation: CRLs and OCSP responses.
        collectors: keys of verifiers whose word on time counts.
        identities: identities, one of which each device must have.
        profile: vendor profile for manifests that do not show their own.
        cache: chains verified before; None verifies every time.
    """

    policy: Policy = DEFAULT_POLICY
    anchors: TrustAnchors | None = None
    public_key: TrustedPublicKey | None = None
    signers: TrustAnchors | None = None
    documents: tuple[tuple[str, bytes], ...] = ()
    store: ReferenceStore | None = None
    store_unasked: bool = False
    revocation: RevocationData = field(default_factory=RevocationData)
    collectors: tuple[PublicKey, ...] = ()
    identities: tuple[str, ...] = ()
    profile: str = ""
    cache: ChainCache | None = None
    _loaded: tuple[int, Selection] | None = field(default=None, init=False, repr=False)
    _loading: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    @classmethod
    def from_files(cls, sources: Sources, *, cache: ChainCache | None = None) -> Verifier:
        """Read all files.

        Args:
            sources: which.
            cache: where to remember chains; None verifies every time.

        Raises:
            ConfigurationError: a file cannot be read or is wrong, or not exactly one of roots,
                a key and a pre-shared key is given.
        """
        policy = sources.demands()
        key = sources.public_key
        roots = tuple(sources.trust_anchors)
        if key is None and not sources.pre_shared_key:
            roots += policy.identity.trust_anchors
        if (bool(roots), key is not None, sources.pre_shared_key).count(True) != 1:
            raise ConfigurationError(
                "give either roots of devices, or a device's own key, or a pre-shared key",
                hint="--trust-anchor FILE, --public-key FILE or --psk FILE; a device made by "
                "`spdm device init DIR` has DIR/trust-anchor.pem",
            )
        signers = (*sources.reference_anchors, *policy.references.signers)
        folder = sources.store if sources.store is not None else policy.references.store
        unasked = folder is None and not sources.references
        if unasked:
            folder = sources.fallback_store
        return cls(
            policy=policy,
            anchors=TrustAnchors.from_files(roots, Purpose.DEVICE) if roots else None,
            public_key=TrustedPublicKey.from_file(key) if key is not None else None,
            signers=(
                TrustAnchors.from_files(signers, Purpose.REFERENCE_SIGNER) if signers else None
            ),
            documents=tuple(
                (Path(path).name, read_bounded(path, MAX_FILE_SIZE)) for path in sources.references
            ),
            store=ReferenceStore(folder) if folder is not None else None,
            store_unasked=unasked,
            revocation=load_revocation(
                (*sources.crls, *policy.identity.crls), (*sources.ocsp, *policy.identity.ocsp)
            ),
            collectors=tuple(_public_key(path) for path in sources.collectors),
            identities=tuple(sources.identities),
            profile=sources.profile,
            cache=cache,
        )

    def trust(self, time: int) -> DeviceTrust:
        """Whose keys are believed at a time, seconds since 1970."""
        rule = self.policy.identity
        return DeviceTrust(
            time,
            self.anchors,
            self.public_key,
            self.revocation,
            rule.demand_revocation,
            rule.demand_hardware_identity,
            rule.demand_spdm_purpose,
            cache=self.cache,
        )

    def check(self, time: int) -> SignerCheck:
        """What signers of reference values have to meet at a time."""
        rule = self.policy.references
        demanded = rule.demand_signature
        if demanded is None:
            demanded = self.signers is not None
        return SignerCheck(self.signers, time, rule.ignore_signer_expiry, demanded)

    def references(self, claims: DeviceClaims, time: int) -> Selection:
        """The reference values for a device: those that were given, and the store's.

        Raises:
            ConfigurationError: a file that was given is in no format that is known.
        """
        given = self._given(time)
        if self.store is None:
            return given
        lenient = self.store_unasked and self.signers is None
        found = self.store.select(claims, self.check(time), unsigned_only=lenient)
        return Selection((*given.references, *found.references), (*given.rejected, *found.rejected))

    def _given(self, time: int) -> Selection:
        """The values of the files, their signers judged at about that time."""
        with self._loading:
            return self._load(time)

    def _load(self, time: int) -> Selection:
        loaded = self._loaded
        if (
            loaded is not None
            and not loaded[1].rejected
            and all(each.holds(loaded[0], time) for each in loaded[1].references)
        ):
            return loaded[1]
        check = self.check(time)
        references: list[Reference] = []
        rejected: list[RejectedReference] = []
        for name, data in self.documents:
            try:
                references += read_references(data, check, source=name, profile=self.profile)
            except AuthenticationError as error:
                rejected.append(RejectedReference(name, error))
            except DecodeError as error:
                raise ConfigurationError(str(error)) from error
        selection = Selection(tuple(references), tuple(rejected))
        self._loaded = (time, selection)
        return selection

    def attest(
        self,
        link: Link,
        wanted: Wanted,
        *,
        time: int | None = None,
        psk: PreSharedKey | None = None,
        known_keys: Mapping[str, str] | None = None,
    ) -> Exchange[Attested]:
        """Collect evidence from a live device, verify it, and appraise it.

        A device that is not authentic gives a result too: untrusted, and in which step.

        Args:
            link: a fresh connection, whose settings keep messages.
            wanted: what to collect; `now` is the time at which it is collected.
            time: the time of the appraisal, seconds since 1970; `wanted.now` by default.
            psk: the key to open a session by, when devices are known by one.
            known_keys: `KnownDevices.keys`.

        Raises:
            ConfigurationError: no time is given, or a file of reference values cannot be used.
            SpdmError: the conversation failed: network, protocol, or the peer refused.
        """
        moment = wanted.now if time is None else time
        if moment is None:
            raise ConfigurationError("the time of the appraisal is not given")
        try:
            verified, evidence = yield from self._collect(link, wanted, moment, psk)
        except AuthenticationError as error:
            return Attested(self._refused_live(error, link, wanted, moment))
        result = yield from perform(
            lambda: self.appraise(
                verified,
                moment,
                nonces=verified.nonces,
                target=wanted.target,
                known_keys=known_keys,
            )
        )
        key = verified.public_key
        return Attested(result, evidence, "" if key is None else key.spki_sha256().hex())

    def _collect(
        self, link: Link, wanted: Wanted, moment: int, psk: PreSharedKey | None
    ) -> Exchange[tuple[VerifiedEvidence, Evidence | None]]:
        if psk is not None:
            gathered = yield from collect_psk(link, psk, wanted)
            return gathered.verified(wanted, moment), None
        trust = self.trust(moment)
        collected = yield from collect(link, trust, wanted)
        verified = yield from perform(lambda: collected.verified(trust))
        return verified, collected.evidence

    def appraise(
        self,
        evidence: VerifiedEvidence,
        time: int,
        *,
        nonces: Iterable[bytes] = (),
        target: str = "",
        known_keys: Mapping[str, str] | None = None,
    ) -> AttestationResult:
        """Appraise what was verified.

        Args:
            evidence: from `Collected.verified`, `PskCollected.verified` or `verify_evidence`.
            time: the time of the appraisal, seconds since 1970.
            nonces: ours, when they are known.
            target: address of the device, for `known_keys`.
            known_keys: `KnownDevices.keys`.

        Raises:
            ConfigurationError: a file of reference values cannot be used.
        """
        found = self.references(evidence.claims, time)
        return appraise(
            evidence,
            self._expectations(time, nonces, target, known_keys),
            policy=self.policy,
            references=found.references,
            rejected=found.rejected,
        )

    def appraise_evidence(
        self,
        evidence: Evidence,
        time: int,
        *,
        nonces: Iterable[bytes] = (),
        target: str = "",
        known_keys: Mapping[str, str] | None = None,
        live: LiveProof | None = None,
    ) -> AttestationResult:
        """Verify evidence and appraise it; what is not authentic gives a result too: untrusted.

        Args and errors are those of `appraise`; `live` is what its conversation verified already.
        """
        try:
            verified = verify_evidence(evidence, self.trust(time), live=live)
        except EvidenceError as error:
            return self.refused(error, time, target=target or evidence.target)
        return self.appraise(verified, time, nonces=nonces, target=target, known_keys=known_keys)

    def refused(
        self, error: AuthenticationError | DecodeError, time: int, *, target: str = ""
    ) -> AttestationResult:
        """The result for what is not authentic, or cannot be read: untrusted, and in which step."""
        return refused(error, Expectations(time), policy=self.policy, target=target)

    def _refused_live(
        self, error: AuthenticationError, link: Link, wanted: Wanted, moment: int
    ) -> AttestationResult:
        """As `refused`, with what the conversation came to before."""
        result = self.refused(error, moment, target=wanted.target)
        result = replace(result, transport=wanted.transport, collected_at=wanted.now)
        vca = tuple(link.connection.vca_messages)
        try:
            negotiated = read_negotiation(Evidence((), vca=vca))
        except (AuthenticationError, DecodeError):
            return result  # it did not come to that
        return replace(
            result,
            spdm_version=negotiated.version_text,
            algorithms=negotiated.selection.names(),
        )

    def _expectations(
        self,
        time: int,
        nonces: Iterable[bytes],
        target: str,
        known_keys: Mapping[str, str] | None,
    ) -> Expectations:
        return Expectations(
            time,
            frozenset(nonces),
            self.identities,
            target,
            known_keys or {},
            self.collectors,
        )


def _public_key(path: PathLike) -> PublicKey:
    try:
        return PublicKey.load(read_bounded(path, 1 << 16))
    except DecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error

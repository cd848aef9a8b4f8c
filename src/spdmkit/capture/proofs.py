"""Checking what can be checked in somebody else's conversation.

Transcripts grow with the bytes that were seen; signatures are checked with the key at the end of
the chain that was seen; digests are compared with what they are digests of. What takes something
that the capture does not hold is unverifiable, which is not a word against it.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spdmkit.capture.chains import ChainMemory, ChainStore, SeenChain
from spdmkit.capture.events import Check, CheckKind, ConversationEvent, Party, Verdict
from spdmkit.capture.negotiated import Negotiation
from spdmkit.capture.secretfiles import Secrets
from spdmkit.capture.sessions import DerivedSink, KeySink
from spdmkit.crypto import signing
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import SignatureAlgorithm
from spdmkit.crypto.signing import SigningContext
from spdmkit.errors import AuthenticationError, ConfigurationError, SpdmError, UnsupportedAlgorithm
from spdmkit.identity import (
    Certificate,
    ChainPolicy,
    Purpose,
    TimePolicy,
    TrustAnchors,
    verify_chain,
)

__all__ = ["PROVISIONED_KEY", "Evidence", "Proofs", "compare"]

PROVISIONED_KEY = 0x0F
"""Slot ID of the key that was provisioned out of band; 0xFF where the field has eight bits."""

_REMEMBERED_VERDICTS = 256
_TRANSCRIPT_HASHES = frozenset(("m1m2_hash", "l1l2_hash", "th_curr_hash", "th1_hash", "th2_hash"))


class _Expected:
    """Transcript hashes that the recording says were computed, by name, in order."""

    def __init__(self, derived: Iterable[tuple[str, bytes]]) -> None:
        self._left: dict[str, deque[bytes]] = {}
        for name, value in derived:
            if name in _TRANSCRIPT_HASHES:
                self._left.setdefault(name, deque()).append(value)

    def check(self, name: str, digest: bytes) -> Check | None:
        """Compare with the next of that name; None when the recording has none."""
        left = self._left.get(name)
        if not left:
            return None
        if left.popleft() == digest:
            return Check(CheckKind.HASH, name, Verdict.VERIFIED)
        return Check(CheckKind.HASH, name, Verdict.FAILED, "the recording says otherwise")


@dataclass(slots=True)
class Evidence:
    """What is known beside the capture; one for a recording.

    Attributes:
        secrets: for decrypting.
        anchors: certificates that chains may hang on, in DER; without any, chains are not judged.
        chains: chains that may not be in the capture: DER certificates, root first.
        public_keys: keys that were provisioned out of band.
        derived: transcript hashes that the recording tells, in order.
        sink: told of every value derived or computed.
        keys: told of every secret that protects records.
        verify: check signatures, digests and verify data.
    """

    secrets: Secrets = field(default_factory=Secrets)
    anchors: Sequence[bytes] = ()
    chains: Sequence[Sequence[bytes]] = ()
    public_keys: Sequence[PublicKey] = ()
    derived: Sequence[tuple[str, bytes]] = ()
    sink: DerivedSink | None = None
    keys: KeySink | None = None
    verify: bool = True
    memory: ChainMemory = field(default_factory=ChainMemory)
    _expected: _Expected | None = None
    _anchors: dict[Purpose, TrustAnchors] | None = None
    _verdicts: OrderedDict[tuple[bytes, Purpose], Check] = field(default_factory=OrderedDict)

    def transcript_hash(self, name: str, digest: bytes) -> Check | None:
        """A transcript hash was computed; gives a check when the recording tells one too."""
        if self.sink is not None:
            self.sink(name, digest)
        if not self.verify:
            return None
        if self._expected is None:
            self._expected = _Expected(self.derived)
        return self._expected.check(name, digest)

    def judge_chain(
        self, chain: SeenChain, purpose: Purpose, version: int, time_ns: int | None
    ) -> Check | None:
        """Verify a chain up to the anchors; None when there are none."""
        if not self.anchors:
            return None
        key = (chain.digest, purpose)
        known = self._verdicts.get(key)
        if known is None:
            known = self._verdicts[key] = self._judged(chain, purpose, version, time_ns)
            if len(self._verdicts) > _REMEMBERED_VERDICTS:
                self._verdicts.popitem(last=False)
        return known

    def _judged(
        self, chain: SeenChain, purpose: Purpose, version: int, time_ns: int | None
    ) -> Check:
        if self._anchors is None:
            certificates = [Certificate(der) for der in self.anchors]
            self._anchors = {
                each: TrustAnchors(certificates, each)
                for each in (Purpose.DEVICE, Purpose.REQUESTER)
            }
        if isinstance(chain.parsed, SpdmError):
            return Check(CheckKind.CHAIN, "certificate chain", Verdict.FAILED, str(chain.parsed))
        time = TimePolicy.ignoring_validity()
        if time_ns is not None:
            time = TimePolicy(dt.datetime.fromtimestamp(time_ns / 1e9, dt.UTC))
        policy = ChainPolicy.for_version(version)
        try:
            verify_chain(
                chain.parsed, self._anchors[purpose], purpose=purpose, time=time, policy=policy
            )
        except UnsupportedAlgorithm as error:
            verdict, reason = Verdict.UNVERIFIABLE, str(error)
        except (AuthenticationError, ConfigurationError) as error:
            verdict, reason = Verdict.FAILED, str(error)
        else:
            verdict, reason = Verdict.VERIFIED, ""
        return Check(CheckKind.CHAIN, "certificate chain", verdict, reason)


class Proofs:
    """The keys and digests of one connection's two sides.

    Attributes:
        evidence: what is known beside the capture.
        stores: what each side has shown of its slots.
    """

    def __init__(self, evidence: Evidence, negotiation: Negotiation) -> None:
        """Nothing was seen yet."""
        self.evidence = evidence
        self._negotiation = negotiation
        self.stores = {
            Party.REQUESTER: ChainStore(evidence.memory),
            Party.RESPONDER: ChainStore(evidence.memory),
        }

    def forget_slots(self) -> None:
        """A new negotiation: the base hash may be another one."""
        for party in self.stores:
            self.stores[party] = ChainStore(self.evidence.memory)

    def transcript_hash(self, name: str, digest: bytes, event: ConversationEvent) -> None:
        """A transcript hash was computed; the recording may tell one to compare it with."""
        check = self.evidence.transcript_hash(name, digest)
        if check is not None:
            event.checks.append(check)

    def chain_digest(self, party: Party, slot: int) -> bytes | None:
        """What stands for a slot's chain in transcripts (DSP0274, CT); None when it is not known.

        Of a key that was provisioned out of band it is the digest of the SubjectPublicKeyInfo.
        """
        selection = self._negotiation.selection
        if selection is None:
            return None
        if slot & 0x0F == PROVISIONED_KEY:
            keys = self.evidence.public_keys
            return selection.base_hash.digest(keys[0].spki()) if len(keys) == 1 else None
        found = self.stores[party].digest(slot)
        if found is None and len(self.evidence.chains) == 1:
            return self._told_chains()[0].digest
        return found

    def _told_chains(self) -> list[SeenChain]:
        selection = self._negotiation.selection
        if selection is None:
            return []
        return [
            self.evidence.memory.built(certificates, selection.base_hash)
            for certificates in self.evidence.chains
        ]

    def _keys(self, party: Party, slot: int) -> tuple[list[PublicKey], str]:
        """Keys that a slot's signature may be checked with, or why there are none."""
        if slot & 0x0F == PROVISIONED_KEY:
            keys = list(self.evidence.public_keys)
            return keys, "" if keys else "the provisioned public key was not given"
        chain = self.stores[party].chains.get(slot)
        chains = [chain] if chain is not None else self._told_chains()
        if not chains:
            return [], f"the certificate chain of slot {slot} is not in the capture"
        keys, reason = [], ""
        for candidate in chains:
            key = candidate.public_key
            if isinstance(key, SpdmError):
                reason = f"the leaf key of slot {slot} cannot be used: {key}"
            else:
                keys.append(key)
        return keys, "" if keys else reason

    def signature(
        self,
        party: Party,
        slot: int,
        signature: bytes,
        context: SigningContext,
        digest: bytes | None,
    ) -> Check:
        """Check a signature.

        Args:
            party: who signed.
            slot: with which key.
            signature: as it stands in the message.
            context: what it is for.
            digest: digest of what it covers; None when not all of it was seen.
        """
        name = context.value.removesuffix(" signing")
        selection = self._negotiation.selection
        algorithm: SignatureAlgorithm | None = None
        if selection is not None:
            requester = party is Party.REQUESTER
            algorithm = selection.req_signature if requester else selection.signature
        if selection is None or algorithm is None:
            return _unverifiable(name, "no signature algorithm was seen to be selected")
        if digest is None:
            return _unverifiable(name, "not all that it covers is in the capture")
        keys, reason = self._keys(party, slot)
        if not keys:
            return _unverifiable(name, reason)
        for key in keys:
            try:
                signing.verify(
                    algorithm,
                    key,
                    signature,
                    version=self._negotiation.context.version,
                    context=context,
                    hash=selection.base_hash,
                    digest=digest,
                )
            except UnsupportedAlgorithm as error:
                return _unverifiable(name, str(error))
            except AuthenticationError as error:
                reason = error.reason
            else:
                return Check(CheckKind.SIGNATURE, name, Verdict.VERIFIED)
        return Check(CheckKind.SIGNATURE, name, Verdict.FAILED, reason)

    def chain_completed(
        self, party: Party, slot: int, chain: SeenChain, time_ns: int | None
    ) -> list[Check]:
        """What can be said about a chain as soon as its last portion is there."""
        found: list[Check] = []
        told = self.stores[party].digests.get(slot)
        if told is not None:
            found.append(compare(f"digest of slot {slot}", told, chain.digest, "DIGESTS"))
        parsed = chain.parsed
        if isinstance(parsed, SpdmError):
            reason = str(parsed)
            found.append(Check(CheckKind.HASH, "RootHash", Verdict.FAILED, reason))
            return found
        first = parsed.parsed[0]
        try:
            own_root = first.self_issued
        except SpdmError as error:
            found.append(Check(CheckKind.HASH, "RootHash", Verdict.FAILED, str(error)))
            return found
        if own_root:
            digest = chain.hash_algorithm.digest(first.der)
            found.append(compare("RootHash", parsed.root_hash, digest, "the root certificate"))
        else:
            reason = "the chain does not hold its root"
            found.append(Check(CheckKind.HASH, "RootHash", Verdict.UNVERIFIABLE, reason))
        purpose = Purpose.REQUESTER if party is Party.REQUESTER else Purpose.DEVICE
        version = self._negotiation.context.version
        judged = self.evidence.judge_chain(chain, purpose, version, time_ns)
        if judged is not None:
            found.append(judged)
        return found


def compare(name: str, told: bytes, computed: bytes, of: str) -> Check:
    """A digest in a message against what it is the digest of."""
    if told == computed:
        return Check(CheckKind.HASH, name, Verdict.VERIFIED)
    return Check(CheckKind.HASH, name, Verdict.FAILED, f"is not that of {of}")


def _unverifiable(name: str, reason: str) -> Check:
    return Check(CheckKind.SIGNATURE, name, Verdict.UNVERIFIABLE, reason)

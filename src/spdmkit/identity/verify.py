"""Verifying a certificate chain: a path walker in the manner of RFC 5280 clause 6, for devices.

The checks stand in a table and run in its order; the first that fails ends the verification and
names the certificate and the reason. Where device certificates differ from the web's: no host
names, no required extended key usage, SPDM's own object identifiers, DICE extensions that may be
critical, certificate models, and end dates in the year 9999.

Positions of certificates count from 0, the first in the chain.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from spdmkit.crypto.keys import PublicKey
from spdmkit.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    UnsupportedAlgorithm,
)
from spdmkit.identity import oids
from spdmkit.identity.anchors import Purpose, TrustAnchors
from spdmkit.identity.certificate import Certificate
from spdmkit.identity.chain import CertificateChain
from spdmkit.identity.claims import Identity
from spdmkit.identity.dice import read_tcb_infos
from spdmkit.identity.policy import ChainPolicy, KeyPurposeRule, TimePolicy
from spdmkit.identity.revocation import (
    NO_REVOCATION_DATA,
    RevocationData,
    RevocationError,
    Statement,
)
from spdmkit.identity.steps import ChainError, Outcome, Step
from spdmkit.identity.text import moment_text
from spdmkit.messages import CertificateModel

if TYPE_CHECKING:
    from spdmkit.crypto.registry import SignatureAlgorithm

__all__ = ["ChainCache", "VerifiedChain", "verify_chain"]

_OUTSIDE: Final = -1
"""Position of an anchor that is not in the chain but signed its first certificate."""

_MAX_RSA_BITS: Final = 8192
_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)

_ROLES: Final = {
    Purpose.DEVICE: (oids.RESPONDER_AUTH, oids.REQUESTER_AUTH, "Responder"),
    Purpose.REQUESTER: (oids.REQUESTER_AUTH, oids.RESPONDER_AUTH, "Requester"),
}
"""Purpose -> SPDM key purpose that fits, the one of the other role, name of the role."""

_MAKER: Final = object()


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedChain:
    """A chain that `verify_chain` believed; it cannot be made otherwise.

    Attributes:
        chain: what was verified.
        purpose: what it was verified for.
        anchor: the trust anchor it hangs on.
        anchor_position: position of the anchor in the chain, -1 when it is not in it.
        public_key: the leaf's key.
        identity: who the leaf is.
        steps: what was checked, in order.
        checked_at: the moment validity was judged at; None when it was not.
    """

    chain: CertificateChain
    purpose: Purpose
    anchor: Certificate
    anchor_position: int
    public_key: PublicKey
    identity: Identity
    steps: tuple[Step, ...]
    checked_at: dt.datetime | None
    statements: tuple[Statement, ...] = field(repr=False)
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only verify_chain makes a VerifiedChain")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VerifiedChain does not travel; verify the chain where it is used")

    @property
    def leaf(self) -> Certificate:
        """The leaf certificate."""
        return self.chain.leaf

    @property
    def model(self) -> CertificateModel:
        """The certificate model, told or seen."""
        return self.identity.model


class ChainCache:
    """Remembers verified chains, a bounded number of them, for one process.

    Looked up by everything that the verdict depends on: the chain's bytes, the anchors, the
    purpose, the rules, the algorithm and the revocation data. Time is judged anew on each hit. Safe
    for threads.
    """

    def __init__(self, capacity: int = 1024) -> None:
        """Make an empty cache.

        Args:
            capacity: chains to remember; 0 switches it off.
        """
        self.capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[object, ...], VerifiedChain] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def get(self, key: tuple[object, ...]) -> VerifiedChain | None:
        """The chain remembered under a key."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: tuple[object, ...], verified: VerifiedChain) -> None:
        """Remember a chain; the one not asked for longest is forgotten."""
        with self._lock:
            self._entries[key] = verified
            self._entries.move_to_end(key)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)


def verify_chain(
    chain: CertificateChain,
    anchors: TrustAnchors,
    *,
    purpose: Purpose,
    time: TimePolicy | dt.datetime,
    algorithm: SignatureAlgorithm | None = None,
    policy: ChainPolicy | None = None,
    revocation: RevocationData = NO_REVOCATION_DATA,
    cache: ChainCache | None = None,
) -> VerifiedChain:
    """Verify a chain from an anchor of ours down to its leaf (DSP0274 10.7, 10.9.2; RFC 5280 6).

    Args:
        chain: what the peer sent.
        anchors: whom we trust, for this purpose.
        purpose: what the leaf's key is to be used for.
        time: the moment to judge validity at, or a policy that says otherwise.
        algorithm: the negotiated signature algorithm, which the leaf's key must fit; None where
            none was negotiated.
        policy: the rules; those for SPDM 1.2 and later by default.
        revocation: CRLs and OCSP responses at hand.
        cache: where to look first and to remember; None verifies every signature each time.

    Raises:
        ChainError: the chain is not to be believed; it names the check, the certificate and why.
        ConfigurationError: the anchors are for another purpose, or the time has no zone.
    """
    rules = policy or ChainPolicy()
    when = time if isinstance(time, TimePolicy) else TimePolicy(time)
    if anchors.purpose is not purpose:
        raise ConfigurationError(
            f"trust anchors for {anchors.purpose.value!r} cannot verify a {purpose.value!r}"
        )
    walk = _Walk(chain, anchors, purpose, when, algorithm, rules, revocation)
    key = (
        chain.raw,
        chain.hash_algorithm.name,
        anchors.fingerprint,
        rules,
        None if algorithm is None else algorithm.name,
        revocation.fingerprint,
        when.ignore_validity,
    )
    if cache is None or cache.capacity < 1:
        return _verified(walk, key)
    known = cache.get(key)
    if known is not None:
        return walk.renew(known, _TIMED)
    verified = _verified(walk, key)
    cache.put(key, verified)
    return verified


def _verified(walk: _Walk, key: tuple[object, ...]) -> VerifiedChain:
    """Verify every signature; what the bytes, the anchors and the rules alone decide may be known.

    Devices attest again and again with the same chain, and all checks but those of `_AGAIN` can
    only come to the same end. Only what passed is remembered.
    """
    known = _FORMS.get(key)
    if known is not None:
        return walk.renew(known, _AGAIN)
    verified = walk.run()
    # An anchor outside the chain is found by a signature, which is no matter of form.
    if verified.anchor_position != _OUTSIDE:
        _FORMS.put(key, verified)
    return verified


@dataclass(slots=True)
class _Walk:
    """One verification: what is given, and what the checks have found so far."""

    chain: CertificateChain
    anchors: TrustAnchors
    purpose: Purpose
    time: TimePolicy
    algorithm: SignatureAlgorithm | None
    policy: ChainPolicy
    revocation: RevocationData
    certificates: tuple[Certificate, ...] = field(init=False)
    anchor: Certificate = field(init=False)
    anchor_position: int = field(init=False, default=_OUTSIDE)
    statements: list[Statement] = field(init=False, default_factory=list)
    link: int | None = field(init=False, default=None)
    steps: list[Step] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.certificates = self.chain.parsed
        self.anchor = self.certificates[0]  # until the check of that name finds it

    # --- running -------------------------------------------------------------------------------

    def run(self) -> VerifiedChain:
        """All checks, in order."""
        for name, check in _CHECKS:
            self._step(name, check)
        self.link = len(self.certificates) - 1
        try:
            identity = Identity(self.certificates, self.policy.model)
            public_key = self.leaf.signing_key
        except (DecodeError, UnsupportedAlgorithm) as error:
            raise self._failed("claims", str(error), error.hint) from error
        return VerifiedChain(
            self.chain,
            self.purpose,
            self.anchor,
            self.anchor_position,
            public_key,
            identity,
            tuple(self.steps),
            self.time.at,
            tuple(self.statements),
            _MAKER,
        )

    def renew(self, known: VerifiedChain, again: tuple[int, ...]) -> VerifiedChain:
        """A chain that is known, with some of its checks done again, by their position."""
        self.certificates = known.chain.parsed  # the same bytes, parsed already
        self.anchor = known.anchor
        self.anchor_position = known.anchor_position
        self.statements = list(known.statements)
        for position in again:
            name, check = _CHECKS[position]
            self.steps += known.steps[len(self.steps) : position]
            self._step(name, check)
        self.steps += known.steps[len(self.steps) :]
        return VerifiedChain(
            known.chain,
            known.purpose,
            known.anchor,
            known.anchor_position,
            known.public_key,
            known.identity,
            tuple(self.steps),
            self.time.at,
            tuple(self.statements),
            _MAKER,
        )

    def _step(self, name: str, check: _Check) -> None:
        self.link = None
        try:
            result = check(self)
        except _Refused as refusal:
            raise self._failed(name, refusal.reason, refusal.hint) from refusal.__cause__
        except DecodeError as error:
            raise self._failed(name, f"cannot be read: {error}") from error
        except UnsupportedAlgorithm as error:
            raise self._failed(name, str(error), error.hint) from error
        step = result if isinstance(result, Step) else Step(name, Outcome.PASSED, result)
        self.steps.append(step)

    def _failed(self, name: str, reason: str, hint: str = "") -> ChainError:
        subject = "" if self.link is None else _subject(self._at(self.link))
        error = ChainError(name, reason, link=self.link, subject=subject, hint=hint)
        detail = error.reason.removeprefix(f"{name}: ")
        error.steps = (*self.steps, Step(name, Outcome.FAILED, detail))
        return error

    # --- reading -------------------------------------------------------------------------------

    @property
    def leaf(self) -> Certificate:
        return self.certificates[-1]

    def _at(self, position: int) -> Certificate:
        return self.anchor if position == _OUTSIDE else self.certificates[position]

    def look(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Certificate]]:
        """Certificates by position; errors meanwhile name the one looked at."""
        for position in range(start, len(self.certificates) if stop is None else stop):
            self.link = position
            yield position, self._at(position)
        self.link = None

    def trusted_path(self) -> Iterator[tuple[int, Certificate]]:
        """From the anchor, which may stand outside, to the last certificate."""
        return self.look(self.anchor_position)

    def issuers(self) -> Iterator[tuple[int, Certificate]]:
        """From the anchor to the last certificate that issued another."""
        return self.look(self.anchor_position, len(self.certificates) - 1)

    def on_leaf(self) -> Certificate:
        """The leaf; errors from here on name it."""
        self.link = len(self.certificates) - 1
        return self.leaf


_Check = Callable[[_Walk], "str | Step"]


class _Refused(Exception):
    """A check that failed: why, and what to try."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def _subject(certificate: Certificate) -> str:
    try:
        return certificate.subject or "no subject"
    except DecodeError:
        return "unreadable"


# --- the checks ----------------------------------------------------------------------------------


def _structure(walk: _Walk) -> str:
    """Each certificate can be read, is X.509 version 3, and stands there once."""
    count = len(walk.certificates)
    if count > walk.policy.max_certificates:
        raise _Refused(f"{count} certificates, at most {walk.policy.max_certificates} are accepted")
    seen: set[bytes] = set()
    for _, certificate in walk.look():
        if certificate.version != 3:
            raise _Refused(f"X.509 version {certificate.version}, not 3 (DSP0274 10.9.2)")
        _ = certificate.x509
        if certificate.der in seen:
            raise _Refused("stands in the chain twice")
        seen.add(certificate.der)
    return f"{count} certificates, {len(walk.chain.raw)} bytes"


def _anchor(walk: _Walk) -> str:
    """The chain holds one of our anchors, or one of them signed its first certificate."""
    last = len(walk.certificates) - 1
    for position in range(last, -1, -1):
        certificate = walk.certificates[position]
        if certificate in walk.anchors and (position < last or walk.anchors.accept_leaf):
            walk.anchor, walk.anchor_position = certificate, position
            return f"certificate {position}: {certificate.subject}"
    first = walk.certificates[0]
    for candidate in walk.anchors.by_subject(first.issuer_der):
        try:
            first.verify_signature(candidate)
        except (AuthenticationError, DecodeError):
            continue
        if candidate == walk.leaf:
            continue
        walk.anchor, walk.anchor_position = candidate, _OUTSIDE
        return f"{candidate.subject}, which signed the first certificate"
    if walk.leaf in walk.anchors:
        raise _Refused(
            "only the leaf itself is among the trust anchors",
            "to trust one device by its own certificate, say so when loading the anchor",
        )
    raise _Refused(
        f"none of our {len(walk.anchors)} trust anchors for the purpose "
        f"{walk.purpose.value!r} is in this chain or signed its first certificate "
        f"({first.subject}, sha256:{first.sha256.hex()}; issued by {first.issuer})",
        "check that the trust anchor is the root of this device's manufacturer",
    )


def _root_hash(walk: _Walk) -> str | Step:
    """RootHash is the digest of the root certificate (DSP0274 table 39)."""
    digest = walk.chain.hash_algorithm.digest
    found = walk.chain.root_hash
    first = walk.certificates[0]
    if found == digest(first.der):
        return "digest of the first certificate"
    if walk.anchor_position == _OUTSIDE and found == digest(walk.anchor.der):
        return "digest of the trust anchor, which signed the first certificate"
    if walk.anchor_position > 0 and not first.self_issued:
        return Step(
            "root-hash",
            Outcome.NOT_CHECKED,
            "the chain leaves its root out and we trust a certificate below it",
        )
    raise _Refused("RootHash is not the digest of the root certificate")


def _algorithms(walk: _Walk) -> str:
    """Keys and hashes are strong enough to be believed."""
    for position, certificate in walk.look(min(walk.anchor_position, 0)):
        kind = certificate.key_type
        if kind.startswith("rsa-"):
            bits = int(kind.removeprefix("rsa-"))
            if not walk.policy.minimum_rsa_bits <= bits <= _MAX_RSA_BITS:
                raise _Refused(
                    f"RSA key of {bits} bits, {walk.policy.minimum_rsa_bits} to {_MAX_RSA_BITS} "
                    "are accepted"
                )
        if position < 0 or (position == 0 and walk.anchor_position != _OUTSIDE):
            continue  # nobody relies on this one's own signature
        used = certificate.signature_hash
        if used and used not in walk.policy.hashes:
            raise _Refused(f"signed by {certificate.signature_name}: {used} is not accepted")
    return ", ".join(dict.fromkeys(item.key_type for item in walk.certificates))


def _names(walk: _Walk) -> str:
    """Each certificate is issued by the one before it (RFC 5280 6.1.3 a 4)."""
    for position, certificate in walk.look(1):
        issuer = walk.certificates[position - 1]
        if certificate.issuer_der != issuer.subject_der:
            raise _Refused(
                f"issued by {certificate.issuer}, but the certificate before it is "
                f"{issuer.subject}",
                "SPDM chains run from the root to the leaf",
            )
    return "each certificate names the one before it as issuer"


def _signatures(walk: _Walk) -> str:
    """Each certificate is signed by the one before it."""
    for position, certificate in walk.look(1):
        issuer = walk.certificates[position - 1]
        try:
            certificate.verify_signature(issuer)
        except AuthenticationError as error:
            raise _Refused(f"the signature by the certificate before it {error.reason}") from error
    links = len(walk.certificates) - 1 + (walk.anchor_position == _OUTSIDE)
    return f"{links} verified"


def _validity(walk: _Walk) -> str | Step:
    """Each certificate from the anchor down is valid at the moment asked for."""
    if walk.time.ignore_validity or walk.time.at is None:
        return Step("validity", Outcome.NOT_CHECKED, "validity periods are ignored on request")
    at = walk.time.at
    ends = _NEVER
    for _, certificate in walk.trusted_path():
        if at < certificate.not_before:
            raise _Refused(
                f"not valid before {moment_text(certificate.not_before)}, checked at "
                f"{moment_text(at)}",
                "check this machine's clock",
            )
        if at > certificate.not_after:
            raise _Refused(
                f"ended {moment_text(certificate.not_after)}, checked at {moment_text(at)}",
                "renew the certificate, or judge at an earlier time",
            )
        ends = min(ends, certificate.not_after)
    return f"valid at {moment_text(at)}, until {ends.date().isoformat()}"


def _critical_extensions(walk: _Walk) -> str:
    """No certificate demands what is not processed here (RFC 5280 4.2)."""
    for _, certificate in walk.trusted_path():
        for oid, critical in certificate.extensions.items():
            if oid == oids.NAME_CONSTRAINTS:
                raise _Refused("has name constraints, which are not processed here")
            if critical and oid not in walk.policy.critical_extensions:
                raise _Refused(f"has the unknown critical extension {oid}")
            if critical and oid in (oids.DICE_TCB_INFO, oids.DICE_MULTI_TCB_INFO):
                read_tcb_infos(certificate)
    return "all known"


def _basic_constraints(walk: _Walk) -> str:
    """Issuers are certificate authorities within their path length, the leaf is none."""
    count = len(walk.certificates)
    end = count if walk.policy.ends_in_ca else count - 1
    for position, certificate in walk.look(walk.anchor_position, end):
        constraints = certificate.basic_constraints
        if constraints is None or not constraints.ca:
            raise _Refused("issues a certificate but is no certificate authority's (CA)")
        following = sum(not item.self_issued for item in walk.certificates[position + 1 : end])
        if constraints.path_length is not None and following > constraints.path_length:
            raise _Refused(
                f"allows {constraints.path_length} authorities below it, there are {following}"
            )
    if walk.policy.ends_in_ca:
        return "all are certificate authorities"
    constraints = walk.on_leaf().basic_constraints
    if constraints is not None and constraints.ca:
        raise _Refused("the leaf says that it is a certificate authority's (DSP0274 10.9.2)")
    if constraints is None and walk.policy.demand_leaf_basic_constraints:
        raise _Refused("the leaf has no basicConstraints, which SPDM 1.2 and later demand (10.9.2)")
    return "authorities above, none at the leaf"


def _key_usage(walk: _Walk) -> str:
    """Issuers may sign certificates, the leaf may sign data."""
    for _, certificate in walk.issuers():
        usage = certificate.key_usage
        if usage is not None and not usage.key_cert_sign:
            raise _Refused("its key may not sign certificates (keyUsage)")
    usage = walk.on_leaf().key_usage
    if walk.policy.ends_in_ca:
        if usage is not None and not usage.key_cert_sign:
            raise _Refused("its key may not sign certificates (keyUsage)")
        return "all may sign certificates"
    optional = walk.policy.model is CertificateModel.GENERIC
    if usage is None and walk.policy.demand_leaf_key_usage and not optional:
        raise _Refused("the leaf has no keyUsage (DSP0274 10.9.2)")
    if usage is not None and not usage.digital_signature:
        raise _Refused("the leaf's key may not sign data (keyUsage digitalSignature)")
    return "as DSP0274 10.9.2 wants"


def _extended_key_usage(walk: _Walk) -> str | Step:
    """The leaf's key may be used in our peer's role (DSP0274 10.9.2.1)."""
    role = _ROLES.get(walk.purpose)
    if role is None or walk.policy.ends_in_ca:
        return Step("extended-key-usage", Outcome.SKIPPED, "asks nothing of this purpose")
    ours, others, name = role
    rule = walk.policy.key_purpose
    purposes = walk.on_leaf().extended_key_usage
    if purposes is None:
        if rule is KeyPurposeRule.DEMANDED:
            raise _Refused(f"names no key purpose, and SPDM {name} authentication is demanded")
        return "not restricted"
    if ours in purposes:
        return f"SPDM {name} authentication"
    if rule is KeyPurposeRule.DEMANDED:
        raise _Refused(f"is not for SPDM {name} authentication (extendedKeyUsage)")
    if others in purposes:
        raise _Refused(f"is for SPDM's other role only, not for {name} authentication")
    if oids.ANY_EXTENDED_KEY_USAGE in purposes:
        return "any purpose"
    if not oids.DICE_KEY_PURPOSES.isdisjoint(purposes):
        return "DICE identity or attestation"
    if rule is KeyPurposeRule.IF_PRESENT:
        raise _Refused(
            f"has key purposes, none of them SPDM {name} authentication ({', '.join(purposes)})"
        )
    return f"names purposes outside SPDM ({', '.join(sorted(purposes))})"


def _certificate_model(walk: _Walk) -> str:
    """Hardware identity and mutable certificates stand where the model has them (7.2.1.1)."""
    certificates = walk.certificates
    last = len(certificates) - 1
    hardware = [position for position, item in walk.look() if item.hardware_identity]
    mutable = [position for position, item in walk.look() if item.mutable]
    if mutable and mutable != list(range(mutable[0], last + 1)):
        walk.link = next(n for n in range(mutable[0], last + 1) if n not in mutable)
        raise _Refused("stands below a mutable certificate and is not marked as one (10.9.2.2.2)")
    if mutable and hardware and mutable[0] <= hardware[-1]:
        walk.link = hardware[-1]
        raise _Refused("is marked as hardware identity and as mutable, or stands below a mutable")
    _MODEL_RULES[walk.policy.model](walk, hardware, mutable)
    if walk.policy.demand_hardware_identity and not hardware:
        raise _Refused("no certificate is marked as hardware identity")
    told = walk.policy.model
    marks = f"hardware identity: {hardware[-1] if hardware else 'unmarked'}"
    return f"{told.name.lower() if told else 'not told'}; {marks}"


def _device_model(walk: _Walk, _hardware: list[int], mutable: list[int]) -> None:
    if mutable:
        walk.link = mutable[0]
        raise _Refused("is marked as mutable, which the device model has none of")
    _leaf_names(walk)


def _alias_model(walk: _Walk, hardware: list[int], _mutable: list[int]) -> None:
    last = len(walk.certificates) - 1
    if walk.policy.ends_in_ca:
        return
    if last == 0:
        raise _Refused("a single certificate is no alias chain (DSP0274 10.7)")
    if last in hardware:
        walk.link = last
        raise _Refused("is an alias certificate and marked as hardware identity (10.9.2.2.1)")
    if len(hardware) > 1:
        walk.link = hardware[-1]
        raise _Refused("stands below the hardware identity and is marked as one (10.9.2.2.1)")
    _leaf_names(walk)


def _leaf_names(walk: _Walk) -> None:
    """Subject and issuer are mandatory in device and alias leaves (10.9.2, table 48)."""
    leaf = walk.on_leaf()
    if not leaf.subject or not leaf.issuer:
        raise _Refused("the leaf has an empty subject or issuer (DSP0274 10.9.2)")
    walk.link = None


def _no_rules(_walk: _Walk, _hardware: list[int], _mutable: list[int]) -> None:
    """What holds for all models has been checked; the generic model asks nothing more."""


_MODEL_RULES: Final = {
    CertificateModel.NONE: _no_rules,
    CertificateModel.DEVICE: _device_model,
    CertificateModel.ALIAS: _alias_model,
    CertificateModel.GENERIC: _no_rules,
}


def _leaf_key(walk: _Walk) -> str | Step:
    """The leaf's key fits the negotiated signature algorithm."""
    kind = walk.on_leaf().key_type
    if walk.algorithm is None:
        return Step("leaf-key", Outcome.SKIPPED, f"{kind}; no algorithm was negotiated")
    if kind != walk.algorithm.key_type:
        raise _Refused(f"key of kind {kind}, but {walk.algorithm.name} was negotiated")
    return f"{kind}, as {walk.algorithm.name} wants"


def _revocation(walk: _Walk) -> str | Step:
    """What CRLs and OCSP responses at hand say of each certificate below the anchor."""
    if not walk.revocation and not walk.policy.demand_revocation:
        return Step("revocation", Outcome.NOT_CHECKED, "no CRL or OCSP response given")
    at = None if walk.time.ignore_validity else walk.time.at
    walk.statements = []
    uncovered: list[int] = []
    below_device = False
    for position, certificate in walk.look(walk.anchor_position + 1):
        issuer = walk.anchor if position == 0 else walk.certificates[position - 1]
        below_device = below_device or (position > 0 and issuer.hardware_identity)
        try:
            statement = walk.revocation.check(certificate, issuer, at)
        except RevocationError as problem:
            raise _Refused(str(problem)) from problem
        if statement is not None:
            walk.statements.append(statement)
            continue
        if walk.policy.demand_revocation and not below_device:
            raise _Refused("no CRL or OCSP response covers it, and one is demanded")
        uncovered.append(position)
    covered = f"{len(walk.statements)} not revoked"
    if not uncovered:
        return covered
    positions = ", ".join(map(str, uncovered))
    return Step(
        "revocation",
        Outcome.NOT_CHECKED,
        f"{covered}; nothing given covers certificate {positions}",
    )


_CHECKS: Final[tuple[tuple[str, _Check], ...]] = (
    ("structure", _structure),
    ("anchor", _anchor),
    ("root-hash", _root_hash),
    ("algorithms", _algorithms),
    ("names", _names),
    ("signatures", _signatures),
    ("validity", _validity),
    ("critical-extensions", _critical_extensions),
    ("basic-constraints", _basic_constraints),
    ("key-usage", _key_usage),
    ("extended-key-usage", _extended_key_usage),
    ("certificate-model", _certificate_model),
    ("leaf-key", _leaf_key),
    ("revocation", _revocation),
)


def _positions(*names: str) -> tuple[int, ...]:
    return tuple(position for position, (name, _) in enumerate(_CHECKS) if name in names)


_TIMED: Final = _positions("validity", "revocation")
"""The checks whose verdict changes with time alone; run again on what the cache remembers."""

_AGAIN: Final = _positions("signatures", "validity", "revocation")
"""The checks that are done each time where no cache was given."""

_FORMS: Final = ChainCache(256)

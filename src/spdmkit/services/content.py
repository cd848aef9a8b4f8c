"""What SET_REFERENCE and SET_POLICY carry: elements of opaque data, each a tagged CBOR item.

DSP0287 leaves the data models open. Here each element is of the registry "IANA CBOR" (0x0A), where
VendorID is the encoded tag with which the data begins as well (DSP0274 table 67):

    501        a CoRIM                                         reference values
    18         COSE_Sign1 around a CoRIM                       signed reference values
    POLICY_TAG a policy file of spdmkit as text                a policy
    18         COSE_Sign1 with the content type POLICY_TYPE    a signed policy

Signed data guarantees its integrity and authenticity by a signer the device was told to trust for
that purpose, and its freshness by a period of validity that lasts and a version above what the
device holds. Several elements may be versions of one thing in several formats; those of a format
that is not known are passed over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spdmkit.attestation import cbor
from spdmkit.attestation.cose import CONTENT_TYPE, SIGN1_TAG, X5CHAIN, Sign1, make_sign1
from spdmkit.attestation.policy import DEFAULT_POLICY, Policy
from spdmkit.attestation.policy_file import (
    MAX_POLICY_SIZE,
    POLICY_TAG,
    pack_policy,
    read_policy,
    unpack_policy,
)
from spdmkit.attestation.reference import corim
from spdmkit.attestation.reference.corim_write import to_corim
from spdmkit.attestation.reference.loader import Reference, read_references
from spdmkit.attestation.reference.model import Manifest
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import (
    CertificateChain,
    ChainPolicy,
    Purpose,
    TimePolicy,
    TrustAnchors,
    verify_chain,
)
from spdmkit.messages import Context, Registry
from spdmkit.messages.opaque import GeneralOpaqueData, OpaqueElement

__all__ = [
    "POLICY_TYPE",
    "Given",
    "GivenPolicy",
    "GivenReference",
    "describe_policy",
    "elements_of",
    "policy_document",
    "read_given_policy",
    "read_given_reference",
    "reference_document",
    "sign_policy",
    "understood",
    "unverified_manifests",
]

POLICY_TYPE: Final = "application/vnd.spdmkit.policy+cbor"
"""Content type of a signed policy."""
CORIM_TAG: Final = 501
_MOST_ELEMENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Given:
    """One element, read, with what vouches for it.

    Attributes:
        data: the element's bytes.
        versions: what it is a version of -> which version.
        signer: subject of the signer that was verified, or empty.
        doubt: why the data does not guarantee its integrity, authenticity and freshness by itself;
            empty when it does.
    """

    data: bytes
    versions: Mapping[str, int]
    signer: str
    doubt: str

    @property
    def guaranteed(self) -> bool:
        """The data may come outside a session."""
        return not self.doubt

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, lower-case hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class GivenReference(Given):
    """Reference values that were given.

    Attributes:
        references: the values.
    """

    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenPolicy(Given):
    """A policy that was given.

    Attributes:
        policy: the policy.
    """

    policy: Policy = DEFAULT_POLICY


# --- elements ------------------------------------------------------------------------------------


def elements_of(documents: Iterable[bytes]) -> list[OpaqueElement]:
    """Documents as elements, in order.

    Raises:
        DecodeError: a document does not begin with a CBOR tag.
    """
    return [
        OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=_tag_head(data), data=data)
        for data in documents
    ]


def understood(opaque: bytes, context: Context, tags: frozenset[int]) -> list[bytes]:
    """The data of the elements that are in a known format.

    Args:
        opaque: the field Reference or Policy.
        context: of the connection.
        tags: the CBOR tags that are known.

    Raises:
        DecodeError: malformed, too many, an element's VendorID is not the tag of its data, or no
            element is in a known format.
    """
    elements = GeneralOpaqueData.decode(opaque, context).elements
    if len(elements) > _MOST_ELEMENTS:
        raise DecodeError("GeneralOpaqueData", "TotalElements", 0, f"{len(elements)} are too many")
    found: list[bytes] = []
    for element in elements:
        if element.registry != Registry.IANA_CBOR:
            continue
        head = _tag_head(element.data)
        if element.vendor_id != head:
            raise DecodeError("OpaqueElement", "VendorID", 2, "is not the tag of the data")
        if _tag_number(head) in tags:
            found.append(element.data)
    if not found:
        raise DecodeError("GeneralOpaqueData", "OpaqueList", 4, "no element is in a known format")
    return found


def _tag_head(data: bytes) -> bytes:
    """The encoded tag that CBOR data begins with."""
    if not data or data[0] >> 5 != 6 or data[0] & 0x1F > 27:
        raise DecodeError("OpaqueElement", "OpaqueElementData", 0, "does not begin with a CBOR tag")
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(data[0] & 0x1F, 0)
    if len(data) < 1 + size:
        raise DecodeError("OpaqueElement", "OpaqueElementData", 0, "the CBOR tag is cut off")
    return data[: 1 + size]


def _tag_number(head: bytes) -> int:
    return int.from_bytes(head[1:], "big") if len(head) > 1 else head[0] & 0x1F


# --- reference values ----------------------------------------------------------------------------

REFERENCE_TAGS: Final = frozenset({CORIM_TAG, SIGN1_TAG})


def reference_document(name: str, data: bytes, manifests: Sequence[Manifest]) -> bytes:
    """A file of reference values in the form a device takes: a CoRIM as it is, others as CoRIM.

    Args:
        name: the file's name, for errors.
        data: its bytes.
        manifests: what was read from it.

    Raises:
        ConfigurationError: CoRIM has no words for something in it.
    """
    if corim.looks_like_corim(data):
        return data
    try:
        return to_corim(manifests)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}", hint=error.hint) from error


def unverified_manifests(data: bytes) -> tuple[Manifest, ...]:
    """What a CoRIM says, its signature not verified.

    Raises:
        DecodeError, ConfigurationError: malformed, or not to be used here.
    """
    signed = corim.open_signed(data)
    if signed is None:
        return corim.manifests_from_corim(data)
    period = corim.signature_validity(signed)
    return corim.manifests_from_corim(signed.payload or b"", validity=period)


def read_given_reference(
    data: bytes, anchors: TrustAnchors | None, time: int, held: Mapping[str, int]
) -> GivenReference:
    """Read reference values that somebody gives to a device, and say what they guarantee.

    Where signers are trusted, a signed CoRIM has to be signed by one of them, whatever it came in.

    Args:
        data: the element's bytes.
        anchors: roots of signers of reference values, or None.
        time: seconds since 1970.
        held: manifest -> the version that is held.

    Raises:
        AuthenticationError: step "reference-signature".
        DecodeError, ConfigurationError: malformed, or not to be used here.
    """
    source = "reference values"
    signer = ""
    if corim.open_signed(data) is not None and anchors is None:
        # Nobody vouches for the signature: what is inside is as good as the session it came in.
        digest = hashlib.sha256(data).hexdigest()
        manifests = unverified_manifests(data)
        references = tuple(Reference(manifest, source, digest) for manifest in manifests)
    else:
        references = read_references(data, SignerCheck(anchors, time), source=source)
        signers = {each.signer.subject for each in references if each.signer is not None}
        signer = ", ".join(sorted(signers))
    versions = {each.manifest.manifest_id: each.manifest.revision for each in references}
    ends = [each.manifest.not_after for each in references]
    stale = next((text for each in references if (text := each.manifest.staleness(time))), "")
    doubt = _doubt(signer, versions, held, endless=None in ends, stale=stale)
    return GivenReference(data, versions, signer, doubt, references)


def _doubt(
    signer: str, versions: Mapping[str, int], held: Mapping[str, int], *, endless: bool, stale: str
) -> str:
    if not signer:
        return "not signed by anybody who is trusted for it"
    if stale:
        return stale
    if endless:
        return "its validity has no end"
    for name, version in versions.items():
        if version <= held.get(name, -1):
            return f"version {version} of {name} is not above version {held[name]}, which is held"
    return ""


# --- policies ------------------------------------------------------------------------------------

POLICY_TAGS: Final = frozenset({POLICY_TAG, SIGN1_TAG})


def policy_document(data: bytes) -> bytes:
    """A policy file, or a signed policy as it is, in the form a device takes.

    Raises:
        ConfigurationError: it is neither.
    """
    if data[:1] == bytes([0xC0 | SIGN1_TAG]):
        return data
    return pack_policy(data)


def describe_policy(document: bytes) -> str:
    """Name and version of a policy in the form a device takes, its signature not verified.

    Raises:
        DecodeError, ConfigurationError: it is none.
    """
    content = document
    if document[:1] == bytes([0xC0 | SIGN1_TAG]):
        content = _open_signed_policy(document).payload or b""
    return read_policy(unpack_policy(content), "policy").identifier


def sign_policy(policy: bytes, key: PrivateKey, certificates: Sequence[bytes]) -> bytes:
    """A policy file, signed (COSE_Sign1).

    Args:
        policy: the file; it should have a version and an end of validity.
        key: the signer's key; it decides the algorithm.
        certificates: the signer's chain in DER, signer first.

    Raises:
        ConfigurationError: it is no policy.
        UnsupportedAlgorithm: COSE has no algorithm for the key.
    """
    chain = list(certificates)
    header = {CONTENT_TYPE: POLICY_TYPE, X5CHAIN: chain[0] if len(chain) == 1 else chain}
    return cbor.encode(make_sign1(key, pack_policy(policy), protected=header))


def read_given_policy(
    data: bytes, anchors: TrustAnchors | None, time: int, held: Mapping[str, int]
) -> GivenPolicy:
    """Read a policy that somebody gives to a device, and say what it guarantees.

    Args and errors are those of `read_given_reference`; the step is "policy-signature". A device
    holds one policy, so that its version counts whatever its name. A policy that names files is
    refused: whoever sends it has no business in ours.
    """
    signer, content = "", data
    if data[:1] == bytes([0xC0 | SIGN1_TAG]):
        signed = _open_signed_policy(data)
        content = signed.payload or b""
        signer = "" if anchors is None else _policy_signer(signed, anchors, time)
    policy = read_policy(unpack_policy(content), "policy")
    _refuse_files(policy)
    versions = {policy.name: policy.version}
    highest = {policy.name: max(held.values())} if held else {}
    doubt = _doubt(
        signer, versions, highest, endless=policy.not_after is None, stale=policy.staleness(time)
    )
    return GivenPolicy(data, versions, signer, doubt, policy)


def _open_signed_policy(data: bytes) -> Sign1:
    item = cbor.decode(data, what="policy", limit=MAX_POLICY_SIZE + (64 << 10))
    signed = Sign1.read(item, what="policy")
    if signed.protected.get(CONTENT_TYPE) != POLICY_TYPE:
        raise DecodeError("policy", "content type", 0, f"is not {POLICY_TYPE}")
    if signed.payload is None:
        raise DecodeError("policy", "payload", 0, "is detached")
    return signed


def _policy_signer(signed: Sign1, anchors: TrustAnchors, time: int) -> str:
    """The subject of the signer, once its chain and the signature are verified."""
    step = "policy-signature"
    try:
        chain = CertificateChain.from_certificates(
            tuple(reversed(signed.certificates(what="policy"))), BASE_HASH.by_name("sha-256")
        )
        verified = verify_chain(
            chain,
            anchors,
            purpose=Purpose.POLICY_SIGNER,
            time=TimePolicy(dt.datetime.fromtimestamp(time, dt.UTC)),
            policy=ChainPolicy(demand_leaf_basic_constraints=False),
        )
        signed.verify(verified.public_key)
    except AuthenticationError as error:
        raise AuthenticationError(step, error.reason, hint=error.hint) from error
    except ConfigurationError as error:
        raise AuthenticationError(step, f"the signer's certificates: {error}") from error
    return verified.leaf.subject


def _refuse_files(policy: Policy) -> None:
    rule, references = policy.identity, policy.references
    named = (*rule.trust_anchors, *rule.crls, *rule.ocsp, *references.signers)
    if named or references.store is not None:
        raise ConfigurationError("a policy for a device must not name files")

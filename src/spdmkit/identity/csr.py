"""Certificate signing requests (PKCS #10, RFC 2986) as GET_CSR and CSR carry them.

GET_CSR brings an unsigned CertificationRequestInfo (RequesterInfo, DSP0274 GET_CSR): the subject
and the attributes that the Requester wishes for. The device puts its own key in, adds what it
knows of itself, and signs. Whoever receives the CSR verifies that its holder has the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from cryptography import x509

from spdmkit.crypto.der import (
    BOOLEAN,
    SEQUENCE,
    SET,
    Reader,
    context,
    encode_integer,
    encode_object_identifier,
    sequence,
    tlv,
)
from spdmkit.crypto.keys import PublicKey
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import oids
from spdmkit.identity.certificate import Extended, is_raw_key, name_text, reading, verify_raw
from spdmkit.identity.issue import (
    NameLike,
    Profile,
    distinguished_name,
    encode_extension,
    profile_extensions,
)
from spdmkit.identity.scheme import Scheme

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey

__all__ = [
    "EXTENSION_REQUEST",
    "MAX_CSR",
    "Attribute",
    "CertificateRequest",
    "RequesterInfo",
    "build_csr",
    "verify_csr",
]

EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"
"""The attribute that asks for extensions (RFC 2985 5.4.2)."""

MAX_CSR: Final = 0xFFFF
"""CSRLength and RequesterInfoLength are 16 bits wide."""

_MAX_ATTRIBUTES: Final = 64
_ATTRIBUTES: Final = context(0, constructed=True)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a request.

    Attributes:
        oid: its type, dotted.
        values: its values in DER, at least one.
    """

    oid: str
    values: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The attribute in DER; a SET OF is sorted (X.690 11.6)."""
        return sequence(encode_object_identifier(self.oid), tlv(SET, *sorted(self.values)))


@dataclass(frozen=True, slots=True)
class RequesterInfo:
    """A CertificationRequestInfo, unsigned (RFC 2986 4.1).

    Attributes:
        subject: the Name in DER; an empty SEQUENCE asks for no subject.
        spki: SubjectPublicKeyInfo in DER; in a GET_CSR the device puts its own in its place.
        attributes: what else is wished for.
    """

    subject: bytes
    spki: bytes
    attributes: tuple[Attribute, ...] = ()

    @classmethod
    def make(
        cls,
        subject: NameLike,
        public_key: PublicKey,
        profile: Profile | None = None,
        attributes: tuple[Attribute, ...] = (),
    ) -> RequesterInfo:
        """Wish for a subject and for what a profile says.

        Args:
            subject: the name wanted.
            public_key: the device's key, as far as it is known (its leaf's, or any of its kind).
            profile: extensions to ask for.
            attributes: further attributes, vendor's own for example.

        Raises:
            ConfigurationError: a name or a profile that no request can carry.
        """
        asked = (_extension_request(profile),) if profile is not None else ()
        return cls(
            distinguished_name(subject).public_bytes(), public_key.spki(), asked + attributes
        )

    @classmethod
    def parse(cls, der: bytes | bytearray | memoryview) -> RequesterInfo:
        """Read RequesterInfo of a GET_CSR.

        Raises:
            DecodeError: not a CertificationRequestInfo, or an attribute stands there twice.
        """
        if len(der) > MAX_CSR:
            raise DecodeError("GET_CSR", "RequesterInfo", 0, f"{len(der)} bytes")
        whole = Reader(bytes(der), structure="CertificationRequestInfo")
        info = whole.sequence("CertificationRequestInfo")
        whole.finish("CertificationRequestInfo")
        version = info.integer("version")
        if version != 0:
            raise info.fail("version", f"{version}, but only 0 (v1) exists")
        if info.next_tag() != SEQUENCE:
            raise info.fail("subject", "not a Name")
        subject = info.take_any("subject")
        if info.next_tag() != SEQUENCE:
            raise info.fail("subjectPKInfo", "not a SubjectPublicKeyInfo")
        spki = info.take_any("subjectPKInfo")
        attributes: tuple[Attribute, ...] = ()
        if info:  # RFC 2986 wants the set even when empty; its absence can mean nothing else
            attributes = _read_attributes(info.enter(_ATTRIBUTES, "attributes"))
        info.finish("attributes")
        _check_name(subject)
        return cls(subject, spki, attributes)

    def encode(self) -> bytes:
        """The structure in DER."""
        items = sorted(attribute.encode() for attribute in self.attributes)
        return sequence(encode_integer(0), self.subject, self.spki, tlv(_ATTRIBUTES, *items))

    @property
    def has_subject(self) -> bool:
        """Whether a subject is asked for."""
        return self.subject != sequence()

    def requested_extensions(self) -> tuple[tuple[str, bool, bytes], ...]:
        """Extensions asked for: dotted object identifier, critical, DER of the value.

        Raises:
            DecodeError: the attribute is not well formed, or asks for one extension twice.
        """
        found: dict[str, tuple[str, bool, bytes]] = {}
        for attribute in self.attributes:
            if attribute.oid != EXTENSION_REQUEST:
                continue
            if len(attribute.values) != 1:
                raise DecodeError(
                    "CertificationRequestInfo", "extensionRequest", 0, "not one value"
                )
            for extension in _read_extensions(attribute.values[0]):
                if extension[0] in found:
                    raise DecodeError(
                        "CertificationRequestInfo", "extensionRequest", 0, f"{extension[0]} twice"
                    )
                found[extension[0]] = extension
        return tuple(found.values())


class CertificateRequest(Extended):
    """A signing request whose signature has been verified; `verify_csr` makes it.

    Attributes:
        der: the request as it came.
        info: what it asks for.
    """

    def __init__(self, der: bytes, info: RequesterInfo, request: x509.CertificateSigningRequest):
        self.der = der
        self.info = info
        self._request = request

    @property
    def spki(self) -> bytes:
        """The key's SubjectPublicKeyInfo in DER."""
        return self.info.spki

    @cached_property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return hashlib.sha256(self.spki).digest()

    @cached_property
    def public_key(self) -> PublicKey:
        """The key to certify."""
        return PublicKey.from_spki(self.spki)

    @cached_property
    def subject(self) -> str:
        """The subject as text, safe to print; may be empty."""
        return name_text(lambda: self._request.subject, "subject")

    @property
    def name(self) -> x509.Name:
        """The subject, for issuing."""
        with reading("subject"):
            return self._request.subject

    @cached_property
    def _parsed_extensions(self) -> x509.Extensions:
        with reading("extensions"):
            return self._request.extensions


def verify_csr(
    der: bytes | bytearray | memoryview, *, expected_key: PublicKey | None = None
) -> CertificateRequest:
    """Read a signing request and verify that its maker holds the private key.

    Args:
        der: PKCS #10 in DER.
        expected_key: the key that it must be for, the attested device's.

    Raises:
        DecodeError: not a signing request.
        AuthenticationError: step "csr": the signature does not verify, or it is for another key.
        UnsupportedAlgorithm: the package that knows the key is not installed.
    """
    data = bytes(der)
    if len(data) > MAX_CSR:
        raise DecodeError("CSR", "CSRData", 0, f"{len(data)} bytes, at most {MAX_CSR}")
    whole = Reader(data, structure="CertificationRequest")
    request = whole.sequence("CertificationRequest")
    whole.finish("CertificationRequest")
    signed = request.take_any("certificationRequestInfo")
    info = RequesterInfo.parse(signed)
    algorithm = request.sequence("signatureAlgorithm").object_identifier("signatureAlgorithm")
    unused, signature = request.bits("signature")
    request.finish("signature")
    key = PublicKey.from_spki(info.spki)
    with reading("CertificationRequest"):
        parsed = x509.load_der_x509_csr(data)
        _ = parsed.extensions
        if not is_raw_key(key.key_type):
            valid = parsed.is_signature_valid
        else:
            valid = not unused and _raw_signature_holds(info.spki, algorithm, signature, signed)
    if not valid:
        raise AuthenticationError("csr", "the signing request is not signed by the key it is for")
    if expected_key is not None and key != expected_key:
        raise AuthenticationError(
            "csr",
            f"the signing request is for the key spki-sha256:{key.spki_sha256().hex()}, "
            f"the attested one is spki-sha256:{expected_key.spki_sha256().hex()}",
        )
    return CertificateRequest(data, info, parsed)


def _raw_signature_holds(spki: bytes, algorithm: str, signature: bytes, signed: bytes) -> bool:
    try:
        verify_raw(spki, algorithm, signature, signed)
    except AuthenticationError:
        return False
    return True


def build_csr(
    key: PrivateKey,
    *,
    subject: NameLike,
    profile: Profile,
    requester_info: RequesterInfo | None = None,
    pss: bool = False,
    hash_name: str = "",
) -> bytes:
    """Make the CSR that answers a GET_CSR.

    Of the wishes, the subject is taken when there is one, and all attributes. Extensions wished for
    are taken unless the device's own profile has the same one, or only a device can know it: what
    it is (hardware identity, CA or not, key usage, DICE) it says itself.

    Args:
        key: the private key of the slot.
        subject: the device's name for itself.
        profile: what the device says of itself: its model's marks, its device name, CA or not.
        requester_info: the wishes; None for a GET_CSR without.
        pss: sign with RSASSA-PSS when the key is RSA.
        hash_name: hash to sign with; empty takes the one that fits the key.

    Raises:
        DecodeError: the wishes are not well formed.
        ConfigurationError: the result is longer than CSRLength can say.
        UnsupportedAlgorithm: the key cannot sign requests here.
    """
    wishes = requester_info
    own = _encoded_extensions(profile)
    known = _DEVICES_OWN.union(oid for oid, _, _ in own)
    wished = () if wishes is None else wishes.requested_extensions()
    extensions = own + tuple(item for item in wished if item[0] not in known)
    others = () if wishes is None else wishes.attributes
    attributes = (
        Attribute(EXTENSION_REQUEST, (_encode_extensions(extensions),)),
        *(item for item in others if item.oid != EXTENSION_REQUEST),
    )
    name = (
        wishes.subject
        if wishes is not None and wishes.has_subject
        else distinguished_name(subject).public_bytes()
    )
    info = RequesterInfo(name, key.public_key.spki(), attributes).encode()
    scheme = Scheme.of(key, pss=pss, hash_name=hash_name, deterministic=False)
    der = scheme.signed(info)
    if len(der) > MAX_CSR:
        raise ConfigurationError(f"the signing request has {len(der)} bytes, at most {MAX_CSR}")
    return der


# --- DER -----------------------------------------------------------------------------------------

_DEVICES_OWN: Final = frozenset(
    {
        oids.BASIC_CONSTRAINTS,
        oids.KEY_USAGE,
        oids.SPDM_EXTENSION,
        oids.DICE_TCB_INFO,
        oids.DICE_MULTI_TCB_INFO,
        oids.DICE_UEID,
    }
)
"""Extensions that only the device says something about, whatever the Requester wishes."""


def _read_attributes(attributes: Reader) -> tuple[Attribute, ...]:
    found: dict[str, Attribute] = {}
    while attributes:
        if len(found) == _MAX_ATTRIBUTES:
            raise attributes.fail("attributes", f"more than {_MAX_ATTRIBUTES}")
        entry = attributes.sequence("attribute")
        oid = entry.object_identifier("type")
        values = entry.enter(SET, "values")
        entry.finish("values")
        items: list[bytes] = []
        while values:
            items.append(values.take_any("value"))
        if not items:
            raise values.fail("values", "is empty")
        if oid in found:
            raise entry.fail("type", f"{oid} stands there twice")
        found[oid] = Attribute(oid, tuple(items))
    return tuple(found.values())


def _check_name(name: bytes) -> None:
    """Check that a Name has the layout of one: SEQUENCE OF SET OF {type, value}."""
    reader = Reader(name, structure="CertificationRequestInfo").sequence("subject")
    while reader:
        components = reader.enter(SET, "subject")
        if not components:
            raise components.fail("subject", "has an empty component")
        while components:
            component = components.sequence("subject")
            component.object_identifier("subject")
            component.take_any("subject")
            component.finish("subject")


def _read_extensions(der: bytes) -> list[tuple[str, bool, bytes]]:
    whole = Reader(der, structure="CertificationRequestInfo")
    entries = whole.sequence("extensionRequest")
    whole.finish("extensionRequest")
    found: list[tuple[str, bool, bytes]] = []
    while entries:
        entry = entries.sequence("extension")
        oid = entry.object_identifier("extnID")
        critical = entry.next_tag() == BOOLEAN and entry.boolean("critical")
        value = entry.octets("extnValue")
        entry.finish("extnValue")
        found.append((oid, critical, value))
    return found


def _encoded_extensions(profile: Profile) -> tuple[tuple[str, bool, bytes], ...]:
    return tuple(
        (extension.oid.dotted_string, critical, extension.public_bytes())
        for extension, critical in profile_extensions(profile)
    )


def _encode_extensions(extensions: tuple[tuple[str, bool, bytes], ...]) -> bytes:
    return sequence(*(encode_extension(*extension) for extension in extensions))


def _extension_request(profile: Profile) -> Attribute:
    return Attribute(EXTENSION_REQUEST, (_encode_extensions(_encoded_extensions(profile)),))

"""Making certificates: authorities, device, alias and generic leaves, revocation lists.

Used by the software device, by the certificate authority and by tests. An `Authority` is a
certificate with its private key; it issues by a `Profile`, which says what the certificate is for.
Serial numbers and the time come from the caller's `Issuance` where a result must be repeatable.

All of SPDM's signature algorithms are there: ECDSA, RSA (PKCS #1 v1.5 and PSS), Ed25519, Ed448,
ML-DSA, and with the packages that bring them SLH-DSA and SM2. Because cryptography builds no
certificates for the last two, the outer structures are put together here; names and extensions are
its encodings.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm as PycaUnsupported
from cryptography.x509.oid import NameOID

from spdmkit.crypto.der import (
    BOOLEAN,
    OCTET_STRING,
    UTF8_STRING,
    context,
    encode_integer,
    encode_object_identifier,
    encode_time,
    sequence,
    tlv,
)
from spdmkit.errors import ConfigurationError, SpdmError, UnsupportedAlgorithm
from spdmkit.identity import oids
from spdmkit.identity.certificate import PYCA_ERRORS, Certificate, read_spki
from spdmkit.identity.scheme import Scheme
from spdmkit.messages import CertificateModel

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey, PublicKey

__all__ = [
    "NO_END",
    "REVOCATION_REASONS",
    "Authority",
    "Issuance",
    "Profile",
    "RevokedCertificate",
    "building",
    "distinguished_name",
    "encode_extension",
    "escape_name_value",
    "profile_extensions",
]

NO_END: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""The notAfter that stands for "does not end": 99991231235959Z (RFC 5280 4.1.2.5)."""

REVOCATION_REASONS: Final = tuple(
    name for name in sorted(x509.ReasonFlags.__members__) if name != "remove_from_crl"
)
"""CRLReason by name (RFC 5280 5.3.1); the one left out is for delta lists."""

_NAME_SPECIALS: Final = frozenset('"+,;<>\\=')
"""What RFC 4514 2.4 wants escaped anywhere in a value, and "=" for readers that split there."""

_FOREVER_BEFORE: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

NameLike: TypeAlias = "str | x509.Name"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a certificate is for.

    Attributes:
        authority: it issues certificates (CA).
        path_length: how many authorities may stand below it; None sets no limit.
        responder, requester: the key may authenticate in these SPDM roles (extendedKeyUsage);
            neither leaves extendedKeyUsage out.
        hardware_identity: marked as hardware identity certificate (10.9.2.2.1).
        mutable: marked as a certificate the device may change (10.9.2.2.2).
        device_name: "manufacturer:product:serial number" for the subject alternative name.
        extra: further extensions: dotted object identifier, critical, DER of the value.
    """

    authority: bool = False
    path_length: int | None = None
    responder: bool = False
    requester: bool = False
    hardware_identity: bool = False
    mutable: bool = False
    device_name: str = ""
    extra: tuple[tuple[str, bool, bytes], ...] = ()

    @classmethod
    def leaf(
        cls,
        model: CertificateModel,
        device_name: str = "",
        *,
        responder: bool = True,
        requester: bool = False,
    ) -> Profile:
        """The leaf of a chain in a certificate model (7.2.1.1).

        Args:
            model: DEVICE: hardware identity; ALIAS: mutable; GENERIC or NONE: no mark.
            device_name: for the subject alternative name.
            responder: for a device that answers.
            requester: for one that asks.
        """
        return cls(
            responder=responder,
            requester=requester,
            hardware_identity=model is CertificateModel.DEVICE,
            mutable=model is CertificateModel.ALIAS,
            device_name=device_name,
        )

    @classmethod
    def device_authority(cls, device_name: str = "", path_length: int | None = None) -> Profile:
        """A Device Certificate CA: the hardware identity that signs alias certificates."""
        return cls(
            authority=True,
            path_length=path_length,
            hardware_identity=True,
            device_name=device_name,
        )

    @classmethod
    def alias_authority(cls, path_length: int | None = None) -> Profile:
        """An alias certificate between the Device Certificate CA and the leaf."""
        return cls(authority=True, path_length=path_length, mutable=True)


AUTHORITY: Final = Profile(authority=True)


@dataclass(frozen=True, slots=True)
class Issuance:
    """When a certificate holds, and under which number.

    Attributes:
        not_before: start, with a time zone.
        not_after: end; by default it does not end.
        serial_number: a positive number below 2^159; None draws a random one.
    """

    not_before: dt.datetime = _FOREVER_BEFORE
    not_after: dt.datetime = NO_END
    serial_number: int | None = None


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """An entry of a revocation list."""

    serial_number: int
    date: dt.datetime
    reason: x509.ReasonFlags | None = None

    @classmethod
    def for_reason(cls, serial_number: int, date: dt.datetime, reason: str) -> RevokedCertificate:
        """An entry with a reason of `REVOCATION_REASONS`.

        Raises:
            ConfigurationError: no reason is called so.
        """
        if reason not in REVOCATION_REASONS:
            known = ", ".join(REVOCATION_REASONS)
            raise ConfigurationError(f"no reason is called {reason!r}", hint=f"known: {known}")
        # RFC 5280 5.3.1: "unspecified" is said by saying nothing.
        flag = None if reason == "unspecified" else x509.ReasonFlags[reason]
        return cls(serial_number, date, flag)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its certificate and its private key.

    Attributes:
        certificate: its certificate.
        key: its private key; may stand for a key in a module (any `EllipticCurvePrivateKey` of
            cryptography's interface that `PrivateKey.from_pyca` takes).
        pss: sign with RSASSA-PSS when the key is RSA; PKCS #1 v1.5 otherwise.
        hash_name: hash to sign with ("sha384"); empty takes the one that fits the key.
        deterministic: sign by RFC 6979 when the key is ECDSA, so that the same certificate made
            again has the same bytes: the digest of a chain with alias certificates then stays the
            same over a restart (7.2.1.1.2).
    """

    certificate: Certificate
    key: PrivateKey = field(repr=False)
    pss: bool = False
    hash_name: str = ""
    deterministic: bool = False

    @classmethod
    def root(
        cls,
        subject: NameLike,
        key: PrivateKey,
        *,
        issuance: Issuance | None = None,
        profile: Profile = AUTHORITY,
        pss: bool = False,
        hash_name: str = "",
        deterministic: bool = False,
    ) -> Authority:
        """A new root: a certificate that its own key signs.

        Raises:
            ConfigurationError: a name, a date or a number that no certificate can carry.
            UnsupportedAlgorithm: the key cannot sign certificates here.
        """
        scheme = Scheme.of(key, pss=pss, hash_name=hash_name, deterministic=deterministic)
        certificate = _build(
            subject=subject,
            public_key=key.public_key,
            issuer=None,
            profile=profile,
            issuance=issuance or Issuance(),
            scheme=scheme,
        )
        return cls(certificate, key, pss, hash_name, deterministic)

    def issue(
        self,
        subject: NameLike,
        public_key: PublicKey,
        profile: Profile,
        issuance: Issuance | None = None,
    ) -> Certificate:
        """Certify a key.

        Raises:
            ConfigurationError: a name, a date or a number that no certificate can carry.
            UnsupportedAlgorithm: this authority's key cannot sign certificates here.
        """
        return _build(
            subject=subject,
            public_key=public_key,
            issuer=self.certificate,
            profile=profile,
            issuance=issuance or Issuance(),
            scheme=self._scheme(),
        )

    def subordinate(
        self,
        subject: NameLike,
        key: PrivateKey,
        *,
        profile: Profile = AUTHORITY,
        issuance: Issuance | None = None,
        pss: bool = False,
        hash_name: str = "",
        deterministic: bool = False,
    ) -> Authority:
        """Certify another authority, whose key is at hand.

        Raises:
            ConfigurationError, UnsupportedAlgorithm: as `issue`.
        """
        certificate = self.issue(subject, key.public_key, profile, issuance)
        return Authority(certificate, key, pss, hash_name, deterministic)

    def revocation_list(
        self,
        revoked: Iterable[RevokedCertificate],
        *,
        number: int,
        issued: dt.datetime,
        until: dt.datetime,
    ) -> bytes:
        """A complete CRL of this authority in DER (RFC 5280 5).

        Args:
            revoked: all certificates of this authority that are revoked.
            number: CRL number; must grow from list to list.
            issued: thisUpdate.
            until: nextUpdate.

        Raises:
            ConfigurationError: a date or a number that no list can carry.
            UnsupportedAlgorithm: this authority's key cannot sign lists here.
        """
        scheme = self._scheme()
        _check_dates(issued, until)
        entries = [_crl_entry(item) for item in revoked]
        extensions = encode_extensions(
            [
                (_authority_key_identifier(self.certificate), False),
                (x509.CRLNumber(number), False),
            ]
        )
        return scheme.signed(
            sequence(
                encode_integer(1),  # version 2
                scheme.identifier(),
                self.certificate.subject_der,
                encode_time(issued),
                encode_time(until),
                sequence(*entries) if entries else b"",
                tlv(context(0, constructed=True), extensions),
            )
        )

    def _scheme(self) -> Scheme:
        return Scheme.of(
            self.key, pss=self.pss, hash_name=self.hash_name, deterministic=self.deterministic
        )


def distinguished_name(text: NameLike) -> x509.Name:
    """A name from RFC 4514 text ("CN=Root,O=Example"), or a common name alone ("Root").

    Raises:
        ConfigurationError: not a name.
    """
    if isinstance(text, x509.Name):
        return text
    with building("name"):
        if "=" in text:
            return x509.Name.from_rfc4514_string(text)
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def escape_name_value(text: str) -> str:
    """A value for RFC 4514 text: what would end the value or begin another one is escaped."""
    escaped = "".join(f"\\{c}" if c in _NAME_SPECIALS else c for c in text)
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    if escaped.endswith(" ") and not escaped.endswith("\\ "):
        escaped = f"{escaped[:-1]}\\ "
    return escaped.replace("\0", "\\00")


# --- putting it together -------------------------------------------------------------------------


def _build(
    *,
    subject: NameLike,
    public_key: PublicKey,
    issuer: Certificate | None,
    profile: Profile,
    issuance: Issuance,
    scheme: Scheme,
) -> Certificate:
    """A certificate (RFC 5280 4.1); without an issuer it issues itself."""
    _check_dates(issuance.not_before, issuance.not_after)
    number = issuance.serial_number
    serial_number = x509.random_serial_number() if number is None else number
    _check_serial_number(serial_number)
    name = distinguished_name(subject).public_bytes()
    spki = public_key.spki()
    own_identifier = x509.SubjectKeyIdentifier(_key_identifier(spki))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (own_identifier, False),
        (_authority_key_identifier(issuer) if issuer else _authority(own_identifier.digest), False),
        *profile_extensions(profile),
    ]
    tbs = sequence(
        tlv(context(0, constructed=True), encode_integer(2)),  # version 3
        encode_integer(serial_number),
        scheme.identifier(),
        issuer.subject_der if issuer else name,
        sequence(encode_time(issuance.not_before), encode_time(issuance.not_after)),
        name,
        spki,
        tlv(context(3, constructed=True), encode_extensions(extensions)),
    )
    return Certificate(scheme.signed(tbs))


def _crl_entry(item: RevokedCertificate) -> bytes:
    _check_serial_number(item.serial_number)
    _check_dates(item.date, item.date)
    reason = item.reason
    extensions = b"" if reason is None else encode_extensions([(x509.CRLReason(reason), False)])
    return sequence(encode_integer(item.serial_number), encode_time(item.date), extensions)


def _check_dates(begin: dt.datetime, end: dt.datetime) -> None:
    for moment in (begin, end):
        if moment.utcoffset() is None:
            raise ConfigurationError(f"the date {moment} has no time zone")
    if end < begin:
        raise ConfigurationError(f"the end {end} lies before the beginning {begin}")


def _check_serial_number(number: int) -> None:
    """A positive number of at most 20 bytes (RFC 5280 4.1.2.2)."""
    if not 0 < number < 1 << 159:
        raise ConfigurationError(f"{number} cannot be a serial number")


def encode_extensions(extensions: Iterable[tuple[x509.ExtensionType, bool]]) -> bytes:
    """Extensions in DER, each with whether it is critical.

    Raises:
        ConfigurationError: one has values that cannot be encoded.
    """
    with building("set of extensions"):
        return sequence(
            *(
                encode_extension(extension.oid.dotted_string, critical, extension.public_bytes())
                for extension, critical in extensions
            )
        )


def encode_extension(oid: str, critical: bool, value: bytes) -> bytes:
    """One Extension in DER (RFC 5280 4.1); `value` is the DER of its value."""
    return sequence(
        encode_object_identifier(oid),
        tlv(BOOLEAN, b"\xff") if critical else b"",
        tlv(OCTET_STRING, value),
    )


def profile_extensions(profile: Profile) -> list[tuple[x509.ExtensionType, bool]]:
    """The extensions of a profile and whether each is critical.

    Raises:
        ConfigurationError: the device name is not what DSP0274 10.9.2 wants.
    """
    authority = profile.authority
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(authority, profile.path_length if authority else None), True),
        (_key_usage(authority), True),
    ]
    roles = ((profile.responder, oids.RESPONDER_AUTH), (profile.requester, oids.REQUESTER_AUTH))
    purposes = [x509.ObjectIdentifier(oid) for wanted, oid in roles if wanted]
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    if profile.device_name:
        extensions.append((_device_name(profile.device_name), False))
    kinds = (
        (profile.hardware_identity, oids.HARDWARE_IDENTITY),
        (profile.mutable, oids.MUTABLE_CERTIFICATE),
    )
    marks = [sequence(encode_object_identifier(oid)) for wanted, oid in kinds if wanted]
    if marks:
        extensions.append((_opaque(oids.SPDM_EXTENSION, sequence(*marks)), False))
    extensions += [(_opaque(oid, value), critical) for oid, critical, value in profile.extra]
    return extensions


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _device_name(text: str) -> x509.SubjectAlternativeName:
    if text.count(":") != 2 or not text.isprintable() or not all(text.split(":")):
        raise ConfigurationError(
            f"device name {text!r} is not MANUFACTURER:PRODUCT:SERIAL in printable characters"
        )
    value = tlv(UTF8_STRING, text.encode())
    return x509.SubjectAlternativeName(
        [x509.OtherName(x509.ObjectIdentifier(oids.DEVICE_INFO), value)]
    )


def _opaque(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def _key_identifier(spki: bytes) -> bytes:
    """SHA-1 of the key's bits (RFC 5280 4.2.1.2): a name for the key, no proof of anything."""
    return hashlib.sha1(read_spki(spki).key, usedforsecurity=False).digest()


def _authority_key_identifier(issuer: Certificate) -> x509.AuthorityKeyIdentifier:
    return _authority(issuer.subject_key_identifier or _key_identifier(issuer.spki))


def _authority(identifier: bytes) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(identifier, None, None)


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn what cryptography raises on wrong values into `ConfigurationError`."""
    try:
        yield
    except SpdmError:
        raise
    except PycaUnsupported as error:
        raise UnsupportedAlgorithm(f"this {what}", hint=str(error)) from error
    except PYCA_ERRORS as error:
        raise ConfigurationError(f"this {what} cannot be made: {error}") from error

"""Making certificates: authorities, device, alias and generic leaves, revocation lists.

Used by the software device, by the certificate authority and by tests. An `Authority` is a
certificate with its private key; it issues by a `Profile`, which says what the certificate is for.
Serial numbers and the time come from the caller's `Issuance` where a result must be repeatable.

All of SPDM's signature algorithms that cryptography signs certificates with are there: ECDSA, RSA
(PKCS #1 v1.5 and PSS), Ed25519, Ed448 and ML-DSA.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm as PycaUnsupported
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPublicKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from spdmkit.crypto.rawkeys import RawPublic
from spdmkit.errors import ConfigurationError, SpdmError, UnsupportedAlgorithm
from spdmkit.identity import oids
from spdmkit.identity.certificate import PYCA_ERRORS, Certificate
from spdmkit.identity.der import (
    UTF8_STRING,
    encode_object_identifier,
    sequence,
    tlv,
)
from spdmkit.identity.models import CertificateModel
from spdmkit.identity.scheme import Scheme

if TYPE_CHECKING:
    from spdmkit.crypto.keys import PrivateKey, PublicKey

__all__ = [
    "NO_END",
    "Authority",
    "Issuance",
    "Profile",
    "RevokedCertificate",
    "building",
    "distinguished_name",
    "profile_extensions",
]

NO_END: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""The notAfter that stands for "does not end": 99991231235959Z (RFC 5280 4.1.2.5)."""

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
        name, public_key = distinguished_name(subject), _pyca_public(key.public_key)
        certificate = _build(
            subject=name,
            issuer=name,
            public_key=public_key,
            issuer_key=public_key,
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
            subject=distinguished_name(subject),
            issuer=self.certificate.x509.subject,
            public_key=_pyca_public(public_key),
            issuer_key=self.certificate.public_key,
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
        with building("CRL"):
            builder = (
                x509.CertificateRevocationListBuilder()
                .issuer_name(self.certificate.x509.subject)
                .last_update(issued)
                .next_update(until)
                .add_extension(x509.CRLNumber(number), critical=False)
                .add_extension(_authority_key_identifier(self.certificate.public_key), False)
            )
            for item in revoked:
                entry = (
                    x509.RevokedCertificateBuilder()
                    .serial_number(item.serial_number)
                    .revocation_date(item.date)
                )
                if item.reason is not None:
                    entry = entry.add_extension(x509.CRLReason(item.reason), critical=False)
                builder = builder.add_revoked_certificate(entry.build())
            signed = builder.sign(
                scheme.key,
                scheme.algorithm,
                rsa_padding=scheme.rsa_padding,
                ecdsa_deterministic=scheme.ecdsa_deterministic,
            )
            return signed.public_bytes(Encoding.DER)

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


# --- putting it together -------------------------------------------------------------------------


def _build(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer_key: CertificatePublicKeyTypes,
    profile: Profile,
    issuance: Issuance,
    scheme: Scheme,
) -> Certificate:
    for moment in (issuance.not_before, issuance.not_after):
        if moment.utcoffset() is None:
            raise ConfigurationError(f"the date {moment} has no time zone")
    serial = issuance.serial_number
    with building("certificate"):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number() if serial is None else serial)
            .not_valid_before(issuance.not_before)
            .not_valid_after(issuance.not_after)
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
        builder = builder.add_extension(identifier, critical=False)
        builder = builder.add_extension(_authority_key_identifier(issuer_key), critical=False)
        for extension, critical in profile_extensions(profile):
            builder = builder.add_extension(extension, critical=critical)
        signed = builder.sign(
            scheme.key,
            scheme.algorithm,
            rsa_padding=scheme.rsa_padding,
            ecdsa_deterministic=scheme.ecdsa_deterministic,
        )
        return Certificate(signed.public_bytes(Encoding.DER))


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


def _authority_key_identifier(key: CertificatePublicKeyTypes) -> x509.AuthorityKeyIdentifier:
    # pyca's annotation leaves ML-DSA out of this function, which takes it all the same.
    issuer_key = cast("CertificateIssuerPublicKeyTypes", key)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)


def _pyca_public(key: PublicKey) -> CertificatePublicKeyTypes:
    handle = key.handle
    if isinstance(handle, RawPublic):
        raise UnsupportedAlgorithm(
            f"a certificate for a {key.key_type} key",
            hint="cryptography, which builds certificates here, does not know such keys",
        )
    return handle


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

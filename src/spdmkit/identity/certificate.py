"""One certificate: parsed at most once, read through names that only raise `DecodeError`.

cryptography parses lazily and raises half a dozen kinds of exception, some of them late. Here every
property either has its value or raises `DecodeError` naming the field. A first look of our own at
the outer structure (RFC 5280 4.1) finds what is compared byte by byte (names, the key) and refuses
what cryptography would only warn of (serial numbers that are not positive, algorithm parameters
where there must be none).
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as PycaUnsupported
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID

from spdmkit.crypto.der import (
    INTEGER,
    OBJECT_IDENTIFIER,
    SEQUENCE,
    Reader,
    context,
)
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.signing import verify_certificate
from spdmkit.errors import AuthenticationError, DecodeError
from spdmkit.identity import oids
from spdmkit.identity.text import safe_text

__all__ = [
    "PYCA_ERRORS",
    "Certificate",
    "Extended",
    "Spki",
    "is_raw_key",
    "known_certificate",
    "name_text",
    "read_spki",
    "reading",
    "verify_raw",
]

PYCA_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    PycaUnsupported,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,  # where warnings are errors, a deprecation is one too
)
"""What cryptography raises on certificates that are not well formed (found by mutating many)."""

_MAX_DER: Final = 1 << 20
_ATTRIBUTE_NAMES: Final = {NameOID.SERIAL_NUMBER: "serialNumber", NameOID.TITLE: "title"}

_X = TypeVar("_X", bound=x509.ExtensionType)
_Extensions: TypeAlias = x509.Extensions


class _Outline(NamedTuple):
    """The outer structure of a certificate, names and key as slices of its DER."""

    version: int
    serial_number: int
    signature_oid: str
    issuer: bytes
    subject: bytes
    spki: bytes
    tbs: bytes
    signature: bytes


class Extended:
    """What carries X.509 extensions: a certificate, or a request for one."""

    @property
    def _parsed_extensions(self) -> _Extensions:
        raise NotImplementedError

    @cached_property
    def extensions(self) -> dict[str, bool]:
        """Dotted object identifier -> whether it is critical."""
        return {ext.oid.dotted_string: ext.critical for ext in self._parsed_extensions}

    def extension_value(self, oid: str) -> bytes | None:
        """DER of an extension that cryptography has no class for (SPDM's, DICE's), or None."""
        for extension in self._parsed_extensions:
            if extension.oid.dotted_string == oid:
                with reading("extensions"):
                    value: bytes = extension.value.public_bytes()
                return value
        return None

    @cached_property
    def basic_constraints(self) -> x509.BasicConstraints | None:
        """basicConstraints, or None."""
        return self._extension(x509.BasicConstraints)

    @cached_property
    def is_ca(self) -> bool:
        """Whether basicConstraints says that it is a certificate authority's."""
        constraints = self.basic_constraints
        return constraints is not None and constraints.ca

    @cached_property
    def key_usage(self) -> x509.KeyUsage | None:
        """keyUsage, or None."""
        return self._extension(x509.KeyUsage)

    @cached_property
    def extended_key_usage(self) -> tuple[str, ...] | None:
        """Purposes of extendedKeyUsage as dotted object identifiers, or None."""
        usage = self._extension(x509.ExtendedKeyUsage)
        return None if usage is None else tuple(purpose.dotted_string for purpose in usage)

    @cached_property
    def subject_key_identifier(self) -> bytes | None:
        """subjectKeyIdentifier, or None."""
        identifier = self._extension(x509.SubjectKeyIdentifier)
        return None if identifier is None else identifier.digest

    @cached_property
    def authority_key_identifier(self) -> bytes | None:
        """The keyIdentifier of authorityKeyIdentifier, or None."""
        identifier = self._extension(x509.AuthorityKeyIdentifier)
        return None if identifier is None else identifier.key_identifier

    @cached_property
    def other_names(self) -> tuple[tuple[str, bytes], ...]:
        """The otherName entries of the subject alternative name: (type, DER of the value)."""
        names = self._extension(x509.SubjectAlternativeName)
        if names is None:
            return ()
        return tuple(
            (name.type_id.dotted_string, name.value)
            for name in names
            if isinstance(name, x509.OtherName)
        )

    @cached_property
    def device_info(self) -> tuple[str, ...]:
        """SPDM's otherName entries, ub-DMTF-device-info (10.9.2).

        Raises:
            DecodeError: one of them is not a UTF8String.
        """
        found: list[str] = []
        for kind, value in self.other_names:
            if kind != oids.DEVICE_INFO:
                continue
            reader = Reader(value, structure="ub-DMTF-device-info")
            found.append(reader.text("value"))
            reader.finish("value")
        return tuple(found)

    @cached_property
    def spdm_oids(self) -> tuple[str, ...]:
        """What SPDM's own extension holds (10.9.2.2): hardware identity, mutable certificate.

        Raises:
            DecodeError: the extension is not as DSP0274 lays it out.
        """
        value = self.extension_value(oids.SPDM_EXTENSION)
        return () if value is None else _read_spdm_extension(value)

    @property
    def hardware_identity(self) -> bool:
        """Marked as a hardware identity certificate (10.9.2.2.1)."""
        return oids.HARDWARE_IDENTITY in self.spdm_oids

    @property
    def mutable(self) -> bool:
        """Marked as a certificate that the device may change (10.9.2.2.2)."""
        return oids.MUTABLE_CERTIFICATE in self.spdm_oids

    def _extension(self, kind: type[_X]) -> _X | None:
        for extension in self._parsed_extensions:
            if isinstance(extension.value, kind):
                return extension.value
        return None


class Certificate(Extended):
    """An X.509 certificate in DER.

    Two are equal when their DER is equal.

    Attributes:
        der: the certificate as it came.
    """

    def __init__(self, der: bytes) -> None:
        self.der = der

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate sha256:{self.sha256.hex()[:16]}>"

    # --- bytes ---------------------------------------------------------------------------------

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the DER, the usual fingerprint."""
        return hashlib.sha256(self.der).digest()

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo in DER, as it stands in the certificate."""
        return self._outline.spki

    @cached_property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo: names the key whatever certificate carries it."""
        return hashlib.sha256(self.spki).digest()

    @cached_property
    def key_bits(self) -> bytes:
        """The subjectPublicKey alone, without its algorithm: what OCSP names an issuer by."""
        return read_spki(self.spki).key

    @property
    def subject_der(self) -> bytes:
        """The subject's Name in DER; names are compared in this form."""
        return self._outline.subject

    @property
    def issuer_der(self) -> bytes:
        """The issuer's Name in DER."""
        return self._outline.issuer

    # --- values --------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """1 to 3; SPDM wants 3."""
        return self._outline.version

    @property
    def serial_number(self) -> int:
        """The issuer's number for this certificate, positive."""
        return self._outline.serial_number

    @property
    def signature_oid(self) -> str:
        """Object identifier of the algorithm that signed it."""
        return self._outline.signature_oid

    @cached_property
    def signature_name(self) -> str:
        """Readable name of the algorithm that signed it."""
        known = oids.SIGNATURES.get(self.signature_oid)
        return known.name if known else f"algorithm {self.signature_oid}"

    @cached_property
    def signature_hash(self) -> str:
        """Name of the hash it was signed with; empty for schemes that bring their own."""
        known = oids.SIGNATURES.get(self.signature_oid)
        if known is None:
            raise DecodeError("Certificate", "signatureAlgorithm", 0, "unknown algorithm")
        if known.hash_name != "parameters":
            return known.hash_name
        with reading("signatureAlgorithm"):
            parameters = self._signature_parameters
            algorithm = self.x509.signature_hash_algorithm
        if not isinstance(parameters, padding.PSS) or algorithm is None:
            raise DecodeError("Certificate", "signatureAlgorithm", 0, "RSASSA-PSS without a hash")
        return algorithm.name

    @cached_property
    def key_type(self) -> str:
        """Kind and size of the key, as `SignatureAlgorithm.key_type` names it ("ec-p384")."""
        return read_spki(self.spki).key_type

    @cached_property
    def subject(self) -> str:
        """The subject as text (RFC 4514), safe to print."""
        return name_text(lambda: self.x509.subject, "subject")

    @cached_property
    def issuer(self) -> str:
        """The issuer as text (RFC 4514), safe to print."""
        return name_text(lambda: self.x509.issuer, "issuer")

    @property
    def self_issued(self) -> bool:
        """Whether it names itself as issuer."""
        return self.subject_der == self.issuer_der

    @cached_property
    def not_before(self) -> dt.datetime:
        """Start of validity, UTC."""
        with reading("validity"):
            return self.x509.not_valid_before_utc

    @cached_property
    def not_after(self) -> dt.datetime:
        """End of validity, UTC; 9999-12-31 23:59:59 means that it does not end (RFC 5280)."""
        with reading("validity"):
            return self.x509.not_valid_after_utc

    @cached_property
    def public_key(self) -> CertificatePublicKeyTypes:
        """The key, for cryptography."""
        with reading("subjectPublicKeyInfo"):
            return self.x509.public_key()

    @cached_property
    def signing_key(self) -> PublicKey:
        """The key, for verifying what its holder signs.

        Raises:
            DecodeError, UnsupportedAlgorithm: as `PublicKey.from_spki`.
        """
        return PublicKey.from_spki(self.spki)

    @cached_property
    def x509(self) -> x509.Certificate:
        """The certificate, for cryptography."""
        _ = self._outline  # what cryptography only warns of is refused here first
        with reading("certificate"):
            return x509.load_der_x509_certificate(self.der)

    def verify_signature(self, issuer: Certificate) -> None:
        """Verify that `issuer` named and signed this certificate.

        Raises:
            AuthenticationError: step "signature": another issuer, or the signature does not hold.
            DecodeError: one of the two cannot be read.
            UnsupportedAlgorithm: the package that knows the issuer's key is not installed.
        """
        key = issuer._ecdsa_key  # of the same class
        if key is None and is_raw_key(issuer.key_type):
            verify_raw(issuer.spki, self.signature_oid, self._outline.signature, self._outline.tbs)
            return
        try:
            if key is not None:
                self._verify_ecdsa(issuer, key)
            else:
                self.x509.verify_directly_issued_by(issuer.x509)
        except InvalidSignature:
            raise AuthenticationError("signature", "does not verify") from None
        except PYCA_ERRORS as error:
            raise AuthenticationError(
                "signature",
                f"cannot be verified ({self.signature_name} by a key of kind {issuer.key_type})",
            ) from error

    # --- inside --------------------------------------------------------------------------------

    def _verify_ecdsa(self, issuer: Certificate, key: ec.EllipticCurvePublicKey) -> None:
        """As `verify_directly_issued_by`, with what depends on one of the two alone kept.

        That function reads key and algorithm, and hashes, anew each time: a tenth of its cost.
        """
        outline, digest = self._outline, self._ecdsa_digest
        if outline.issuer != issuer._outline.subject:
            raise ValueError("issued by another")
        if digest is None:
            raise TypeError("not an ECDSA signature")
        key.verify(outline.signature, *digest)

    @cached_property
    def _outline(self) -> _Outline:
        return _read_outline(self.der)

    @cached_property
    def _signature_parameters(self) -> object:
        return self.x509.signature_algorithm_parameters

    @cached_property
    def _ecdsa_digest(self) -> tuple[bytes, ec.ECDSA] | None:
        """The digest that is signed, and how, if by ECDSA."""
        parameters = self._signature_parameters
        if not isinstance(parameters, ec.ECDSA) or isinstance(parameters.algorithm, Prehashed):
            return None
        running = hashes.Hash(parameters.algorithm)
        running.update(self._outline.tbs)
        return running.finalize(), ec.ECDSA(Prehashed(parameters.algorithm))

    @cached_property
    def _ecdsa_key(self) -> ec.EllipticCurvePublicKey | None:
        """Its key, if that verifies ECDSA: abstract classes take long to know an instance."""
        if not self.key_type.startswith("ec-"):
            return None
        key = self.public_key
        return key if isinstance(key, ec.EllipticCurvePublicKey) else None

    @cached_property
    def _parsed_extensions(self) -> _Extensions:
        with reading("extensions"):
            return self.x509.extensions


class Spki(NamedTuple):
    """A SubjectPublicKeyInfo (RFC 5280 4.1.2.7), taken apart.

    Attributes:
        key_type: kind and size of the key, as `SignatureAlgorithm.key_type` names it.
        key: the subjectPublicKey bits, whole bytes.
    """

    key_type: str
    key: bytes


def read_spki(spki: bytes) -> Spki:
    """Take a SubjectPublicKeyInfo apart.

    Raises:
        DecodeError: it is none, or holds a kind of key that SPDM does not know.
    """
    reader = Reader(spki, structure="SubjectPublicKeyInfo")
    info = reader.sequence("SubjectPublicKeyInfo")
    reader.finish("SubjectPublicKeyInfo")
    algorithm = info.sequence("algorithm")
    oid = algorithm.object_identifier("algorithm")
    curve = ""
    if algorithm.next_tag() == OBJECT_IDENTIFIER:
        curve = algorithm.object_identifier("parameters")
    elif algorithm:
        algorithm.take_any("parameters")
    algorithm.finish("algorithm")
    unused, key = info.bits("subjectPublicKey")
    kind = oids.PUBLIC_KEYS.get((oid, curve))
    if kind is None:
        name = f"{oid} {curve}".strip()
        raise info.fail("algorithm", f"SPDM has no key of kind {name}")
    if unused:
        raise info.fail("subjectPublicKey", "not whole bytes")
    info.finish("subjectPublicKey")
    return Spki(f"rsa-{_rsa_bits(key)}" if kind == "rsa" else kind, key)


def is_raw_key(key_type: str) -> bool:
    """Whether cryptography does not know keys of this kind, and `spdmkit.crypto` does."""
    return key_type == "sm2" or key_type.startswith("slh-dsa")


def verify_raw(spki: bytes, signature_oid: str, signature: bytes, signed: bytes) -> None:
    """Verify a signature over a certificate, list or request by an SLH-DSA or SM2 key.

    Raises:
        AuthenticationError: step "signature": another algorithm, or it does not hold.
        DecodeError: the key cannot be read.
        UnsupportedAlgorithm: the package that knows the key is not installed.
    """
    key = PublicKey.from_spki(spki)
    wanted = "SM2 with SM3" if key.key_type == "sm2" else key.key_type.upper()
    known = oids.SIGNATURES.get(signature_oid)
    if known is None or known.name != wanted:
        name = known.name if known else signature_oid
        raise AuthenticationError(
            "signature", f"cannot be verified ({name} by a key of kind {key.key_type})"
        )
    verify_certificate(key, signature, signed)


def _rsa_bits(key: bytes) -> int:
    numbers = Reader(key, structure="RSAPublicKey").sequence("RSAPublicKey")
    modulus = numbers.take(INTEGER, "modulus")
    return int.from_bytes(modulus, "big").bit_length()


_CACHED_SIZE = 8192
"""Certificates above this size are parsed each time; ML-DSA-87's have about 7,500 bytes."""


@functools.lru_cache(maxsize=1024)
def _cached(der: bytes) -> Certificate:
    return Certificate(der)


def known_certificate(der: bytes) -> Certificate:
    """The certificate with these bytes; parsed once for all the chains it stands in.

    Parsing depends on nothing but the bytes, so a fleet that shares its issuers parses them once.
    At most 1,024 certificates of at most 8 KiB are remembered.
    """
    return _cached(der) if len(der) <= _CACHED_SIZE else Certificate(der)


def _read_outline(der: bytes) -> _Outline:
    """Read the outer structure of a certificate (RFC 5280 4.1)."""
    if len(der) > _MAX_DER:
        raise DecodeError("Certificate", "certificate", 0, f"longer than {_MAX_DER} bytes")
    whole = Reader(der, structure="Certificate")
    certificate = whole.sequence("certificate")
    whole.finish("certificate")
    signed = certificate.take_any("tbsCertificate")
    tbs = Reader(signed, structure="Certificate").sequence("tbsCertificate")
    outer_algorithm = certificate.take_any("signatureAlgorithm")
    unused, signature = certificate.bits("signatureValue")
    if unused:
        raise certificate.fail("signatureValue", "not whole bytes")
    certificate.finish("signatureValue")

    version = 1
    if tbs.next_tag() == context(0, constructed=True):
        explicit = tbs.enter(context(0, constructed=True), "version")
        version = explicit.integer("version") + 1
        explicit.finish("version")
    serial_number = tbs.integer("serialNumber")
    if serial_number <= 0:
        raise tbs.fail("serialNumber", "not positive (RFC 5280 4.1.2.2)")
    inner_algorithm = tbs.take_any("signature")
    if inner_algorithm != outer_algorithm:
        raise tbs.fail("signature", "differs from signatureAlgorithm (RFC 5280 4.1.1.2)")
    issuer = tbs.take_any("issuer")
    tbs.take(SEQUENCE, "validity")
    subject = tbs.take_any("subject")
    spki = tbs.take_any("subjectPublicKeyInfo")
    return _Outline(
        version=version,
        serial_number=serial_number,
        signature_oid=_read_signature_oid(inner_algorithm),
        issuer=issuer,
        subject=subject,
        spki=spki,
        tbs=signed,
        signature=signature,
    )


_WITHOUT_PARAMETERS: Final = ("ECDSA", "Ed", "ML-DSA", "SLH-DSA")


def _read_signature_oid(algorithm: bytes) -> str:
    reader = Reader(algorithm, structure="Certificate").sequence("signature")
    oid = reader.object_identifier("signature")
    known = oids.SIGNATURES.get(oid)
    if known is not None and reader and known.name.startswith(_WITHOUT_PARAMETERS):
        raise reader.fail("signature", f"{known.name} takes no parameters")
    return oid


def _read_spdm_extension(value: bytes) -> tuple[str, ...]:
    reader = Reader(value, structure="id-DMTF-spdm-extension")
    entries = reader.sequence("id-spdm-cert-oids")
    reader.finish("id-spdm-cert-oids")
    if not entries:
        raise entries.fail("id-spdm-cert-oids", "holds nothing")
    found: list[str] = []
    while entries:
        entry = entries.sequence("id-spdm-cert-oid")
        found.append(entry.object_identifier("spdmOID"))
        if entry:
            entry.octets("spdmOIDdefinition")
        entry.finish("id-spdm-cert-oid")
    return tuple(found)


def name_text(read: Callable[[], x509.Name], field: str) -> str:
    """A Name as text (RFC 4514), safe to print; `read` gets it from cryptography."""
    with reading(field):
        return safe_text(read().rfc4514_string(_ATTRIBUTE_NAMES))


@contextmanager
def reading(field: str) -> Iterator[None]:
    """Turn what cryptography raises into `DecodeError`."""
    try:
        yield
    except DecodeError:
        raise
    except PYCA_ERRORS as error:
        reason = safe_text(str(error), longest=200) or type(error).__name__
        raise DecodeError("Certificate", field, 0, reason) from error

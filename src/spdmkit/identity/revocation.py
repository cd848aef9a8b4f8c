"""Revocation: CRLs and OCSP responses that the caller brings along. Nothing is fetched.

Each answer is `Status.GOOD`, or None when nothing at hand speaks about the certificate. Everything
else (revoked, stale, wrong signature, not for us) raises, because who hands in a list wants it
respected.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from spdmkit.errors import AuthenticationError, ConfigurationError, SpdmError
from spdmkit.identity.certificate import PYCA_ERRORS, Certificate, is_raw_key, verify_raw
from spdmkit.identity.oids import SIGNATURES
from spdmkit.identity.text import safe_text

__all__ = ["NO_REVOCATION_DATA", "RevocationData", "RevocationError", "Statement"]

_MAX_SIZE: Final = 64 << 20
_PROCESSED_CRL_EXTENSIONS: Final = frozenset(
    {"2.5.29.35", "2.5.29.20"}  # authorityKeyIdentifier, cRLNumber
)


class RevocationError(SpdmError):
    """A list or response says that the certificate is revoked, or is itself not to be believed."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What covers one certificate.

    Attributes:
        source: "CRL" or "OCSP response".
        issued: when it was made.
        until: when it ends.
    """

    source: str
    issued: dt.datetime
    until: dt.datetime


class RevocationData:
    """CRLs and OCSP responses at hand.

    Attributes:
        fingerprint: SHA-256 over all of it.
    """

    def __init__(self, crls: Iterable[bytes] = (), ocsp_responses: Iterable[bytes] = ()) -> None:
        """Read them; signatures are checked when a certificate is.

        Args:
            crls: certificate revocation lists, PEM or DER.
            ocsp_responses: OCSP responses, DER.

        Raises:
            ConfigurationError: one cannot be read.
        """
        digest = hashlib.sha256()
        self._crls: dict[bytes, list[x509.CertificateRevocationList]] = {}
        for number, data in enumerate(crls, 1):
            digest.update(b"C" + hashlib.sha256(data).digest())
            crl = _load_crl(data, number)
            self._crls.setdefault(crl.issuer.public_bytes(), []).append(crl)
        self._responses: list[ocsp.OCSPResponse] = []
        for number, data in enumerate(ocsp_responses, 1):
            digest.update(b"O" + hashlib.sha256(data).digest())
            self._responses.append(_load_ocsp(data, number))
        self.fingerprint = digest.digest()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self._crls or self._responses)

    @cached_property
    def summary(self) -> str:
        """How many of what, in words."""
        lists = sum(map(len, self._crls.values()))
        return f"{lists} CRL, {len(self._responses)} OCSP responses given"

    def check(
        self, certificate: Certificate, issuer: Certificate, at: dt.datetime | None
    ) -> Statement | None:
        """What covers `certificate`, which `issuer` signed.

        Args:
            certificate: the certificate in question.
            issuer: its issuer, already verified.
            at: the moment that lists must be fresh at; None does not check their age.

        Returns:
            The statement that it is not revoked, or None when nothing speaks about it.

        Raises:
            RevocationError: revoked, or all that speaks about it is stale or not authentic.
        """
        with _reading():
            return self._by_crl(certificate, issuer, at) or self._by_ocsp(certificate, issuer, at)

    def _by_crl(
        self, certificate: Certificate, issuer: Certificate, at: dt.datetime | None
    ) -> Statement | None:
        newest: Statement | None = None
        problem: RevocationError | None = None
        for crl in self._crls.get(certificate.issuer_der, ()):
            try:
                statement = _authentic_crl(crl, issuer, at)
            except RevocationError as error:
                problem = error
                continue
            entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None:
                raise RevocationError(_revoked(entry.revocation_date_utc))
            if newest is None or statement.issued > newest.issued:
                newest = statement
        if newest is None and problem is not None:
            raise problem
        return newest

    def _by_ocsp(
        self, certificate: Certificate, issuer: Certificate, at: dt.datetime | None
    ) -> Statement | None:
        problem: RevocationError | None = None
        for response in self._responses:
            for single in response.responses:
                if not _speaks_about(single, certificate, issuer):
                    continue
                try:
                    return _ocsp_statement(response, single, issuer, at)
                except RevocationError as error:
                    problem = error
        if problem is not None:
            raise problem
        return None


NO_REVOCATION_DATA: Final = RevocationData()


def _load_crl(data: bytes, number: int) -> x509.CertificateRevocationList:
    try:
        if len(data) > _MAX_SIZE:
            raise ValueError("too long")
        if b"-----BEGIN" in data:
            crl = x509.load_pem_x509_crl(data)
        else:
            crl = x509.load_der_x509_crl(data)
        _ = crl.issuer, crl.extensions, crl.last_update_utc
    except PYCA_ERRORS as error:
        raise ConfigurationError(
            f"CRL {number} cannot be read: {safe_text(str(error), longest=200)}"
        ) from error
    return crl


def _load_ocsp(data: bytes, number: int) -> ocsp.OCSPResponse:
    try:
        response = ocsp.load_der_ocsp_response(data)
        successful = response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    except PYCA_ERRORS as error:
        raise ConfigurationError(
            f"OCSP response {number} cannot be read: {safe_text(str(error), longest=200)}"
        ) from error
    if not successful:
        raise ConfigurationError(f"OCSP response {number} reports {response.response_status.name}")
    return response


def _authentic_crl(
    crl: x509.CertificateRevocationList, issuer: Certificate, at: dt.datetime | None
) -> Statement:
    usage = issuer.key_usage
    if usage is not None and not usage.crl_sign:
        raise RevocationError("the issuer's key may not sign a CRL (keyUsage)")
    if not _crl_signature_holds(crl, issuer):
        raise RevocationError("the signature of the CRL does not verify")
    for extension in crl.extensions:
        if extension.critical and extension.oid.dotted_string not in _PROCESSED_CRL_EXTENSIONS:
            raise RevocationError(
                f"the CRL has the critical extension {extension.oid.dotted_string}: "
                "a partial or indirect list is not enough"
            )
    return _fresh("CRL", crl.last_update_utc, crl.next_update_utc, at)


def _crl_signature_holds(crl: x509.CertificateRevocationList, issuer: Certificate) -> bool:
    if not is_raw_key(issuer.key_type):
        return crl.is_signature_valid(issuer.public_key)  # type: ignore[arg-type] # kinds checked before
    oid = crl.signature_algorithm_oid.dotted_string
    try:
        verify_raw(issuer.spki, oid, crl.signature, crl.tbs_certlist_bytes)
    except AuthenticationError:
        return False
    return True


def _fresh(
    source: str, issued: dt.datetime, until: dt.datetime | None, at: dt.datetime | None
) -> Statement:
    if until is None:
        raise RevocationError(f"the {source} does not say when it ends")
    if at is not None and at < issued:
        raise RevocationError(f"the {source} is from {issued:%Y-%m-%d %H:%M}, after {at}")
    if at is not None and at > until:
        raise RevocationError(f"the {source} ended {until:%Y-%m-%d %H:%M}")
    return Statement(source, issued, until)


def _revoked(moment: dt.datetime | None) -> str:
    return "revoked" if moment is None else f"revoked since {moment:%Y-%m-%d %H:%M}"


_OCSP_HASHES: Final = {
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}
"""Hashes that name an issuer in OCSP. SHA-1 names only and proves nothing (RFC 6960 4.1.1)."""


def _speaks_about(
    single: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate
) -> bool:
    make = _OCSP_HASHES.get(single.hash_algorithm.name)
    if make is None or single.serial_number != certificate.serial_number:
        return False
    return single.issuer_name_hash == make(issuer.subject_der).digest() and (
        single.issuer_key_hash == make(issuer.key_bits).digest()
    )


def _ocsp_statement(
    response: ocsp.OCSPResponse,
    single: ocsp.OCSPSingleResponse,
    issuer: Certificate,
    at: dt.datetime | None,
) -> Statement:
    signer = _ocsp_signer(response, issuer, at)
    _check_ocsp_signature(response, signer.public_key)
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        raise RevocationError(_revoked(single.revocation_time_utc))
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise RevocationError("the OCSP responder does not know the certificate")
    return _fresh("OCSP response", single.this_update_utc, single.next_update_utc, at)


def _ocsp_signer(
    response: ocsp.OCSPResponse, issuer: Certificate, at: dt.datetime | None
) -> Certificate:
    """The issuer, or whom it appointed in a certificate that came along (RFC 6960 4.2.2.2)."""
    if _is_responder(response, issuer):
        return issuer
    for item in response.certificates:
        candidate = Certificate(item.public_bytes(Encoding.DER))
        if not _is_responder(response, candidate):
            continue
        purposes = candidate.extended_key_usage or ()
        if ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string not in purposes:
            raise RevocationError("the OCSP signer may not sign OCSP responses")
        try:
            candidate.verify_signature(issuer)
        except AuthenticationError:
            raise RevocationError("the OCSP signer was not appointed by the issuer") from None
        if at is not None and not candidate.not_before <= at <= candidate.not_after:
            raise RevocationError("the certificate of the OCSP signer is not valid now")
        return candidate
    raise RevocationError("the OCSP response is not signed by the issuer or its delegate")


def _is_responder(response: ocsp.OCSPResponse, certificate: Certificate) -> bool:
    if response.responder_key_hash is not None:
        # ResponderID byKey is a SHA-1 by definition (RFC 6960 4.2.1); the signature is the proof.
        return bool(response.responder_key_hash == hashlib.sha1(certificate.key_bits).digest())  # noqa: S324
    name = response.responder_name
    return name is not None and name.public_bytes() == certificate.subject_der


_OWN_HASH: Final = (
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
    mldsa.MLDSA44PublicKey,
    mldsa.MLDSA65PublicKey,
    mldsa.MLDSA87PublicKey,
)
_WEAK: Final = frozenset({"md5", "sha1", "sha224"})


def _check_ocsp_signature(response: ocsp.OCSPResponse, key: object) -> None:
    known = SIGNATURES.get(response.signature_algorithm_oid.dotted_string)
    if known is None or known.hash_name in _WEAK or known.hash_name == "parameters":
        raise RevocationError("the OCSP response is signed with an algorithm not accepted here")
    signature, signed = response.signature, response.tbs_response_bytes
    algorithm = response.signature_hash_algorithm
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, _OWN_HASH):
            key.verify(signature, signed)
        else:
            raise RevocationError("the key of the OCSP signer does not fit its signature")
    except InvalidSignature:
        raise RevocationError("the signature of the OCSP response does not verify") from None


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what cryptography raises on broken lists into `RevocationError`."""
    try:
        yield
    except PYCA_ERRORS as error:
        reason = safe_text(str(error), longest=200)
        raise RevocationError(f"the revocation data cannot be read: {reason}") from error

"""Certificates for tests: a root, and signers below it, made with cryptography alone."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from spdmkit.crypto.keys import PrivateKey
from spdmkit.identity import Certificate, Purpose, TrustAnchors

NOW = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())
"""The time that tests appraise at."""
YEAR = 365 * 86400


@dataclass(frozen=True)
class Party:
    """A key with its certificate and the certificates above it."""

    key: PrivateKey
    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, leaf first."""
        return tuple(c.public_bytes(Encoding.DER) for c in (self.certificate, *self.issuers))

    @property
    def pem(self) -> bytes:
        return b"".join(c.public_bytes(Encoding.PEM) for c in (self.certificate, *self.issuers))

    def anchors(self, purpose: Purpose, *, accept_leaf: bool = False) -> TrustAnchors:
        return TrustAnchors([Certificate(self.chain[0])], purpose, accept_leaf=accept_leaf)


def make_party(
    name: str,
    issuer: Party | None = None,
    *,
    ca: bool = False,
    begin: int = NOW - YEAR,
    end: int = NOW + YEAR,
    algorithm: str = "ecdsa-p256",
) -> Party:
    key = PrivateKey.from_seed(algorithm, name.encode())
    return certify(name, key, issuer, ca=ca, begin=begin, end=end)


def certify(
    name: str,
    key: PrivateKey,
    issuer: Party | None,
    *,
    ca: bool = False,
    begin: int = NOW - YEAR,
    end: int = NOW + YEAR,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> Party:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key.handle)  # type: ignore[arg-type] # a key of cryptography
        .serial_number(int.from_bytes(name.encode()[:8].rjust(8, b"\1"), "big"))
        .not_valid_before(dt.datetime.fromtimestamp(begin, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(end, dt.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_usage(ca), critical=True)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else key
    certificate = builder.sign(signer.handle, _hash(signer))  # type: ignore[arg-type] # likewise
    above = (issuer.certificate, *issuer.issuers) if issuer else ()
    return Party(key, certificate, above)


def _hash(key: PrivateKey) -> hashes.HashAlgorithm | None:
    handle = key.handle
    if isinstance(handle, ec.EllipticCurvePrivateKey):
        return hashes.SHA384() if handle.key_size > 256 else hashes.SHA256()
    return None


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )

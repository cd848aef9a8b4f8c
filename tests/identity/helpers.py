"""Chains with one thing wrong: any field of any certificate is changed, then all signed anew."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from spdmkit.crypto.der import (
    BIT_STRING,
    BOOLEAN,
    OCTET_STRING,
    UTF8_STRING,
    context,
    encode_integer,
    encode_object_identifier,
    sequence,
    tlv,
)
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.identity import (
    CertificateChain,
    ChainError,
    Purpose,
    TrustAnchors,
    VerifiedChain,
    distinguished_name,
    oids,
    verify_chain,
)

SHA384 = BASE_HASH.by_name("sha-384")
NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
GENERALIZED_TIME = 0x18

Extensions = Mapping[str, tuple[bool, bytes]]

ECDSA_OIDS: dict[str, tuple[str, type[hashes.HashAlgorithm]]] = {
    "sha1": ("1.2.840.10045.4.1", hashes.SHA1),
    "sha256": ("1.2.840.10045.4.3.2", hashes.SHA256),
    "sha3-256": ("2.16.840.1.101.3.4.3.10", hashes.SHA3_256),
}


@functools.cache
def key(name: str, algorithm: str = "ecdsa-p256") -> PrivateKey:
    """The same key for the same name; where the algorithm can, in every run."""
    if algorithm.startswith(("rsa", "sm2", "slh")):  # these cannot be made from a seed
        return PrivateKey.generate(algorithm)
    return PrivateKey.from_seed(algorithm, name.encode())


def basic_constraints(ca: bool, path_length: int | None = None) -> tuple[bool, bytes]:
    return True, x509.BasicConstraints(ca, path_length).public_bytes()


def key_usage(*names: str) -> tuple[bool, bytes]:
    flags = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return True, x509.KeyUsage(**(flags | dict.fromkeys(names, True))).public_bytes()


def key_purposes(*purposes: str) -> tuple[bool, bytes]:
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in purposes])
    return False, usage.public_bytes()


def device_name(text: str, tag: int = UTF8_STRING) -> tuple[bool, bytes]:
    names = x509.SubjectAlternativeName(
        [x509.OtherName(x509.ObjectIdentifier(oids.DEVICE_INFO), tlv(tag, text.encode()))]
    )
    return False, names.public_bytes()


def spdm_marks(*marks: str) -> tuple[bool, bytes]:
    return False, sequence(*(sequence(encode_object_identifier(oid)) for oid in marks))


CA_EXTENSIONS: Extensions = {
    oids.BASIC_CONSTRAINTS: basic_constraints(True),
    oids.KEY_USAGE: key_usage("key_cert_sign", "crl_sign"),
}
LEAF_EXTENSIONS: Extensions = {
    oids.BASIC_CONSTRAINTS: basic_constraints(False),
    oids.KEY_USAGE: key_usage("digital_signature"),
    oids.EXTENDED_KEY_USAGE: key_purposes(oids.RESPONDER_AUTH),
    oids.SUBJECT_ALTERNATIVE_NAME: device_name("Maker:Widget:0001"),
    oids.SPDM_EXTENSION: spdm_marks(oids.HARDWARE_IDENTITY),
}


@dataclass(frozen=True)
class Spec:
    """A certificate to forge. `signer` and `issuer` empty: taken from the one above."""

    name: str
    subject: str
    extensions: Extensions
    issuer: str = ""
    signer: str = ""
    version: int = 3
    serial: int = 1
    hash_name: str = "sha256"
    inner_hash: str = ""
    parameters: bytes = b""
    not_before: str = "20200101000000Z"
    not_after: str = "99991231235959Z"
    spki: bytes = b""
    tail: bytes = b""
    signature_flip: bool = False

    def extended(self, **changes: tuple[bool, bytes] | None) -> Spec:
        """Extensions by name of `oids`, replaced, added, or with None removed."""
        extensions = dict(self.extensions)
        for name, value in changes.items():
            oid = getattr(oids, name)
            extensions.pop(oid, None)
            if value is not None:
                extensions[oid] = value
        return replace(self, extensions=extensions)

    def also(self, oid: str, critical: bool, value: bytes) -> Spec:
        """With one more extension, by its object identifier."""
        return replace(self, extensions={**self.extensions, oid: (critical, value)})


ROOT = Spec("root", "CN=Test Root,O=Tests", CA_EXTENSIONS, serial=0x100)
ISSUER = Spec("issuer", "CN=Test Issuer,O=Tests", CA_EXTENSIONS, serial=0x200)
LEAF = Spec("leaf", "CN=Test Device,O=Tests", LEAF_EXTENSIONS, serial=0x300)
ALIAS_LEAF = LEAF.extended(SPDM_EXTENSION=None)
DEVICE_CA = Spec("device", "CN=Test Device CA,O=Tests", CA_EXTENSIONS, serial=0x250).extended(
    SPDM_EXTENSION=spdm_marks(oids.HARDWARE_IDENTITY),
    SUBJECT_ALTERNATIVE_NAME=device_name("Maker:Widget:0001"),
)


def name_der(text: str) -> bytes:
    return distinguished_name(text).public_bytes() if text else sequence()


def forge(spec: Spec, issuer: str, signer: str) -> bytes:
    """The certificate in DER, built by hand so that it may be wrong."""

    def algorithm(hash_name: str) -> bytes:
        return sequence(encode_object_identifier(ECDSA_OIDS[hash_name][0]), spec.parameters)

    extensions = sequence(
        *(
            sequence(
                encode_object_identifier(oid),
                tlv(BOOLEAN, b"\xff") if critical else b"",
                tlv(OCTET_STRING, value),
            )
            for oid, (critical, value) in spec.extensions.items()
        )
    )
    tbs = sequence(
        tlv(context(0, constructed=True), encode_integer(spec.version - 1))
        if spec.version > 1
        else b"",
        encode_integer(spec.serial),
        algorithm(spec.inner_hash or spec.hash_name),
        name_der(issuer),
        sequence(
            tlv(GENERALIZED_TIME, spec.not_before.encode()),
            tlv(GENERALIZED_TIME, spec.not_after.encode()),
        ),
        name_der(spec.subject),
        spec.spki or key(spec.name).public_key.spki(),
        tlv(context(3, constructed=True), extensions) if spec.version == 3 else b"",
        spec.tail,
    )
    handle = key(signer).handle
    assert isinstance(handle, ec.EllipticCurvePrivateKey)
    signature = bytearray(handle.sign(tbs, ec.ECDSA(ECDSA_OIDS[spec.hash_name][1]())))
    if spec.signature_flip:
        signature[-1] ^= 1
    return sequence(tbs, algorithm(spec.hash_name), tlv(BIT_STRING, b"\0", bytes(signature)))


def forge_all(*specs: Spec) -> tuple[bytes, ...]:
    """Certificates, each issued by the one before it; the first by itself."""
    ders: list[bytes] = []
    above = specs[0]
    for spec in specs:
        ders.append(forge(spec, spec.issuer or above.subject, spec.signer or above.name))
        above = spec
    return tuple(ders)


def forge_chain(*specs: Spec, root: bytes | None = None) -> CertificateChain:
    return CertificateChain.from_certificates(forge_all(*specs), SHA384, root=root)


def anchors(
    *ders: bytes, purpose: Purpose = Purpose.DEVICE, accept_leaf: bool = False
) -> TrustAnchors:
    return TrustAnchors(ders, purpose, accept_leaf=accept_leaf)


def verify(
    chain: CertificateChain, trusted: TrustAnchors | None = None, **options: Any
) -> VerifiedChain:
    """Verify with the chain's own root as anchor unless told otherwise, at `NOW`."""
    purpose = options.setdefault("purpose", Purpose.DEVICE)
    options.setdefault("time", NOW)
    trusted = trusted or anchors(chain.certificates[0], purpose=purpose)
    return verify_chain(chain, trusted, **options)


@dataclass(frozen=True)
class Refusal:
    """One change to a good chain, and the check and the certificate that must be named."""

    specs: tuple[Spec, ...]
    check: str
    link: int | None
    words: str
    options: Mapping[str, Any] = field(default_factory=dict)


def refused(error: ChainError, check: str, link: int | None, words: str) -> None:
    """Check that an error says which check, which certificate, and why."""
    assert (error.check, error.link) == (check, link), str(error)
    assert words in error.reason, str(error)
    assert error.step == "chain"
    assert error.steps[-1].name == check
    assert error.steps[-1].outcome == "failed"
    if link is not None:
        assert ("the trust anchor" if link < 0 else f"certificate {link} ") in str(error)

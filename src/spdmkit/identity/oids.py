"""Object identifiers that device certificates use, and what we make of them.

Sources: DSP0274 annex "OID reference" and 10.9.2; TCG DICE Attestation Architecture 1.1 and 1.2;
RFC 5280; RFC 8410; NIST's CSOR registry for SHA-3, ML-DSA and SLH-DSA.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "ANY_EXTENDED_KEY_USAGE",
    "BASIC_CONSTRAINTS",
    "DEVICE_INFO",
    "DICE_KEY_PURPOSES",
    "DICE_MULTI_TCB_INFO",
    "DICE_TCB_INFO",
    "DICE_UEID",
    "EXTENDED_KEY_USAGE",
    "HARDWARE_IDENTITY",
    "HASHES",
    "KEY_USAGE",
    "KNOWN_EXTENSIONS",
    "MUTABLE_CERTIFICATE",
    "NAME_CONSTRAINTS",
    "PUBLIC_KEYS",
    "REQUESTER_AUTH",
    "RESPONDER_AUTH",
    "SIGNATURES",
    "SPDM_EXTENSION",
    "SUBJECT_ALTERNATIVE_NAME",
    "CertificateSignature",
]

# --- SPDM: { iso org dod internet private enterprise dmtf(412) spdm(274) } -----------------------
DEVICE_INFO: Final = "1.3.6.1.4.1.412.274.1"
HARDWARE_IDENTITY: Final = "1.3.6.1.4.1.412.274.2"
RESPONDER_AUTH: Final = "1.3.6.1.4.1.412.274.3"
REQUESTER_AUTH: Final = "1.3.6.1.4.1.412.274.4"
MUTABLE_CERTIFICATE: Final = "1.3.6.1.4.1.412.274.5"
SPDM_EXTENSION: Final = "1.3.6.1.4.1.412.274.6"

# --- TCG DICE: { joint-iso-itu-t(2) international-organizations(23) tcg(133) platform(5) dice(4) }
DICE_TCB_INFO: Final = "2.23.133.5.4.1"
DICE_UEID: Final = "2.23.133.5.4.4"
DICE_MULTI_TCB_INFO: Final = "2.23.133.5.4.5"

DICE_KEY_PURPOSES: Final = frozenset(f"2.23.133.5.4.100.{number}" for number in range(6, 12))
"""identityInit, identityLoc, attestInit, attestLoc, assertInit, assertLoc: keys that speak for a
device. eca (12) signs certificates and is not among them."""

# --- RFC 5280 -----------------------------------------------------------------------------------
BASIC_CONSTRAINTS: Final = "2.5.29.19"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
NAME_CONSTRAINTS: Final = "2.5.29.30"
ANY_EXTENDED_KEY_USAGE: Final = "2.5.29.37.0"

KNOWN_EXTENSIONS: Final = frozenset(
    {
        BASIC_CONSTRAINTS,
        KEY_USAGE,
        SUBJECT_ALTERNATIVE_NAME,
        EXTENDED_KEY_USAGE,
        "2.5.29.14",  # subjectKeyIdentifier
        "2.5.29.35",  # authorityKeyIdentifier
        "2.5.29.18",  # issuerAltName: a name, asks nothing
        "2.5.29.32",  # certificatePolicies: any policy is acceptable to us
        "2.5.29.31",  # cRLDistributionPoints: CRLs are handed in, nothing is fetched
        "1.3.6.1.5.5.7.1.1",  # authorityInfoAccess: likewise
        SPDM_EXTENSION,
        *(f"2.23.133.5.4.{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11)),  # DICE evidence
    }
)
"""Extensions that may be critical: those the checks process, and those that only carry claims.

nameConstraints and policyConstraints are left out on purpose: they would have to be processed."""


class CertificateSignature(NamedTuple):
    """An algorithm that signs certificates.

    Attributes:
        name: readable name.
        hash_name: the hash it uses, as `ChainPolicy.hashes` names it; empty when the scheme has
            its own (EdDSA, ML-DSA, SLH-DSA); "parameters" when its parameters say (RSASSA-PSS).
    """

    name: str
    hash_name: str


HASHES: Final = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.7": "sha3-224",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
    "1.2.156.10197.1.401": "sm3",
}
"""Hash object identifiers -> names, as DICE FWIDs and RSASSA-PSS parameters give them."""

_SLH_DSA: Final = tuple(
    f"slh-dsa-{family}-{size}{speed}"
    for family in ("sha2", "shake")
    for size in (128, 192, 256)
    for speed in ("s", "f")
)

SIGNATURES: Final = {
    "1.2.840.113549.1.1.4": CertificateSignature("RSA with MD5", "md5"),
    "1.2.840.113549.1.1.5": CertificateSignature("RSA with SHA-1", "sha1"),
    "1.2.840.113549.1.1.14": CertificateSignature("RSA with SHA-224", "sha224"),
    "1.2.840.113549.1.1.11": CertificateSignature("RSA with SHA-256", "sha256"),
    "1.2.840.113549.1.1.12": CertificateSignature("RSA with SHA-384", "sha384"),
    "1.2.840.113549.1.1.13": CertificateSignature("RSA with SHA-512", "sha512"),
    "2.16.840.1.101.3.4.3.14": CertificateSignature("RSA with SHA3-256", "sha3-256"),
    "2.16.840.1.101.3.4.3.15": CertificateSignature("RSA with SHA3-384", "sha3-384"),
    "2.16.840.1.101.3.4.3.16": CertificateSignature("RSA with SHA3-512", "sha3-512"),
    "1.2.840.113549.1.1.10": CertificateSignature("RSASSA-PSS", "parameters"),
    "1.2.840.10045.4.1": CertificateSignature("ECDSA with SHA-1", "sha1"),
    "1.2.840.10045.4.3.1": CertificateSignature("ECDSA with SHA-224", "sha224"),
    "1.2.840.10045.4.3.2": CertificateSignature("ECDSA with SHA-256", "sha256"),
    "1.2.840.10045.4.3.3": CertificateSignature("ECDSA with SHA-384", "sha384"),
    "1.2.840.10045.4.3.4": CertificateSignature("ECDSA with SHA-512", "sha512"),
    "2.16.840.1.101.3.4.3.10": CertificateSignature("ECDSA with SHA3-256", "sha3-256"),
    "2.16.840.1.101.3.4.3.11": CertificateSignature("ECDSA with SHA3-384", "sha3-384"),
    "2.16.840.1.101.3.4.3.12": CertificateSignature("ECDSA with SHA3-512", "sha3-512"),
    "1.3.101.112": CertificateSignature("Ed25519", ""),
    "1.3.101.113": CertificateSignature("Ed448", ""),
    "2.16.840.1.101.3.4.3.17": CertificateSignature("ML-DSA-44", ""),
    "2.16.840.1.101.3.4.3.18": CertificateSignature("ML-DSA-65", ""),
    "2.16.840.1.101.3.4.3.19": CertificateSignature("ML-DSA-87", ""),
    "1.2.156.10197.1.501": CertificateSignature("SM2 with SM3", "sm3"),
    **{
        f"2.16.840.1.101.3.4.3.{number}": CertificateSignature(name.upper(), "")
        for number, name in enumerate(_SLH_DSA, start=20)
    },
}
"""Signature algorithms of certificates, weak ones included so that they are refused by name."""

PUBLIC_KEYS: Final = {
    ("1.2.840.113549.1.1.1", ""): "rsa",
    ("1.2.840.113549.1.1.10", ""): "rsa",
    ("1.2.840.10045.2.1", "1.2.840.10045.3.1.7"): "ec-p256",
    ("1.2.840.10045.2.1", "1.3.132.0.34"): "ec-p384",
    ("1.2.840.10045.2.1", "1.3.132.0.35"): "ec-p521",
    ("1.2.840.10045.2.1", "1.2.156.10197.1.301"): "sm2",
    ("1.2.156.10197.1.301", "1.2.156.10197.1.301"): "sm2",  # as OpenSSL 3.0 writes it
    ("1.3.101.112", ""): "ed25519",
    ("1.3.101.113", ""): "ed448",
    ("2.16.840.1.101.3.4.3.17", ""): "ml-dsa-44",
    ("2.16.840.1.101.3.4.3.18", ""): "ml-dsa-65",
    ("2.16.840.1.101.3.4.3.19", ""): "ml-dsa-87",
    **{
        (f"2.16.840.1.101.3.4.3.{number}", ""): name
        for number, name in enumerate(_SLH_DSA, start=20)
    },
}
"""(algorithm, curve) of a SubjectPublicKeyInfo -> key type as `SignatureAlgorithm.key_type`
names it; for RSA the size in bits still has to be added."""

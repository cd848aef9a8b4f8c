"""Keys of SLH-DSA (RFC 9814, RFC 9909) and SM2 (RFC 5915 form), which cryptography cannot hold.

They are read and written here, and used through pqcrypto (extra `pq`) and gmssl-pyx (extra `sm`).
Reading a public key needs neither package; using it, or having a private key, does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spdmkit.crypto import der
from spdmkit.crypto.availability import GMSSL, PQCRYPTO
from spdmkit.crypto.registry import PQC_ASYM, SignatureAlgorithm, SignatureFamily
from spdmkit.errors import ConfigurationError, DecodeError, UnsupportedAlgorithm

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["RawPrivate", "RawPublic", "generate", "load_private", "parse_spki", "slh_dsa_module"]

_EC_PUBLIC_KEY = der.encode_object_identifier("1.2.840.10045.2.1")
_SM2_CURVE = der.encode_object_identifier("1.2.156.10197.1.301")

#: id-slh-dsa-* are numbered 20 to 31 under nistAlgorithms sigAlgs in this order (RFC 9814).
_SLH_DSA_ORDER = tuple(
    f"slh-dsa-{family}-{size}{speed}"
    for family in ("sha2", "shake")
    for size in (128, 192, 256)
    for speed in "sf"
)
_SLH_DSA_OID = {
    name: der.encode_object_identifier(f"2.16.840.1.101.3.4.3.{20 + index}")
    for index, name in enumerate(_SLH_DSA_ORDER)
}
_SLH_DSA_NAME = {identifier: name for name, identifier in _SLH_DSA_OID.items()}

# The curve of GB/T 32918.5-2017; a = p - 3.
SM2_P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
SM2_A = SM2_P - 3
SM2_B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
SM2_N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
SM2_G = bytes.fromhex(
    "32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"
    "bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0"
)


@dataclass(frozen=True, slots=True)
class RawPublic:
    """A public key as its algorithm writes it: PK of SLH-DSA, or X and Y of SM2.

    Attributes:
        key_type: as `PublicKey.key_type`.
        raw: the key.
    """

    key_type: str
    raw: bytes

    def spki(self) -> bytes:
        """The DER SubjectPublicKeyInfo."""
        key = b"\x04" + self.raw if self.key_type == "sm2" else self.raw
        return der.tlv(
            der.SEQUENCE,
            der.tlv(der.SEQUENCE, *_identifier(self.key_type)),
            der.tlv(der.BIT_STRING, b"\x00", key),
        )


@dataclass(frozen=True, slots=True, repr=False)
class RawPrivate:
    """A private key as its algorithm writes it.

    Attributes:
        key_type: as `PublicKey.key_type`.
        raw: SK of SLH-DSA, or d of SM2.
        raw_public: PK of SLH-DSA, or X and Y of SM2.
    """

    key_type: str
    raw: bytes
    raw_public: bytes

    def public(self) -> RawPublic:
        """Its public half."""
        return RawPublic(self.key_type, self.raw_public)

    def to_pkcs8(self) -> bytes:
        """OneAsymmetricKey in DER (RFC 5958)."""
        key = self.raw
        if self.key_type == "sm2":
            point = der.tlv(der.BIT_STRING, b"\x00\x04", self.raw_public)
            key = der.tlv(
                der.SEQUENCE,
                der.encode_integer(1),
                der.tlv(der.OCTET_STRING, key),
                der.tlv(0xA1, point),
            )
        return der.tlv(
            der.SEQUENCE,
            der.encode_integer(0),
            der.tlv(der.SEQUENCE, *_identifier(self.key_type)),
            der.tlv(der.OCTET_STRING, key),
        )

    def __repr__(self) -> str:
        return f"<RawPrivate {self.key_type}>"


def _identifier(key_type: str) -> tuple[bytes, ...]:
    """The elements of the AlgorithmIdentifier."""
    if key_type == "sm2":
        return (_EC_PUBLIC_KEY, _SM2_CURVE)
    return (_SLH_DSA_OID[key_type],)


def _key_type(algorithm: der.Reader) -> str:
    """The key type an AlgorithmIdentifier names, or empty when it is none of ours."""
    identifier = algorithm.whole(der.OBJECT_IDENTIFIER, "algorithm")
    if identifier in _SLH_DSA_NAME:
        algorithm.finish("parameters")  # RFC 9909: absent
        return _SLH_DSA_NAME[identifier]
    # OpenSSL 3.0 names the curve in both places.
    if (
        identifier not in {_EC_PUBLIC_KEY, _SM2_CURVE}
        or algorithm.next_tag() != der.OBJECT_IDENTIFIER
    ):
        return ""
    if algorithm.whole(der.OBJECT_IDENTIFIER, "parameters") != _SM2_CURVE:
        return ""
    algorithm.finish("parameters")
    return "sm2"


def parse_spki(data: bytes) -> RawPublic | None:
    """The key of a SubjectPublicKeyInfo when it is SLH-DSA or SM2; None when it is another's.

    Raises:
        DecodeError: the bytes are not a SubjectPublicKeyInfo, or the key is malformed.
    """
    what = "SubjectPublicKeyInfo"
    outer = der.Reader(data, structure=what)
    info = outer.enter(der.SEQUENCE, what)
    outer.finish(what)
    key_type = _key_type(info.enter(der.SEQUENCE, "algorithm"))
    key = info.whole_bits("subjectPublicKey")
    info.finish(what)
    if not key_type:
        return None
    if key_type == "sm2":
        return RawPublic(key_type, _sm2_point(key, what))
    size = slh_dsa_sizes(key_type)[0]
    if len(key) != size:
        raise DecodeError(what, "subjectPublicKey", 0, f"{len(key)} bytes, {key_type} has {size}")
    return RawPublic(key_type, key)


def _sm2_point(point: bytes, what: str) -> bytes:
    """X and Y of an uncompressed point that is on the curve."""
    if len(point) != 65 or point[0] != 4:
        raise DecodeError(what, "subjectPublicKey", 0, "not an uncompressed point of 65 bytes")
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    if x >= SM2_P or y >= SM2_P or (y * y - (x * x * x + SM2_A * x + SM2_B)) % SM2_P:
        raise DecodeError(what, "subjectPublicKey", 0, "the point is not on the SM2 curve")
    return point[1:]


def slh_dsa_sizes(key_type: str) -> tuple[int, int]:
    """Length of public and of private key in bytes: 2n and 4n (FIPS 205 table 2)."""
    n = int(key_type.rpartition("-")[2][:-1]) // 8
    return 2 * n, 4 * n


def slh_dsa_module(key_type: str) -> ModuleType:
    """The module of pqcrypto for a parameter set.

    Raises:
        UnsupportedAlgorithm: pqcrypto is not there.
    """
    PQC_ASYM.by_name(key_type).require()
    return PQCRYPTO.load("sign." + key_type.replace("-", "_"))


def generate(algorithm: SignatureAlgorithm) -> RawPrivate:
    """A fresh key of SLH-DSA or SM2.

    Raises:
        UnsupportedAlgorithm: the package is not there.
    """
    algorithm.require()
    if algorithm.family is SignatureFamily.SM2:
        public, secret = GMSSL.load().sm2_key_generate()
    elif algorithm.family is SignatureFamily.SLH_DSA:
        public, secret = slh_dsa_module(algorithm.key_type).keygen()
    else:
        raise UnsupportedAlgorithm(algorithm.name)
    return RawPrivate(algorithm.key_type, bytes(secret), bytes(public))


def load_private(content: bytes) -> RawPrivate | None:
    """The key of a PKCS #8 structure in clear when it is SLH-DSA or SM2; None when another's.

    Raises:
        DecodeError: the key is malformed.
        ConfigurationError: an SM2 key comes without its public half, or the halves do not match.
        UnsupportedAlgorithm: gmssl-pyx, needed to check an SM2 key, is not there.
    """
    what = "PrivateKeyInfo"
    info = der.Reader(content, structure=what)
    try:
        info = info.enter(der.SEQUENCE, what)
        info.natural("version")
        key_type = _key_type(info.enter(der.SEQUENCE, "privateKeyAlgorithm"))
    except DecodeError:  # PEM, the older forms, encrypted: cryptography's to read or to refuse
        return None
    if not key_type:
        return None
    key = info.take(der.OCTET_STRING, "privateKey")
    if key_type == "sm2":
        return _sm2_private(key)
    size = slh_dsa_sizes(key_type)[1]
    if len(key) != size:
        raise DecodeError(what, "privateKey", 0, f"{len(key)} bytes, {key_type} has {size}")
    return RawPrivate(key_type, key, key[size // 2 :])  # FIPS 205: SK ends with PK


def _sm2_private(key: bytes) -> RawPrivate:
    what = "ECPrivateKey"
    info = der.Reader(key, structure=what).enter(der.SEQUENCE, what)
    info.natural("version")
    secret = info.take(der.OCTET_STRING, "privateKey")
    if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < SM2_N - 1:
        raise DecodeError(what, "privateKey", 0, "not a number of SM2's order")
    if info.next_tag() == 0xA0:
        info.take(0xA0, "parameters")
    if info.next_tag() != 0xA1:
        raise ConfigurationError(
            "the SM2 private key comes without its public half",
            hint="write it again with a tool that stores both, such as openssl pkcs8",
        )
    point = _sm2_point(info.enter(0xA1, "publicKey").whole_bits("publicKey"), what)
    library = GMSSL.load()
    probe = bytes(range(32))
    if not library.sm2_verify_sm3_digest(point, probe, library.sm2_sign_sm3_digest(secret, probe)):
        raise ConfigurationError("the halves of the SM2 key do not belong together")
    return RawPrivate("sm2", secret, point)

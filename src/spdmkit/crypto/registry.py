"""Every algorithm that DSP0274 numbers, by bit and by name (10.4, tables 17 to 25).

Importing this loads no cryptographic library; an entry loads what it needs when it is used. An
entry without a library stays here, says why (`why_unavailable`) and refuses by name (`require`).

Selection takes the strongest entry both sides allow. Strength is estimated bits against classical
attack (NIST SP 800-57 part 1; RFC 7919 appendix A for FFDHE; the NIST category's AES equivalent for
post-quantum algorithms). Between equals the one written first in its table here wins: elliptic
curves before RSA and finite fields, PSS before PKCS #1 v1.5, ML-DSA before SLH-DSA, small
signatures before quick signing, SHA-2 before SHA-3, NIST before SM.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spdmkit.crypto.algorithm import Algorithm, Table
from spdmkit.crypto.availability import GMSSL, ML_DSA, ML_KEM, PQCRYPTO, PYCRYPTODOME, Missing
from spdmkit.crypto.hashes import HashAlgorithm, RunningHash, hashlib_entry, sm3_entry

if TYPE_CHECKING:
    from spdmkit.crypto.aead import Cipher
    from spdmkit.crypto.exchange import DhePrivate, KemPrivate
    from spdmkit.crypto.hashes import Octets

__all__ = [
    "AEAD",
    "BASE_ASYM",
    "BASE_HASH",
    "DHE",
    "KEM",
    "KEY_SCHEDULE",
    "MEASUREMENT_HASH",
    "PQC_ASYM",
    "RAW_BIT_STREAM",
    "Aead",
    "Algorithm",
    "Dhe",
    "HashAlgorithm",
    "Kem",
    "SignatureAlgorithm",
    "SignatureFamily",
    "Table",
    "signature_algorithm",
]

_V10, _V11, _V12, _V14 = 0x10, 0x11, 0x12, 0x14

# --- hashes ------------------------------------------------------------------------------------


def _no_hash() -> RunningHash:
    raise ValueError("a raw bit stream is not hashed")


BASE_HASH: Table[HashAlgorithm] = Table(
    "BaseHashAlgo",
    [
        hashlib_entry(0, "sha-256", 64),
        hashlib_entry(1, "sha-384", 128),
        hashlib_entry(2, "sha-512", 128),
        hashlib_entry(3, "sha3-256", 136),
        hashlib_entry(4, "sha3-384", 104),
        hashlib_entry(5, "sha3-512", 72),
        sm3_entry(6),
    ],
)

#: MeasurementHashAlgo bit 0: measurements are raw bit streams only, so there is no digest.
RAW_BIT_STREAM = HashAlgorithm(0, "Raw bit stream only", "raw", _V10, 0, 0, 0, new=_no_hash)

MEASUREMENT_HASH: Table[HashAlgorithm] = Table(
    "MeasurementHashAlgo",
    [
        RAW_BIT_STREAM,
        hashlib_entry(1, "sha-256", 64),
        hashlib_entry(2, "sha-384", 128),
        hashlib_entry(3, "sha-512", 128),
        hashlib_entry(4, "sha3-256", 136),
        hashlib_entry(5, "sha3-384", 104),
        hashlib_entry(6, "sha3-512", 72),
        sm3_entry(7),
    ],
)

# --- signatures --------------------------------------------------------------------------------


class SignatureFamily(enum.Enum):
    """How a signature is made from the bytes to sign (DSP0274 15.2 to 15.6)."""

    __hash__ = object.__hash__  # of keys of tables; enum's own hashes the name each time

    RSASSA = "RSASSA-PKCS1-v1_5"
    RSAPSS = "RSASSA-PSS"
    ECDSA = "ECDSA"
    SM2 = "SM2"
    EDDSA = "EdDSA"
    ML_DSA = "ML-DSA"
    SLH_DSA = "SLH-DSA"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SignatureAlgorithm(Algorithm):
    """An entry of BaseAsymAlgo / ReqBaseAsymAlg or PqcAsymAlgo / ReqPqcAsymAlg.

    Attributes:
        family: how it signs.
        key_type: the keys it takes, as `PublicKey.key_type` names them. RSASSA and RSAPSS of one
            size take the same keys.
        signature_size: length of a signature in bytes (SigLen).
        pqc: True for an entry of PqcAsymAlgo.
    """

    family: SignatureFamily
    key_type: str
    signature_size: int
    pqc: bool = False


_RSA_BITS = {2048: 112, 3072: 128, 4096: 140}


def _rsa(bit: int, family: SignatureFamily, bits: int) -> SignatureAlgorithm:
    scheme = family.name
    return SignatureAlgorithm(
        bit,
        f"TPM_ALG_{scheme}_{bits}",
        f"{scheme.lower()}-{bits}",
        _V10,
        _RSA_BITS[bits],
        family,
        f"rsa-{bits}",
        bits // 8,
    )


def _ecdsa(bit: int, curve_bits: int, security: int) -> SignatureAlgorithm:
    return SignatureAlgorithm(
        bit,
        f"TPM_ALG_ECDSA_ECC_NIST_P{curve_bits}",
        f"ecdsa-p{curve_bits}",
        _V10,
        security,
        SignatureFamily.ECDSA,
        f"ec-p{curve_bits}",
        2 * ((curve_bits + 7) // 8),
    )


BASE_ASYM: Table[SignatureAlgorithm] = Table(
    "BaseAsymAlgo",
    [
        _ecdsa(8, 521, 256),
        # A context string is part of SPDM's Ed448 (15.3.2); cryptography has no argument for it.
        SignatureAlgorithm(
            11,
            "EdDSA ed448",
            "ed448",
            _V12,
            224,
            SignatureFamily.EDDSA,
            "ed448",
            114,
            needs=PYCRYPTODOME,
        ),
        _ecdsa(7, 384, 192),
        _ecdsa(4, 256, 128),
        SignatureAlgorithm(
            10, "EdDSA ed25519", "ed25519", _V12, 128, SignatureFamily.EDDSA, "ed25519", 64
        ),
        _rsa(6, SignatureFamily.RSAPSS, 4096),
        _rsa(5, SignatureFamily.RSASSA, 4096),
        _rsa(3, SignatureFamily.RSAPSS, 3072),
        _rsa(2, SignatureFamily.RSASSA, 3072),
        SignatureAlgorithm(
            9,
            "TPM_ALG_SM2_ECC_SM2_P256",
            "sm2-p256",
            _V12,
            128,
            SignatureFamily.SM2,
            "sm2",
            64,
            needs=GMSSL,
        ),
        _rsa(1, SignatureFamily.RSAPSS, 2048),
        _rsa(0, SignatureFamily.RSASSA, 2048),
    ],
)


def _ml_dsa(bit: int, parameter: int, security: int, size: int) -> SignatureAlgorithm:
    name = f"ML-DSA-{parameter}"
    return SignatureAlgorithm(
        bit,
        name,
        name.lower(),
        _V14,
        security,
        SignatureFamily.ML_DSA,
        name.lower(),
        size,
        True,
        needs=ML_DSA,
    )


def _slh_dsa(bit: int, parameters: str, security: int, size: int) -> SignatureAlgorithm:
    name = f"SLH-DSA-{parameters}"
    return SignatureAlgorithm(
        bit,
        name,
        name.lower(),
        _V14,
        security,
        SignatureFamily.SLH_DSA,
        name.lower(),
        size,
        True,
        needs=PQCRYPTO,
    )


PQC_ASYM: Table[SignatureAlgorithm] = Table(
    "PqcAsymAlgo",
    [
        _ml_dsa(2, 87, 256, 4627),
        _slh_dsa(11, "SHA2-256s", 256, 29792),
        _slh_dsa(12, "SHAKE-256s", 256, 29792),
        _slh_dsa(13, "SHA2-256f", 256, 49856),
        _slh_dsa(14, "SHAKE-256f", 256, 49856),
        _ml_dsa(1, 65, 192, 3309),
        _slh_dsa(7, "SHA2-192s", 192, 16224),
        _slh_dsa(8, "SHAKE-192s", 192, 16224),
        _slh_dsa(9, "SHA2-192f", 192, 35664),
        _slh_dsa(10, "SHAKE-192f", 192, 35664),
        _ml_dsa(0, 44, 128, 2420),
        _slh_dsa(3, "SHA2-128s", 128, 7856),
        _slh_dsa(4, "SHAKE-128s", 128, 7856),
        _slh_dsa(5, "SHA2-128f", 128, 17088),
        _slh_dsa(6, "SHAKE-128f", 128, 17088),
    ],
)


def signature_algorithm(name: str) -> SignatureAlgorithm:
    """The signature algorithm with a name, classical or post-quantum.

    Raises:
        ConfigurationError: none has it.
    """
    table = PQC_ASYM if name.lower().startswith(("ml-", "ml_", "slh")) else BASE_ASYM
    return table.by_name(name)


# --- key exchange ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dhe(Algorithm):
    """A Diffie-Hellman group of the DHE structure table.

    Attributes:
        exchange_size: length of ExchangeData in either direction in bytes (D).
        secret_size: length of the DHE secret in bytes (12.1). 0 for SM2, whose secret is as long
            as the key of the negotiated AEAD algorithm.
    """

    exchange_size: int
    secret_size: int

    def generate(self) -> DhePrivate:
        """A fresh ephemeral key pair.

        Raises:
            UnsupportedAlgorithm: no library here has the group.
        """
        from spdmkit.crypto import exchange  # noqa: PLC0415 - loads cryptography

        return exchange.generate_dhe(self)


DHE: Table[Dhe] = Table(
    "DHE",
    [
        Dhe(5, "secp521r1", "secp521r1", _V11, 256, 132, 66),
        Dhe(4, "secp384r1", "secp384r1", _V11, 192, 96, 48),
        Dhe(3, "secp256r1", "secp256r1", _V11, 128, 64, 32),
        Dhe(2, "ffdhe4096", "ffdhe4096", _V11, 150, 512, 512),
        Dhe(1, "ffdhe3072", "ffdhe3072", _V11, 125, 384, 384),
        Dhe(0, "ffdhe2048", "ffdhe2048", _V11, 103, 256, 256),
        Dhe(
            6,
            "SM2_P256",
            "sm2-p256",
            _V12,
            128,
            64,
            0,
            needs=Missing(
                "DSP0274 leaves open which static keys enter the key exchange of GB/T 32918.3, "
                "and there is no peer to show it"
            ),
        ),
    ],
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Kem(Algorithm):
    """A key encapsulation mechanism of the KEMAlg structure table (SPDM 1.4).

    Attributes:
        encapsulation_key_size: ExchangeData of KEY_EXCHANGE in bytes.
        ciphertext_size: ExchangeData of KEY_EXCHANGE_RSP in bytes.
        secret_size: length of K in bytes.
    """

    encapsulation_key_size: int
    ciphertext_size: int
    secret_size: int = 32

    def generate(self) -> KemPrivate:
        """A fresh ephemeral decapsulation key (Requester).

        Raises:
            UnsupportedAlgorithm: no library here has the parameter set.
        """
        from spdmkit.crypto import exchange  # noqa: PLC0415 - loads cryptography

        return exchange.generate_kem(self)

    def encapsulate(self, encapsulation_key: Octets) -> tuple[bytes, bytes]:
        """Make a secret for the holder of a decapsulation key (Responder).

        Returns:
            The ciphertext to send, and K.

        Raises:
            ProtocolViolation: the key has the wrong length or fails FIPS 203's input check.
            UnsupportedAlgorithm: no library here has the parameter set.
        """
        from spdmkit.crypto import exchange  # noqa: PLC0415 - loads cryptography

        return exchange.encapsulate(self, encapsulation_key)


KEM: Table[Kem] = Table(
    "KEMAlg",
    [
        Kem(2, "ML-KEM-1024", "ml-kem-1024", _V14, 256, 1568, 1568, needs=ML_KEM),
        Kem(1, "ML-KEM-768", "ml-kem-768", _V14, 192, 1184, 1088, needs=ML_KEM),
        Kem(0, "ML-KEM-512", "ml-kem-512", _V14, 128, 800, 768, needs=PQCRYPTO),
    ],
)

# --- records and key schedule ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Aead(Algorithm):
    """An entry of the AEAD structure table.

    Attributes:
        key_size: key length in bytes.
        iv_size: IV and nonce length in bytes.
        tag_size: MAC length in bytes.
    """

    key_size: int
    iv_size: int = field(default=12)
    tag_size: int = field(default=16)

    def new(self, key: Octets) -> Cipher:
        """A cipher under a key; keep it, because making one costs as much as a short record.

        Raises:
            UnsupportedAlgorithm: no library here has the algorithm.
            ValueError: the key has another length.
        """
        from spdmkit.crypto import aead  # noqa: PLC0415 - loads cryptography

        return aead.new(self, key)


AEAD: Table[Aead] = Table(
    "AEAD",
    [
        Aead(1, "AES-256-GCM", "aes-256-gcm", _V11, 256, 32),
        Aead(2, "CHACHA20_POLY1305", "chacha20-poly1305", _V11, 256, 32),
        Aead(0, "AES-128-GCM", "aes-128-gcm", _V11, 128, 16),
        Aead(3, "AEAD_SM4_GCM", "sm4-gcm", _V12, 128, 16),
    ],
)

KEY_SCHEDULE: Table[Algorithm] = Table(
    "KeySchedule", [Algorithm(0, "SPDM Key Schedule", "spdm", _V11, 0)]
)

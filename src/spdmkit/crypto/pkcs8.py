"""Private keys at rest: PEM armour, and PKCS #8 encrypted by PBES2 (RFC 5958, RFC 8018).

Written here because cryptography's own encryption stays at 2,048 iterations of PBKDF2, and because
it cannot encrypt keys it does not know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from spdmkit.crypto import der
from spdmkit.errors import ConfigurationError, DecodeError

__all__ = ["armour", "decrypt", "encrypt", "expanded_key", "is_clear", "seed_only", "unarmour"]

#: OWASP's figure for PBKDF2-HMAC-SHA256; about a fifth of a second.
ITERATIONS = 600_000
#: A file may ask for at most this much work.
MAX_ITERATIONS = 10_000_000
_SALT_SIZE = _IV_SIZE = 16

_PBES2 = der.encode_object_identifier("1.2.840.113549.1.5.13")
_PBKDF2 = der.encode_object_identifier("1.2.840.113549.1.5.12")
_HMAC_SHA256 = der.encode_object_identifier("1.2.840.113549.2.9")
_AES256_CBC = der.encode_object_identifier("2.16.840.1.101.3.4.1.42")
_WHAT = "EncryptedPrivateKeyInfo"


def armour(content: bytes, label: str) -> bytes:
    """DER in PEM (RFC 7468) under a label."""
    text = base64.b64encode(content)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    name = label.encode()
    return b"\n".join(
        [b"-----BEGIN " + name + b"-----", *lines, b"-----END " + name + b"-----", b""]
    )


def unarmour(data: bytes, label: str) -> bytes | None:
    """The DER of the first PEM block with a label, or None when there is no such block.

    Raises:
        ConfigurationError: the block is not base64.
    """
    name = re.escape(label.encode())
    block = re.search(
        rb"-----BEGIN " + name + rb"-----\s+([A-Za-z0-9+/=\s]*?)-----END " + name + rb"-----", data
    )
    if block is None:
        return None
    try:
        return base64.b64decode(b"".join(block.group(1).split()), validate=True)
    except binascii.Error as error:
        raise ConfigurationError(f"PEM block {label} is not base64: {error}") from None


def encrypt(content: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo of a PKCS #8 structure: PBKDF2-HMAC-SHA256 and AES-256-CBC."""
    salt, iv = os.urandom(_SALT_SIZE), os.urandom(_IV_SIZE)
    padder = PKCS7(128).padder()
    encryptor = Cipher(_cipher_key(passphrase, salt, ITERATIONS), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    derivation = der.tlv(
        der.SEQUENCE,
        _PBKDF2,
        der.tlv(
            der.SEQUENCE,
            der.tlv(der.OCTET_STRING, salt),
            der.encode_integer(ITERATIONS),
            der.tlv(der.SEQUENCE, _HMAC_SHA256, der.tlv(der.NULL)),
        ),
    )
    cipher = der.tlv(der.SEQUENCE, _AES256_CBC, der.tlv(der.OCTET_STRING, iv))
    scheme = der.tlv(der.SEQUENCE, _PBES2, der.tlv(der.SEQUENCE, derivation, cipher))
    return der.tlv(der.SEQUENCE, scheme, der.tlv(der.OCTET_STRING, sealed))


def decrypt(content: bytes, passphrase: bytes) -> bytes | None:
    """The PKCS #8 structure inside, or None when it is not encrypted the way `encrypt` does.

    Raises:
        ConfigurationError: the passphrase is wrong, or more iterations are asked for than allowed.
    """
    try:
        salt, iterations, iv, sealed = _read(content)
    except DecodeError:
        return None
    if iterations > MAX_ITERATIONS:
        raise ConfigurationError(f"the private key asks for {iterations} iterations of PBKDF2")
    wrong = ConfigurationError("wrong passphrase for the private key")
    if not sealed or len(sealed) % 16:
        raise wrong
    decryptor = Cipher(_cipher_key(passphrase, salt, iterations), modes.CBC(iv)).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    unpadder = PKCS7(128).unpadder()
    try:
        plain = unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise wrong from None
    # CBC padding comes out right for one wrong passphrase in 256.
    if not plain.startswith(b"\x30"):
        raise wrong
    return plain


def is_clear(content: bytes) -> bool:
    """Whether DER looks like a private key that is not encrypted: they all begin with a version."""
    try:
        return (
            der.Reader(content, structure=_WHAT).enter(der.SEQUENCE, _WHAT).next_tag()
            == der.INTEGER
        )
    except DecodeError:
        return False


def _cipher_key(passphrase: bytes, salt: bytes, iterations: int) -> algorithms.AES:
    return algorithms.AES(hashlib.pbkdf2_hmac("sha256", passphrase, salt, iterations, 32))


def _read(content: bytes) -> tuple[bytes, int, bytes, bytes]:
    """Salt, iterations, IV and ciphertext of what `encrypt` made."""
    outer = der.Reader(content, structure=_WHAT)
    info = outer.enter(der.SEQUENCE, "EncryptedPrivateKeyInfo")
    outer.finish("EncryptedPrivateKeyInfo")
    scheme = info.enter(der.SEQUENCE, "encryptionAlgorithm")
    _expect(scheme, _PBES2)
    parameters = scheme.enter(der.SEQUENCE, "parameters")
    derivation = parameters.enter(der.SEQUENCE, "keyDerivationFunc")
    _expect(derivation, _PBKDF2)
    pbkdf2 = derivation.enter(der.SEQUENCE, "PBKDF2-params")
    salt = pbkdf2.take(der.OCTET_STRING, "salt")
    iterations = pbkdf2.natural("iterationCount")
    function = pbkdf2.enter(der.SEQUENCE, "prf")
    _expect(function, _HMAC_SHA256)
    pbkdf2.finish("PBKDF2-params")
    cipher = parameters.enter(der.SEQUENCE, "encryptionScheme")
    _expect(cipher, _AES256_CBC)
    iv = cipher.take(der.OCTET_STRING, "iv")
    sealed = info.take(der.OCTET_STRING, "encryptedData")
    info.finish("EncryptedPrivateKeyInfo")
    if len(iv) != _IV_SIZE or iterations == 0:
        raise DecodeError(_WHAT, "parameters", 0, "not usable")
    return salt, iterations, iv, sealed


def _expect(reader: der.Reader, identifier: bytes) -> None:
    found = reader.whole(der.OBJECT_IDENTIFIER, "algorithm")
    if found != identifier:
        raise DecodeError(_WHAT, "algorithm", 0, "another algorithm")


# --- ML-DSA: RFC 9881 has three forms of a private key, cryptography reads one of them -----------

_ML_DSA_OIDS = frozenset(
    der.encode_object_identifier(f"2.16.840.1.101.3.4.3.{arc}") for arc in (17, 18, 19)
)
_ML_DSA_SEED = 0x80  # [0] IMPLICIT OCTET STRING


def seed_only(content: bytes) -> bytes:
    """PKCS #8 of an ML-DSA key with its seed alone, from the form with seed and expanded key.

    OpenSSL writes the latter unless told otherwise. Anything else is returned as it is. Whether
    the two agree is for the caller to check: `expanded_key` has the other half.

    Raises:
        ConfigurationError: there is only an expanded key, from which no seed can be had.
        DecodeError: the key is malformed.
    """
    found = _ml_dsa(content)
    if found is None:
        return content
    identifier, key = found
    tag = key.next_tag()
    if tag == der.OCTET_STRING:
        raise ConfigurationError(
            "the ML-DSA private key is stored expanded and without its seed",
            hint="export it again, with its seed, from where it was made",
        )
    if tag != der.SEQUENCE:
        return content
    seed = key.enter(der.SEQUENCE, "both").take(der.OCTET_STRING, "seed")
    return der.tlv(
        der.SEQUENCE,
        der.encode_integer(0),
        der.tlv(der.SEQUENCE, identifier),
        der.tlv(der.OCTET_STRING, der.tlv(_ML_DSA_SEED, seed)),
    )


def expanded_key(content: bytes) -> bytes | None:
    """The expanded key of an ML-DSA key stored with its seed and expanded; None for all others.

    Raises:
        DecodeError: the key is malformed.
    """
    found = _ml_dsa(content)
    if found is None or found[1].next_tag() != der.SEQUENCE:
        return None
    both = found[1].enter(der.SEQUENCE, "both")
    both.take(der.OCTET_STRING, "seed")
    expanded = both.take(der.OCTET_STRING, "expandedKey")
    both.finish("both")
    return expanded


def _ml_dsa(content: bytes) -> tuple[bytes, der.Reader] | None:
    """The algorithm and the key inside, when it is ML-DSA."""
    try:
        info = der.Reader(content, structure="PrivateKeyInfo").enter(der.SEQUENCE, "PrivateKeyInfo")
        info.natural("version")
        algorithm = info.enter(der.SEQUENCE, "privateKeyAlgorithm")
        identifier = algorithm.whole(der.OBJECT_IDENTIFIER, "algorithm")
        if identifier not in _ML_DSA_OIDS:
            return None
        return identifier, info.enter(der.OCTET_STRING, "privateKey")
    except DecodeError:
        return None

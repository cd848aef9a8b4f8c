"""Key exchange: ephemeral Diffie-Hellman and key encapsulation (DSP0274 10.17, 12.1, 12.2).

Whatever is wrong with a peer's value, its length, its range, its curve, is a `ProtocolViolation`,
to be answered with ERROR InvalidRequest: no secret comes from it. A ciphertext that was tampered
with is not noticed here: ML-KEM then yields another secret, and the handshake's MAC fails.

Secrets are `bytes` that the libraries made, so they cannot be wiped; drop them once the key
schedule has them.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec, mlkem

from spdmkit.crypto import ffdhe
from spdmkit.crypto.availability import PQCRYPTO
from spdmkit.errors import ProtocolViolation

if TYPE_CHECKING:
    from spdmkit.crypto.hashes import Octets
    from spdmkit.crypto.registry import Dhe, Kem

__all__ = ["DhePrivate", "KemPrivate", "encapsulate", "generate_dhe", "generate_kem"]


def _violation(reason: str) -> NoReturn:
    raise ProtocolViolation(reason) from None


def _check_size(what: str, data: Octets, size: int) -> None:
    if len(data) != size:
        _violation(f"{what} has {len(data)} bytes, not {size}")


# --- Diffie-Hellman ------------------------------------------------------------------------------


class DhePrivate(abc.ABC):
    """Our ephemeral key of one exchange.

    Attributes:
        group: the DHE group.
        exchange_data: our ExchangeData, `group.exchange_size` bytes.
    """

    __slots__ = ("exchange_data", "group")

    group: Dhe
    exchange_data: bytes

    def shared_secret(self, peer: Octets) -> bytes:
        """The DHE secret (12.1), `group.secret_size` bytes with its leading zeros.

        Args:
            peer: the peer's ExchangeData.

        Raises:
            ProtocolViolation: it has another length, is out of range or not in the group.
        """
        _check_size(f"{self.group.name} exchange data", peer, self.group.exchange_size)
        return self._agree(bytes(peer))

    @abc.abstractmethod
    def _agree(self, peer: bytes) -> bytes: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.group.short}>"


class _Ffdhe(DhePrivate):
    """ExchangeData is g^x, big endian, as long as the prime."""

    __slots__ = ("_exponent", "_parameters")

    def __init__(self, group: Dhe) -> None:
        self.group = group
        self._parameters = ffdhe.group(group.exchange_size * 8)
        self._exponent = self._parameters.random_exponent()
        self.exchange_data = self._power(2)

    def _power(self, base: int) -> bytes:
        parameters = self._parameters
        return ffdhe.power(base, self._exponent, parameters.prime).to_bytes(parameters.size, "big")

    def _agree(self, peer: bytes) -> bytes:
        value = int.from_bytes(peer, "big")
        if not self._parameters.contains(value):
            _violation(f"{self.group.name} exchange data is not in the group (RFC 7919 5.1)")
        return self._power(value)


class _Ecdhe(DhePrivate):
    """ExchangeData is X || Y, each as long as the field, big endian (10.17)."""

    __slots__ = ("_curve", "_key")

    def __init__(self, group: Dhe) -> None:
        self.group = group
        self._curve = _CURVES[group.short]()
        self._key = ec.generate_private_key(self._curve)
        point = self._key.public_key().public_numbers()
        half = group.exchange_size // 2
        self.exchange_data = point.x.to_bytes(half, "big") + point.y.to_bytes(half, "big")

    def _agree(self, peer: bytes) -> bytes:
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, b"\x04" + peer)
        except ValueError:
            _violation(f"{self.group.name} exchange data is not a point on the curve")
        return self._key.exchange(ec.ECDH(), point)


_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "secp256r1": ec.SECP256R1,
    "secp384r1": ec.SECP384R1,
    "secp521r1": ec.SECP521R1,
}


def generate_dhe(group: Dhe) -> DhePrivate:
    """A fresh key; see `registry.Dhe.generate`."""
    group.require()
    return _Ecdhe(group) if group.short in _CURVES else _Ffdhe(group)


# --- key encapsulation ---------------------------------------------------------------------------


class KemPrivate:
    """Our ephemeral decapsulation key of one exchange (Requester).

    Attributes:
        kem: the parameter set.
        encapsulation_key: what goes into KEY_EXCHANGE.
    """

    __slots__ = ("_decapsulate", "encapsulation_key", "kem")

    def __init__(
        self, kem: Kem, encapsulation_key: bytes, decapsulate: Callable[[bytes], bytes]
    ) -> None:
        """Not for callers: use `registry.Kem.generate`."""
        self.kem = kem
        self.encapsulation_key = encapsulation_key
        self._decapsulate = decapsulate

    def decapsulate(self, ciphertext: Octets) -> bytes:
        """K', `kem.secret_size` bytes (FIPS 203 7.3).

        Args:
            ciphertext: what came in KEY_EXCHANGE_RSP.

        Raises:
            ProtocolViolation: it has another length. Any other change to it yields another secret.
        """
        _check_size(f"{self.kem.name} ciphertext", ciphertext, self.kem.ciphertext_size)
        return self._decapsulate(bytes(ciphertext))

    def __repr__(self) -> str:
        return f"<KemPrivate {self.kem.short}>"


_PYCA_KEM: dict[str, tuple[type[Any], type[Any]]] = {
    "ml-kem-768": (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
    "ml-kem-1024": (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
}


def generate_kem(kem: Kem) -> KemPrivate:
    """A fresh key; see `registry.Kem.generate`."""
    kem.require()
    if kem.short in _PYCA_KEM:
        private = _PYCA_KEM[kem.short][0].generate()
        return KemPrivate(kem, private.public_key().public_bytes_raw(), private.decapsulate)
    module = _pqcrypto(kem)
    public, secret = module.keygen()
    return KemPrivate(kem, bytes(public), lambda ciphertext: module.decaps(secret, ciphertext))


def encapsulate(kem: Kem, encapsulation_key: Octets) -> tuple[bytes, bytes]:
    """A ciphertext and its secret; see `registry.Kem.encapsulate`."""
    kem.require()
    _check_size(f"{kem.name} encapsulation key", encapsulation_key, kem.encapsulation_key_size)
    key = bytes(encapsulation_key)
    try:
        if kem.short in _PYCA_KEM:
            secret, ciphertext = _PYCA_KEM[kem.short][1].from_public_bytes(key).encapsulate()
        else:
            ciphertext, secret = _pqcrypto(kem).encaps(key)
    except ValueError:  # FIPS 203 7.2: a coefficient is not below q
        _violation(f"{kem.name} encapsulation key is not valid")
    return ciphertext, secret


def _pqcrypto(kem: Kem) -> Any:
    return PQCRYPTO.load("kem." + kem.short.replace("-", "_"))

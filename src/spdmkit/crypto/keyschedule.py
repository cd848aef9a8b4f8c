"""The key schedule of secure sessions (DSP0274 clause 12) and the nonces of DSP0277.

    secret or PSK -> Handshake-Secret -> S0, S1  (records and verify data of the handshake)
                          |
                     Master-Secret    -> S2, S3  (records of the application phase), Export Master

Secrets stay in buffers that `wipe` overwrites. What HKDF returns on the way is `bytes` that only
the interpreter can reuse, and the ciphers made from keys hold copies of their own: after `wipe`
nothing is reachable through these objects, which is not to say that nothing is in memory.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from spdmkit.errors import ProtocolViolation

if TYPE_CHECKING:
    from spdmkit.crypto.hashes import HashAlgorithm, Octets
    from spdmkit.crypto.registry import Aead

__all__ = [
    "DirectionSecret",
    "DirectionSecrets",
    "KeyAndIv",
    "KeySchedule",
    "bin_concat",
    "nonce",
]

_FIRST_PSK_SALT_OF_ONES = 0x13  # SPDM 1.3


@functools.cache
def _version_text(version: int) -> bytes:
    """The 8 bytes that stand for the version in BinConcat: "spdm1.2 ".

    The table of DSP0274 1.4.0 ends with "spdm1.3 "; 1.4 follows its general rule.
    """
    if not 0x11 <= version <= 0x19:
        raise ValueError(f"SPDM version byte 0x{version:02x} has no sessions")
    return f"spdm1.{version & 0x0F} ".encode()


def bin_concat(length: int, version: int, label: str, context: Octets = b"") -> bytes:
    """BinConcat (12): the info argument of HKDF-Expand.

    Args:
        length: how many bytes will be derived.
        version: the negotiated SPDM version byte.
        label: as in table 157.
        context: a transcript hash, or nothing.
    """
    return length.to_bytes(2, "little") + _version_text(version) + label.encode() + context


def nonce(iv: Octets, sequence: int) -> bytes:
    """The nonce of one record (DSP0277): the IV with the 64-bit sequence number, little endian.

    Args:
        iv: the IV of the direction.
        sequence: number of the record under this key, from 0.

    Raises:
        ValueError: the number does not fit into 64 bits.
    """
    if not 0 <= sequence < 1 << 64:
        raise ValueError(f"{sequence} is no 64-bit sequence number")
    return (int.from_bytes(iv, "little") ^ sequence).to_bytes(len(iv), "little")


class KeyAndIv(NamedTuple):
    """What protects the records of one direction."""

    key: bytes
    iv: bytes


class DirectionSecret:
    """A major secret: S0 to S3 of clause 12.6, one direction in one phase of a session."""

    __slots__ = ("_aead", "_hash", "_secret", "_version")

    def __init__(
        self, secret: Octets, *, version: int, base_hash: HashAlgorithm, aead: Aead
    ) -> None:
        """Take a secret, of which a copy is kept until `wipe`."""
        self._secret = bytearray(secret)
        self._version = version
        self._hash = base_hash
        self._aead = aead

    def _expand(self, label: str, length: int) -> bytes:
        if not self._secret:
            raise ProtocolViolation("the secret is gone: the session ended or its keys changed")
        info = bin_concat(length, self._version, label)
        return self._hash.hkdf_expand(self._secret, info, length)

    def key_and_iv(self) -> KeyAndIv:
        """Encryption key and IV (12.7), as long as the AEAD algorithm wants them.

        Raises:
            ProtocolViolation: the secret was wiped.
        """
        return KeyAndIv(
            self._expand("key", self._aead.key_size), self._expand("iv", self._aead.iv_size)
        )

    def finished_key(self) -> bytes:
        """The finished_key (12.8) of a handshake secret.

        Raises:
            ProtocolViolation: the secret was wiped.
        """
        return self._expand("finished", self._hash.size)

    def finished(self, digest: Octets) -> bytes:
        """Verify data: HMAC under finished_key over the digest of a transcript (10.17 to 10.20).

        Raises:
            ProtocolViolation: the secret was wiped.
        """
        return self._hash.hmac(self.finished_key(), digest)

    def updated(self) -> DirectionSecret:
        """The secret that follows this one at KEY_UPDATE (12.10). This one stays as it is.

        Raises:
            ProtocolViolation: the secret was wiped.
        """
        following = self._expand("traffic upd", self._hash.size)
        return DirectionSecret(
            following, version=self._version, base_hash=self._hash, aead=self._aead
        )

    def reveal(self) -> bytes:
        """The secret itself, for a key log that was asked for.

        Raises:
            ProtocolViolation: the secret was wiped.
        """
        if not self._secret:
            raise ProtocolViolation("the secret is gone: the session ended or its keys changed")
        return bytes(self._secret)

    def wipe(self) -> None:
        """Overwrite the secret; deriving from it is an error from now on. May be called twice."""
        _wipe(self._secret)

    @property
    def wiped(self) -> bool:
        """True after `wipe`."""
        return not self._secret

    def __repr__(self) -> str:
        return f"<DirectionSecret{' wiped' if self.wiped else ''}>"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


class DirectionSecrets(NamedTuple):
    """The major secrets of one phase."""

    request: DirectionSecret
    response: DirectionSecret


class KeySchedule:
    """The secrets of one session that are above its directions.

    `start_handshake` and `start_application` are each called once, in this order; the secrets they
    return belong to the caller, who wipes them.
    """

    __slots__ = (
        "_aead",
        "_export_master",
        "_handshake",
        "_hash",
        "_master",
        "_started",
        "_version",
    )

    def __init__(self, version: int, base_hash: HashAlgorithm, aead: Aead) -> None:
        """A schedule without secrets.

        Args:
            version: the negotiated SPDM version byte.
            base_hash: the negotiated hash.
            aead: the negotiated AEAD algorithm.
        """
        self._version = version
        self._hash = base_hash
        self._aead = aead
        self._started = False
        self._handshake = bytearray()
        self._master = bytearray()
        self._export_master = bytearray()

    def start_handshake(
        self, secret: Octets, th1: Octets, *, psk: bool = False
    ) -> DirectionSecrets:
        """Derive the handshake secrets S0 and S1 (12.6.1, 12.6.2).

        Args:
            secret: the DHE secret, K of a KEM, or the PSK; whose it is stays the caller's to drop.
            th1: the TH1 hash.
            psk: the session comes from PSK_EXCHANGE. From SPDM 1.3 on its Salt_0 is all ones
                (table 157), before that all zeros like every other.

        Raises:
            ProtocolViolation: the handshake was started before.
        """
        if self._started:
            raise ProtocolViolation("the handshake secrets of this session exist already")
        self._started = True
        ones = psk and self._version >= _FIRST_PSK_SALT_OF_ONES
        salt_0 = (b"\xff" if ones else b"\x00") * self._hash.size
        self._handshake = bytearray(self._hash.hkdf_extract(salt_0, secret))
        return self._directions(self._handshake, "req hs data", "rsp hs data", th1)

    def start_application(self, th2: Octets) -> DirectionSecrets:
        """Derive the data secrets S2 and S3 (12.6.3, 12.6.4) and the Export Master Secret.

        Handshake-Secret and Master-Secret are wiped: nothing else comes from them.

        Args:
            th2: the TH2 hash.

        Raises:
            ProtocolViolation: the handshake was not started, or the session is over.
        """
        if not self._handshake:
            raise ProtocolViolation("there is no handshake secret to go on from")
        size = self._hash.size
        salt_1 = bytearray(self._expand(self._handshake, "derived"))
        self._master = bytearray(self._hash.hkdf_extract(salt_1, bytes(size)))
        secrets = self._directions(self._master, "req app data", "rsp app data", th2)
        self._export_master = bytearray(self._expand(self._master, "exp master", th2))
        for secret in (salt_1, self._handshake, self._master):
            _wipe(secret)
        return secrets

    def export_master_secret(self) -> bytes:
        """The Export Master Secret (12.9), from which applications may derive their own keys.

        Raises:
            ProtocolViolation: the application phase was not reached, or the session is over.
        """
        if not self._export_master:
            raise ProtocolViolation("there is no export master secret")
        return bytes(self._export_master)

    def wipe(self) -> None:
        """Overwrite every secret held here. May be called twice."""
        self._started = True
        for secret in (self._handshake, self._master, self._export_master):
            _wipe(secret)

    def _expand(self, secret: Octets, label: str, context: Octets = b"") -> bytes:
        size = self._hash.size
        return self._hash.hkdf_expand(secret, bin_concat(size, self._version, label, context), size)

    def _directions(
        self, secret: Octets, request_label: str, response_label: str, transcript_hash: Octets
    ) -> DirectionSecrets:
        if len(transcript_hash) != self._hash.size:
            raise ValueError(f"{len(transcript_hash)} bytes are no {self._hash.name} digest")
        request, response = (
            DirectionSecret(
                self._expand(secret, label, transcript_hash),
                version=self._version,
                base_hash=self._hash,
                aead=self._aead,
            )
            for label in (request_label, response_label)
        )
        return DirectionSecrets(request, response)

    def __repr__(self) -> str:
        return f"<KeySchedule SPDM 1.{self._version & 0x0F} {self._hash.short}>"

    def __reduce__(self) -> str:
        raise TypeError("a key schedule is not pickled")


def _wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))
    secret.clear()

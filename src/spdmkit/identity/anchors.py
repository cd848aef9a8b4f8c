"""Trust anchors: certificates that we chose to trust, each set for one purpose.

Nothing in a chain can make itself trusted; a chain is believed as far as it hangs on one of these.
A set serves one purpose only (a root of devices says nothing about who may sign reference values),
and `verify_chain` refuses a set whose purpose is not the one it verifies for.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.identity.certificate import Certificate
from spdmkit.identity.chain import load_certificates

__all__ = ["Purpose", "TrustAnchors"]


class Purpose(enum.Enum):
    """What the holder of a verified chain may do."""

    DEVICE = "device"
    """Answer as an SPDM Responder."""
    REQUESTER = "requester"
    """Ask as an SPDM Requester (mutual authentication)."""
    REFERENCE_SIGNER = "reference signer"
    """Sign reference values."""
    POLICY_SIGNER = "policy signer"
    """Sign verification policies."""
    CERTIFICATE_AUTHORITY = "certificate authority"
    """Issue certificates that go into slots."""
    RESULT_SIGNER = "result signer"
    """Sign attestation results."""


class TrustAnchors:
    """A set of trusted certificates for one purpose.

    An anchor may be a root, an intermediate, or, with `accept_leaf`, an endpoint's own certificate.

    Attributes:
        purpose: what the set is for.
        certificates: the anchors, without duplicates.
        accept_leaf: an anchor may be the leaf itself (one pinned device).
        fingerprint: SHA-256 that names this set, its purpose included.
    """

    def __init__(
        self,
        certificates: Iterable[Certificate | bytes],
        purpose: Purpose,
        *,
        accept_leaf: bool = False,
    ) -> None:
        """Make a set.

        Args:
            certificates: certificates, parsed or in DER.
            purpose: what they are trusted for.
            accept_leaf: take an anchor that is the leaf itself.

        Raises:
            ConfigurationError: the set is empty, or a certificate cannot be read.
        """
        items = (
            Certificate(bytes(item)) if not isinstance(item, Certificate) else item
            for item in certificates
        )
        self.certificates = tuple(dict.fromkeys(items))
        self.purpose = purpose
        self.accept_leaf = accept_leaf
        if not self.certificates:
            raise ConfigurationError(f"no trust anchor for the purpose {purpose.value!r}")
        self._by_subject: dict[bytes, list[Certificate]] = {}
        for number, certificate in enumerate(self.certificates, 1):
            try:
                _ = certificate.x509
            except DecodeError as error:
                raise ConfigurationError(
                    f"trust anchor {number} cannot be read: {error.reason}"
                ) from error
            self._by_subject.setdefault(certificate.subject_der, []).append(certificate)
        self._members = frozenset(self.certificates)
        digest = hashlib.sha256(f"{purpose.value}\0{accept_leaf}\0".encode())
        for fingerprint in sorted(certificate.sha256 for certificate in self.certificates):
            digest.update(fingerprint)
        self.fingerprint = digest.digest()

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        purpose: Purpose,
        *,
        accept_leaf: bool = False,
        source: str = "trust anchors",
    ) -> TrustAnchors:
        """A set from PEM (one certificate or several) or DER.

        Raises:
            ConfigurationError: nothing readable in it; `source` is named.
        """
        return cls(load_certificates(data, source=source), purpose, accept_leaf=accept_leaf)

    @classmethod
    def from_files(
        cls, paths: Iterable[str | Path], purpose: Purpose, *, accept_leaf: bool = False
    ) -> TrustAnchors:
        """A set from PEM or DER files, each with one certificate or several.

        Raises:
            ConfigurationError: a file cannot be read, or holds no certificate.
        """
        certificates: list[Certificate] = []
        for path in paths:
            try:
                data = Path(path).read_bytes()
            except OSError as error:
                reason = error.strerror or "unreadable"
                raise ConfigurationError(f"trust anchor {path}: {reason}") from error
            certificates += load_certificates(data, source=str(path))
        return cls(certificates, purpose, accept_leaf=accept_leaf)

    def __len__(self) -> int:
        return len(self.certificates)

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self.certificates)

    def __contains__(self, certificate: object) -> bool:
        return certificate in self._members

    def __repr__(self) -> str:
        return f"<TrustAnchors {self.purpose.value}: {len(self)}>"

    def by_subject(self, name_der: bytes) -> tuple[Certificate, ...]:
        """The anchors whose subject is `name_der`, a Name in DER."""
        return tuple(self._by_subject.get(name_der, ()))

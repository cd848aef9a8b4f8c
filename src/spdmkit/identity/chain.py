"""The SPDM certificate chain structure (DSP0274 10.7, table 39), and chains from files.

    Length        4 bytes, little endian: the whole structure. Before SPDM 1.4 two bytes and two
                  reserved ones, the same on the wire as long as a chain stays below 64 KiB
    RootHash      H bytes: digest of the root certificate by the negotiated base hash
    Certificates  DER certificates one behind the other, root (or what the root signed) first

What was received is kept as received: digests and transcripts never see a re-encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spdmkit.crypto.der import SEQUENCE, header_length
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.identity.certificate import PYCA_ERRORS, Certificate, known_certificate

if TYPE_CHECKING:
    from spdmkit.crypto.hashes import HashAlgorithm

__all__ = [
    "MAX_CERTIFICATES",
    "MAX_LARGE_CHAIN",
    "MAX_SMALL_CHAIN",
    "CertificateChain",
    "known_chain",
    "load_certificates",
    "order_certificates",
    "split_certificates",
]

MAX_CERTIFICATES: Final = 16
"""Certificates in a chain; real devices have three to six."""

MAX_SMALL_CHAIN: Final = 0xFFFF
"""Bytes of a chain in the form that SPDM 1.0 to 1.3 know."""

MAX_LARGE_CHAIN: Final = 1 << 20
"""Bytes of a chain in the large form that we accept; sixteen ML-DSA-87 certificates are 120 KiB."""

_KNOWN_SIZE: Final = 0x4000
"""Chains above this size are parsed each time."""

_NAME: Final = "CertificateChain"
_LENGTH_SIZE: Final = 4


class CertificateChain:
    """A certificate chain as SPDM carries it.

    Two are equal when their bytes are equal.

    Attributes:
        certificates: DER certificates, root first, leaf last; at least one.
        root_hash: the RootHash field.
        hash_algorithm: the hash that RootHash was made with.
        raw: the whole structure as received or encoded.
    """

    def __init__(
        self,
        raw: bytes,
        certificates: tuple[bytes, ...],
        root_hash: bytes,
        hash_algorithm: HashAlgorithm,
    ) -> None:
        self.raw = raw
        self.certificates = certificates
        self.root_hash = root_hash
        self.hash_algorithm = hash_algorithm

    @classmethod
    def parse(
        cls,
        data: bytes | bytearray | memoryview,
        hash_algorithm: HashAlgorithm,
        large: bool = False,
        *,
        max_certificates: int = MAX_CERTIFICATES,
    ) -> CertificateChain:
        """Cut the structure; the certificates inside are parsed when first looked at.

        Args:
            data: the structure, all of it and nothing else.
            hash_algorithm: the negotiated base hash.
            large: it came by the large form of SPDM 1.4, and may be longer than 65535 bytes.
            max_certificates: refuse more than that.

        Raises:
            DecodeError: any length that does not fit, no certificate, or too many.
        """
        limit = MAX_LARGE_CHAIN if large else MAX_SMALL_CHAIN
        if len(data) > limit:
            raise DecodeError(_NAME, "Length", 0, f"{len(data)} bytes, the limit is {limit}")
        raw = bytes(data)
        start = _LENGTH_SIZE + hash_algorithm.size
        if len(raw) < start:
            raise DecodeError(_NAME, "RootHash", _LENGTH_SIZE, f"{len(raw)} bytes are too few")
        length = int.from_bytes(raw[:_LENGTH_SIZE], "little")
        if length != len(raw):
            raise DecodeError(_NAME, "Length", 0, f"says {length} bytes, there are {len(raw)}")
        certificates = split_certificates(raw, start, max_certificates=max_certificates)
        return cls(raw, certificates, raw[_LENGTH_SIZE:start], hash_algorithm)

    @classmethod
    def from_certificates(
        cls,
        certificates: Iterable[bytes],
        hash_algorithm: HashAlgorithm,
        *,
        root: bytes | None = None,
    ) -> CertificateChain:
        """Build the structure from DER certificates, root first.

        Args:
            certificates: what the chain holds.
            hash_algorithm: hash for RootHash.
            root: the root certificate when the chain leaves it out and begins with what it signed.

        Raises:
            ConfigurationError: no certificate, too many, one that is not a DER value, or too long.
        """
        ders = tuple(bytes(certificate) for certificate in certificates)
        if not 1 <= len(ders) <= MAX_CERTIFICATES:
            raise ConfigurationError(
                f"a certificate chain has 1 to {MAX_CERTIFICATES} certificates, not {len(ders)}"
            )
        for number, der in enumerate(ders, 1):
            try:
                whole = header_length(der, 0, len(der))[1] == len(der) and der[0] == SEQUENCE
            except DecodeError:
                whole = False
            if not whole:
                raise ConfigurationError(f"certificate {number} of the chain is not one DER value")
        root_hash = hash_algorithm.digest(ders[0] if root is None else root)
        length = _LENGTH_SIZE + len(root_hash) + sum(map(len, ders))
        if length > MAX_LARGE_CHAIN:
            raise ConfigurationError(
                f"the certificate chain has {length} bytes, the limit is {MAX_LARGE_CHAIN}"
            )
        raw = length.to_bytes(_LENGTH_SIZE, "little") + root_hash + b"".join(ders)
        return cls(raw, ders, root_hash, hash_algorithm)

    @classmethod
    def from_file_bytes(
        cls, data: bytes, hash_algorithm: HashAlgorithm, *, source: str = "certificate chain"
    ) -> CertificateChain:
        """Build the structure from the contents of a PEM or DER file, in whatever order.

        Args:
            data: PEM with one or more certificates, or DER certificates one behind the other.
            hash_algorithm: hash for RootHash.
            source: what to call the file in errors.

        Raises:
            ConfigurationError: not certificates, or they form no single chain.
        """
        ordered = order_certificates(load_certificates(data, source=source), source=source)
        return cls.from_certificates((item.der for item in ordered), hash_algorithm)

    def __len__(self) -> int:
        """Number of certificates."""
        return len(self.certificates)

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, CertificateChain) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"<CertificateChain {len(self)} certificates, {len(self.raw)} bytes>"

    @property
    def needs_large_form(self) -> bool:
        """Whether the chain is too long for the 16-bit fields of SPDM 1.0 to 1.3."""
        return len(self.raw) > MAX_SMALL_CHAIN

    @cached_property
    def parsed(self) -> tuple[Certificate, ...]:
        """The certificates, each parsed at most once, when first looked at."""
        return tuple(known_certificate(der) for der in self.certificates)

    @property
    def leaf(self) -> Certificate:
        """The last certificate: its key signs for the endpoint."""
        return self.parsed[-1]

    def encode(self) -> bytes:
        """The structure as it stands on the wire."""
        return self.raw

    def digest(self, hash_algorithm: HashAlgorithm | None = None) -> bytes:
        """Hash of the whole structure, as DIGESTS, CHALLENGE_AUTH and transcripts hold it.

        Args:
            hash_algorithm: default the one that RootHash was made with.
        """
        if hash_algorithm is None or hash_algorithm is self.hash_algorithm:
            return self._digest
        return hash_algorithm.digest(self.raw)

    @cached_property
    def _digest(self) -> bytes:
        return self.hash_algorithm.digest(self.raw)


@lru_cache(maxsize=256)
def _known(raw: bytes, hash_algorithm: HashAlgorithm, large: bool) -> CertificateChain:
    return CertificateChain.parse(raw, hash_algorithm, large)


def known_chain(raw: bytes, hash_algorithm: HashAlgorithm, large: bool = False) -> CertificateChain:
    """As `CertificateChain.parse`; a device that is asked again is not parsed again.

    Parsing depends on nothing but the arguments. At most 256 chains of at most 16 KiB are
    remembered; whether to believe one is decided anew each time.
    """
    known = len(raw) <= _KNOWN_SIZE
    return (_known if known else CertificateChain.parse)(raw, hash_algorithm, large)


def split_certificates(
    data: bytes, offset: int = 0, *, max_certificates: int = MAX_CERTIFICATES, name: str = _NAME
) -> tuple[bytes, ...]:
    """Cut concatenated DER certificates apart by their headers.

    Raises:
        DecodeError: none, too many, or a length that does not fit.
    """
    certificates: list[bytes] = []
    end = len(data)
    while offset < end:
        field = f"Certificates[{len(certificates)}]"
        if len(certificates) == max_certificates:
            raise DecodeError(name, field, offset, f"more than {max_certificates} certificates")
        if data[offset] != SEQUENCE:
            raise DecodeError(name, field, offset, "does not begin a DER certificate")
        _, stop = header_length(data, offset, end, structure=name, field=field)
        certificates.append(data[offset:stop])
        offset = stop
    if not certificates:
        raise DecodeError(name, "Certificates", offset, "holds no certificate")
    return tuple(certificates)


def load_certificates(data: bytes, *, source: str = "file") -> tuple[Certificate, ...]:
    """The certificates of a PEM file, or of a file of DER certificates one behind the other.

    Raises:
        ConfigurationError: there is none, or one cannot be read; `source` is named.
    """
    if b"-----BEGIN" in data:
        try:
            ders: Sequence[bytes] = [
                item.public_bytes(Encoding.DER) for item in x509.load_pem_x509_certificates(data)
            ]
        except PYCA_ERRORS as error:
            raise ConfigurationError(f"{source} holds no readable PEM certificate") from error
    else:
        try:
            ders = split_certificates(data, name=source)
        except DecodeError as error:
            raise ConfigurationError(
                f"{source} is neither PEM nor DER certificates",
                hint="a PEM certificate begins with -----BEGIN CERTIFICATE-----",
            ) from error
    certificates = tuple(Certificate(der) for der in ders)
    for number, certificate in enumerate(certificates, 1):
        try:
            _ = certificate.x509
        except DecodeError as error:
            raise ConfigurationError(
                f"certificate {number} of {source} cannot be read: {error.reason}"
            ) from error
    return certificates


def order_certificates(
    certificates: Iterable[Certificate], *, source: str = "the certificates"
) -> tuple[Certificate, ...]:
    """Put the certificates of one chain root first, by issuer and subject.

    Key identifiers decide where several certificates share a subject. Nothing is verified here.

    Raises:
        ConfigurationError: they are not one chain: a gap, a fork, or a loop.
    """
    left = list(dict.fromkeys(certificates))
    issuers = {item: _issuer_of(item, left) for item in left}
    used = {issuer for issuer in issuers.values() if issuer is not None}
    leaves = [item for item in left if item not in used]
    if len(leaves) != 1:
        found = "no" if not leaves else f"{len(leaves)}"
        raise ConfigurationError(
            f"{source} form no single chain: {found} certificates issue no other",
            hint="give the certificates from the root to one leaf, in any order",
        )
    path = [leaves[0]]
    while (issuer := issuers[path[-1]]) is not None and len(path) <= len(left):
        path.append(issuer)
    if len(path) != len(left):
        raise ConfigurationError(
            f"{source} form no single chain: {len(left)} certificates, {len(path)} of them linked",
            hint="give the certificates from the root to one leaf, in any order",
        )
    return tuple(reversed(path))


def _issuer_of(item: Certificate, pool: Sequence[Certificate]) -> Certificate | None:
    candidates = [
        other for other in pool if other is not item and other.subject_der == item.issuer_der
    ]
    wanted = item.authority_key_identifier if len(candidates) > 1 else None
    if wanted is not None:
        named = [other for other in candidates if other.subject_key_identifier == wanted]
        candidates = named or candidates
    if item.self_issued and not (wanted and candidates):
        return None
    return candidates[0] if candidates else None

"""Who may vouch for reference values: certificates below reference-signer anchors, at a given time.

Trust is per purpose: these anchors say nothing about devices, and a device root says nothing here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass

from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import (
    Certificate,
    CertificateChain,
    ChainPolicy,
    Purpose,
    TimePolicy,
    TrustAnchors,
    VerifiedChain,
    verify_chain,
)

__all__ = ["SignerCheck", "VerifiedSigner"]

STEP = "reference-signature"
_MAKER = object()


@dataclass(frozen=True, slots=True)
class VerifiedSigner:
    """A signer that is trusted for reference values; only `SignerCheck` makes one.

    Attributes:
        subject: the signer's name in its certificate, safe to print.
        public_key: the key that signatures are verified by.
        certificate: its certificate.
        anchor: subject of the anchor it hangs on.
        algorithm: how the document says it was signed.
        checked_at: the time its certificates were judged at, seconds since 1970; None when a rule
            said to accept certificates that have ended.
        until: when the first of its certificates ends, seconds since 1970.
    """

    subject: str
    public_key: PublicKey
    certificate: Certificate
    anchor: str
    algorithm: str
    checked_at: int | None
    until: int
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only SignerCheck makes a VerifiedSigner")

    @property
    def spki_sha256(self) -> str:
        """SHA-256 of the signer's public key, lower-case hex."""
        return self.public_key.spki_sha256().hex()


@dataclass(frozen=True, slots=True)
class SignerCheck:
    """What signers of reference values have to meet.

    Attributes:
        anchors: whom we trust to sign reference values; None trusts nobody, so that signed values
            are refused.
        time: the time that certificates are judged at, seconds since 1970.
        ignore_expiry: accept certificates of signers that have ended, or not begun; a stated rule
            for reference values that outlive their signers' certificates. The report shows it.
        demand_signature: refuse reference values that are not signed.
    """

    anchors: TrustAnchors | None
    time: int
    ignore_expiry: bool = False
    demand_signature: bool = False

    def chain(self, certificates: Sequence[bytes], algorithm: str) -> VerifiedSigner:
        """Decide about the certificates a document brings.

        Args:
            certificates: DER, signer first.
            algorithm: how the document says it was signed.

        Raises:
            AuthenticationError: step "reference-signature", with what is wrong with which one.
        """
        if self.anchors is None:
            raise AuthenticationError(
                STEP,
                "signed, and nobody is trusted to sign reference values",
                hint="give the root certificate of its signer as a reference-signer anchor",
            )
        if self.anchors.purpose is not Purpose.REFERENCE_SIGNER:
            raise ConfigurationError("these trust anchors are not for signers of reference values")
        try:
            chain = CertificateChain.from_certificates(
                tuple(reversed(certificates)), BASE_HASH.by_name("sha-256")
            )
            verified = verify_chain(
                chain,
                self.anchors,
                purpose=Purpose.REFERENCE_SIGNER,
                time=self._when(),
                policy=ChainPolicy(demand_leaf_basic_constraints=False),
            )
        except AuthenticationError as error:
            raise AuthenticationError(STEP, error.reason, hint=error.hint) from error
        except (DecodeError, ConfigurationError) as error:
            raise AuthenticationError(STEP, f"the signer's certificates: {error}") from error
        return self._signer(verified, algorithm)

    def _when(self) -> TimePolicy:
        if self.ignore_expiry:
            return TimePolicy.ignoring_validity()
        return TimePolicy(dt.datetime.fromtimestamp(self.time, dt.UTC))

    def _signer(self, verified: VerifiedChain, algorithm: str) -> VerifiedSigner:
        return VerifiedSigner(
            verified.leaf.subject,
            verified.public_key,
            verified.leaf,
            verified.anchor.subject,
            algorithm,
            None if self.ignore_expiry else self.time,
            min(int(each.not_after.timestamp()) for each in verified.chain.parsed),
            _MAKER,
        )

    def anchored_keys(self, algorithm: str) -> Iterator[VerifiedSigner]:
        """The anchors themselves as signers, for a document that brings no certificates.

        Args:
            algorithm: how the document says it was signed.
        """
        for anchor in () if self.anchors is None else self.anchors:
            alone = TrustAnchors([anchor], Purpose.REFERENCE_SIGNER, accept_leaf=True)
            try:
                yield SignerCheck(alone, self.time, self.ignore_expiry).chain(
                    [anchor.der], algorithm
                )
            except AuthenticationError:
                continue  # an authority's certificate, or one that has ended: it signs no document

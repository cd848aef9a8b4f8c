"""What a chain has to be like: rules of DSP0274 and of ours, and the policy for time."""

from __future__ import annotations

import datetime as dt
import enum
import functools
from dataclasses import dataclass, replace
from typing import Final

from spdmkit.errors import ConfigurationError
from spdmkit.identity.chain import MAX_CERTIFICATES
from spdmkit.identity.oids import KNOWN_EXTENSIONS
from spdmkit.messages import CertificateModel

__all__ = ["ChainPolicy", "KeyPurposeRule", "TimePolicy"]

_V12: Final = 0x12


class KeyPurposeRule(enum.Enum):
    """What extendedKeyUsage of the leaf must say (DSP0274 10.9.2.1, RFC 5280 4.2.1.12)."""

    NOT_THE_OTHER_ROLE = "not-the-other-role"
    """Refused only when it names SPDM's other role and not ours."""
    IF_PRESENT = "if-present"
    """When it is there, it names our role, any purpose, or a DICE identity or attestation key."""
    DEMANDED = "demanded"
    """It is there and names our role in SPDM."""


@dataclass(frozen=True, slots=True)
class ChainPolicy:
    """Rules for a chain. The defaults are those for SPDM 1.2 and later.

    Attributes:
        demand_leaf_basic_constraints: the leaf must have basicConstraints, CA false. Mandatory by
            the field requirements of 10.9.2; devices of SPDM 1.0 and 1.1 are found without it.
            Where it is present, CA must be false in any case.
        demand_leaf_key_usage: the leaf must have keyUsage; with the generic model it may be absent.
        key_purpose: what extendedKeyUsage must say. DSP0274 10.9.2.1 recommends its own purposes
            and permits others; which roots are for devices is what keeps other uses out.
        model: the certificate model that the peer tells, NONE when it tells none.
        ends_in_ca: the last certificate is a Device Certificate CA and no leaf: the partial chain
            that SET_CERTIFICATE carries in the alias model.
        demand_hardware_identity: some certificate must be marked as hardware identity (10.9.2.2.1).
        demand_revocation: every certificate below the anchor, down to the device's own, must be
            covered by a CRL or an OCSP response.
        max_certificates: certificates in the chain.
        minimum_rsa_bits: RSA keys below are refused, in every certificate.
        hashes: hashes that signatures on certificates may use.
        critical_extensions: extensions that may be critical, as dotted object identifiers.
    """

    demand_leaf_basic_constraints: bool = True
    demand_leaf_key_usage: bool = True
    key_purpose: KeyPurposeRule = KeyPurposeRule.NOT_THE_OTHER_ROLE
    model: CertificateModel = CertificateModel.NONE
    ends_in_ca: bool = False
    demand_hardware_identity: bool = False
    demand_revocation: bool = False
    max_certificates: int = MAX_CERTIFICATES
    minimum_rsa_bits: int = 2048
    hashes: frozenset[str] = frozenset(
        {"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", "sm3"}
    )
    critical_extensions: frozenset[str] = KNOWN_EXTENSIONS

    @classmethod
    @functools.lru_cache(maxsize=64)
    def for_version(
        cls, spdm_version: int, model: CertificateModel = CertificateModel.NONE
    ) -> ChainPolicy:
        """The rules for a negotiated SPDM version.

        Args:
            spdm_version: version byte, 0x10 to 0x14.
            model: certificate model that the peer tells for the slot.
        """
        return cls(demand_leaf_basic_constraints=spdm_version >= _V12, model=model)

    def with_model(self, model: CertificateModel) -> ChainPolicy:
        """The same rules for another certificate model."""
        return replace(self, model=model)


@dataclass(frozen=True, slots=True)
class TimePolicy:
    """Which moment validity is judged at.

    Attributes:
        at: the moment, with its time zone; None only where validity is not checked.
        ignore_validity: validity periods are not checked at all, and the report says so. For a
            verifier without a clock.
    """

    at: dt.datetime | None
    ignore_validity: bool = False

    def __post_init__(self) -> None:
        if self.at is None and not self.ignore_validity:
            raise ConfigurationError("no time to check validity at")
        if self.at is not None and self.at.utcoffset() is None:
            raise ConfigurationError("the time to check validity at has no time zone")

    @classmethod
    def ignoring_validity(cls) -> TimePolicy:
        """Check no validity period and no age of revocation lists."""
        return cls(None, ignore_validity=True)

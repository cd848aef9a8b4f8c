"""Certificates and trust: SPDM certificate chains, trust anchors, claims, issuing.

The only package that imports `cryptography.x509`.
"""

from spdmkit.identity.anchors import Purpose, TrustAnchors
from spdmkit.identity.certificate import Certificate
from spdmkit.identity.chain import (
    CertificateChain,
    known_chain,
    load_certificates,
    order_certificates,
)
from spdmkit.identity.claims import DeviceName, Identity, IdentityExpectation
from spdmkit.identity.csr import (
    Attribute,
    CertificateRequest,
    RequesterInfo,
    build_csr,
    verify_csr,
)
from spdmkit.identity.dice import Fwid, TcbInfo, read_tcb_infos
from spdmkit.identity.issue import (
    NO_END,
    Authority,
    Issuance,
    Profile,
    RevokedCertificate,
    distinguished_name,
)
from spdmkit.identity.policy import ChainPolicy, KeyPurposeRule, TimePolicy
from spdmkit.identity.public_key import TrustedPublicKey
from spdmkit.identity.revocation import NO_REVOCATION_DATA, RevocationData
from spdmkit.identity.steps import ChainError, Outcome, Step
from spdmkit.identity.text import moment_text, safe_text
from spdmkit.identity.verify import ChainCache, VerifiedChain, verify_chain
from spdmkit.messages import CertificateModel

__all__ = [
    "NO_END",
    "NO_REVOCATION_DATA",
    "Attribute",
    "Authority",
    "Certificate",
    "CertificateChain",
    "CertificateModel",
    "CertificateRequest",
    "ChainCache",
    "ChainError",
    "ChainPolicy",
    "DeviceName",
    "Fwid",
    "Identity",
    "IdentityExpectation",
    "Issuance",
    "KeyPurposeRule",
    "Outcome",
    "Profile",
    "Purpose",
    "RequesterInfo",
    "RevocationData",
    "RevokedCertificate",
    "Step",
    "TcbInfo",
    "TimePolicy",
    "TrustAnchors",
    "TrustedPublicKey",
    "VerifiedChain",
    "build_csr",
    "distinguished_name",
    "known_chain",
    "load_certificates",
    "moment_text",
    "order_certificates",
    "read_tcb_infos",
    "safe_text",
    "verify_chain",
    "verify_csr",
]

"""What a device checks before it stores a certificate chain (SET_CERTIFICATE, DSP0274 10.26).

A chain that is not for the device's key would make the slot useless, and one whose links do not
hold would make every verifier reject it, so both are refused while the old chain is still there.
"""

from __future__ import annotations

from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import ProtocolViolation, SpdmError
from spdmkit.identity import (
    CertificateChain,
    ChainPolicy,
    Purpose,
    TimePolicy,
    TrustAnchors,
    verify_chain,
)
from spdmkit.identity import CertificateModel as ChainModel
from spdmkit.messages import CertificateModel, ErrorCode

__all__ = ["check_chain"]

MAX_CHAIN = 1 << 20
"""Bytes of all certificates of a chain."""


def check_chain(
    certificates: tuple[bytes, ...], model: CertificateModel, public_key: PublicKey
) -> None:
    """Refuse a chain that this device could not use.

    Whether its root is to be trusted is for verifiers to say, and a device has no clock: links,
    rules of the model, and the leaf's key are checked, dates are not.

    Args:
        certificates: DER, root first.
        model: the model it was sent for; NONE in a connection without several keys.
        public_key: the key of the slot.

    Raises:
        ProtocolViolation: InvalidRequest, or DataTooLarge.
    """
    if sum(len(each) for each in certificates) > MAX_CHAIN:
        raise ProtocolViolation(
            f"a chain of more than {MAX_CHAIN} bytes", error_code=ErrorCode.DATA_TOO_LARGE
        )
    try:
        chain = CertificateChain.from_certificates(certificates, BASE_HASH.by_name("sha-256"))
        anchors = TrustAnchors(certificates[:1], Purpose.DEVICE)
        verified = verify_chain(
            chain,
            anchors,
            purpose=Purpose.DEVICE,
            time=TimePolicy.ignoring_validity(),
            policy=ChainPolicy(model=ChainModel(model)),
        )
    except SpdmError as error:
        raise ProtocolViolation(f"the chain does not hold: {error}") from error
    if verified.public_key != public_key:
        raise ProtocolViolation(
            "the chain is for another key than the slot's: "
            f"spki-sha256:{verified.public_key.spki_sha256().hex()}"
        )

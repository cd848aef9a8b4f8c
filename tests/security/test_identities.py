"""Whose key is it, and what for: chains that are genuine and must not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.errors import AuthenticationError, ConfigurationError
from spdmkit.identity import CertificateChain, Purpose, TrustAnchors, verify_chain
from spdmkit.messages import V13, ErrorCode, GetCsr, ResponseCode
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.frames import Frame, FrameKind
from spdmkit.protocol.requester.certificates import get_certificate, get_digests
from spdmkit.protocol.requester.negotiate import negotiate

from ..protocol.support import NOW, MemoryDevice, Pair, chain
from ..protocol.test_attestation_flow import verified
from ..protocol.test_mutual_authentication import mutual_pair
from .support import deliver


def test_intel_rust_spdm_32_a_requesters_certificate_is_no_responders() -> None:
    """The SPDM purpose in extendedKeyUsage is checked, in both directions."""
    for requester in (True, False):
        _, certificates = chain("ecdsa-p256", b"other role", requester=requester)
        purpose = Purpose.DEVICE if requester else Purpose.REQUESTER
        from spdmkit.crypto.registry import BASE_HASH

        structure = CertificateChain.from_certificates(certificates, BASE_HASH.by_name("sha-256"))
        with pytest.raises(AuthenticationError, match="authentication"):
            verify_chain(
                structure, TrustAnchors([certificates[0]], purpose), purpose=purpose, time=NOW
            )


def test_rule_7_the_chain_does_not_bring_its_own_anchor() -> None:
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))
    digests = pair.run(get_digests(pair.link))
    structure = pair.run(get_certificate(pair.link, 0, expected_digest=digests.slots[0].digest))
    _, others = chain("ecdsa-p256", b"another root")
    with pytest.raises(AuthenticationError, match="anchor"):
        verify_chain(
            structure,
            TrustAnchors([others[0]], Purpose.DEVICE),
            purpose=Purpose.DEVICE,
            time=NOW,
        )


def test_anchors_are_for_one_purpose() -> None:
    """Roots of requesters are no roots of devices, even when the certificate is the same."""
    _, certificates = chain("ecdsa-p256")
    from spdmkit.crypto.registry import BASE_HASH

    structure = CertificateChain.from_certificates(certificates, BASE_HASH.by_name("sha-256"))
    anchors = TrustAnchors([certificates[0]], Purpose.REQUESTER)
    with pytest.raises(ConfigurationError):
        verify_chain(structure, anchors, purpose=Purpose.DEVICE, time=NOW)


def test_the_chain_must_have_the_digest_that_was_promised() -> None:
    """Another chain than DIGESTS named, right in itself."""
    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    pair.run(negotiate(pair.link))
    digests = pair.run(get_digests(pair.link))
    key, others = chain("ecdsa-p256", b"swapped")
    signer = pair.device.credentials.slots[0].signer
    pair.device.credentials = Credentials([Slot(0, others, signer)], supported=range(8))
    with pytest.raises(AuthenticationError) as caught:
        pair.run(get_certificate(pair.link, 0, expected_digest=digests.slots[0].digest))
    assert caught.value.step == "chain"
    assert key is not None


def test_libspdm_1329_a_new_chain_makes_old_digests_void() -> None:
    """After the chain changed, what was verified before does not answer for the new key."""
    from spdmkit.crypto.signing import LocalSigner
    from spdmkit.protocol.requester.challenge import challenge

    pair = Pair(MemoryDevice("ecdsa-p256"), versions=(V13,))
    proven = verified(pair)
    key, others = chain("ecdsa-p256", b"renewed")
    pair.device.credentials = Credentials([Slot(0, others, LocalSigner(key))], supported=range(8))
    with pytest.raises(AuthenticationError, match="chain"):
        pair.run(challenge(pair.link, proven))


def test_a_requesters_chain_is_judged_by_the_devices_own_roots() -> None:
    from spdmkit.errors import PeerError
    from spdmkit.protocol.requester.sessions import key_exchange
    from spdmkit.protocol.session import MutualAuth

    pair = mutual_pair(MutualAuth.GET_DIGESTS)
    pair.device.requester_anchors = None
    proven = verified(pair)
    with pytest.raises(PeerError):
        pair.run(key_exchange(pair.link, proven))
    assert not pair.responder.connection.sessions


@pytest.mark.parametrize(
    "info",
    [
        b"\x30",
        b"\x30\x80\0\0",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x03\x02\x01\x00",
        b"\x02\x01\x00",
        b"\x30\x82\xff\xff" + bytes(64),
        bytes(64),
        b"\xff" * 64,
        b"\x30\x0e\x02\x01\x00\x30\x09\x31\x07\x30\x05\x06\x03\x55\x04\x03",
    ],
)
def test_ghsa_j54w_759w_xj3m_malformed_requester_info(tmp_path: Path, info: bytes) -> None:
    """A subject that is not what its lengths say: InvalidRequest, and the device goes on."""
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256")
    device = FolderDevice.load(folder)
    settings = device.settings
    pair = Pair(
        device,  # type: ignore[arg-type]  # any device will do
        versions=(V13,),
        responder={"capabilities": settings.capabilities},
    )
    pair.run(negotiate(pair.link))
    request = GetCsr(requester_info=info).encode(pair.requester.connection.context)
    (frame,) = deliver(pair, Frame(FrameKind.MESSAGE, request))
    assert frame.body[1:3] == bytes((ResponseCode.ERROR, ErrorCode.INVALID_REQUEST))
    assert pair.run(get_digests(pair.link)).slots

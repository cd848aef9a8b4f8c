"""GET_ENDPOINT_INFO: what the peer says it is, signed or not (DSP0274 10.30, from 1.3).

A responder asks its requester the same way, through an encapsulated link.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from spdmkit.crypto import signing
from spdmkit.errors import ProtocolViolation
from spdmkit.messages import DeviceClassList, EndpointInfo, EndpointInfoSubCode, GetEndpointInfo
from spdmkit.protocol.actions import perform

if TYPE_CHECKING:
    from spdmkit.protocol.actions import Exchange
    from spdmkit.protocol.link import Link
    from spdmkit.protocol.proofs import ProvenKey

__all__ = ["SignedEndpointInfo", "device_classes", "get_endpoint_info", "get_signed_endpoint_info"]

_MAKER = object()
_DEVICE_CLASS = EndpointInfoSubCode.DEVICE_CLASS_IDENTIFIER


@dataclass(frozen=True, slots=True)
class SignedEndpointInfo:
    """Endpoint information whose signature verified; only `get_signed_endpoint_info` makes one.

    Attributes:
        info: the information, whose format goes with the SubCode.
        key: what the signature verified with.
        slot_id: the slot, 0xF for a provisioned key.
        nonce: ours, fresh.
        signature: over VCA, request and response.
    """

    info: bytes
    key: ProvenKey
    slot_id: int
    nonce: bytes
    signature: bytes
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only get_signed_endpoint_info makes SignedEndpointInfo")


def get_endpoint_info(link: Link, sub_code: int = _DEVICE_CLASS) -> Exchange[bytes]:
    """Endpoint information without a signature: a claim, or in a session what its peer says.

    Raises:
        PeerError: UnsupportedRequest: the peer does not have this SubCode.
        SpdmError: as `Link.ask`.
    """
    answer = yield from link.ask(GetEndpointInfo(sub_code=sub_code), EndpointInfo)
    return answer.message.ep_info


def get_signed_endpoint_info(
    link: Link, key: ProvenKey, sub_code: int = _DEVICE_CLASS, *, slot_id: int = 0
) -> Exchange[SignedEndpointInfo]:
    """Endpoint information with a signature over it, our nonce and the negotiation.

    Args:
        link: the way to the peer.
        key: the verified chain of the slot, or the provisioned key for slot 0xF.
        sub_code: which information.
        slot_id: whose key signs: 0 to 7, or 0xF.

    Raises:
        AuthenticationError: step "signature".
        ProtocolViolation: it is signed for another slot.
        SpdmError: as `Link.ask`.
    """
    connection = link.connection
    request = GetEndpointInfo(
        sub_code=sub_code,
        slot_id=slot_id & 0xF,
        signature_requested=True,
        nonce=connection.random(32),
    )
    answer = yield from link.ask(request, EndpointInfo)
    message = answer.message
    if message.slot_id != request.slot_id:
        raise ProtocolViolation("ENDPOINT_INFO is signed for another slot than asked for")
    covered = answer.response[: message.signature_offset(len(answer.response))]
    hash_algorithm = link.peer_hash
    digest = hash_algorithm.digest(connection.vca + answer.request + covered)
    algorithm, context = link.peer_signature, link.endpoint_info_context
    yield from perform(
        lambda: signing.verify(
            algorithm,
            key.public_key,
            message.signature,
            version=connection.version,
            context=context,
            hash=hash_algorithm,
            digest=digest,
        )
    )
    return SignedEndpointInfo(
        info=message.ep_info,
        key=key,
        slot_id=request.slot_id,
        nonce=request.nonce,
        signature=message.signature,
        maker=_MAKER,
    )


def device_classes(link: Link, info: bytes) -> DeviceClassList:
    """The information of SubCode DEVICE_CLASS_IDENTIFIER, decoded.

    Raises:
        DecodeError: it is malformed.
    """
    return DeviceClassList.decode(info, link.connection.context)

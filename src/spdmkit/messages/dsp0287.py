"""The services of DSP0287: what a device asks of the verifier or provisioner it connects to.

They travel as VENDOR_DEFINED messages with StandardID 0 and no VendorID (DSP0287 clause 7). Each
payload is a `ServicePayload`, which says by its number what structure is inside:

    payload = ServicePayload.of(SubId.SET_POLICY, SetPolicy(policy=...), ctx)
    request = VendorDefinedRequest(payload=payload.encode(ctx))
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from spdmkit.errors import DecodeError
from spdmkit.messages.codes import Registry
from spdmkit.messages.context import Context
from spdmkit.messages.opaque import GeneralOpaqueData
from spdmkit.wire import EncodeError, Format, Struct, structure
from spdmkit.wire.kinds import Alternatives, Embedded
from spdmkit.wire.layout import (
    bits,
    counted,
    fixed,
    length_of,
    prefixed,
    reserved,
    rest,
    u8,
    u16,
    word,
)
from spdmkit.wire.predicates import AllOf, Equals, Not, Present

__all__ = [
    "DSP_NUMBER",
    "DSP_VERSION",
    "GetServiceRequest",
    "ServiceId",
    "ServicePayload",
    "ServiceRequest",
    "ServiceState",
    "SessionMethod",
    "SetPolicy",
    "SetReference",
    "SubId",
    "VerificationResult",
    "VerificationResults",
    "is_service",
    "pack_results",
    "unpack_results",
]

DSP_NUMBER = 287
DSP_VERSION = 0x1000
"""Version 1.0 of DSP0287, as a VersionNumberEntry."""


class SubId(enum.IntEnum):
    """SubRequestID and SubResponseID (DSP0287 tables 6, 8 and 9)."""

    GET_SERVICE_REQUEST = 0x00
    VERIFICATION_RESULTS = 0x02
    SET_REFERENCE = 0x05
    SET_POLICY = 0x06
    SERVICE_REQUEST = 0x80
    VERIFICATION_RESULTS_ACK = 0x82
    SET_REFERENCE_ACK = 0x85
    SET_POLICY_ACK = 0x86

    @property
    def response(self) -> SubId:
        """The SubResponseID that answers this SubRequestID."""
        return SubId(self | 0x80)


class ServiceId(enum.IntEnum):
    """ServiceID: what the Responder asks for (DSP0287 table 15)."""

    ANY_REQUEST = 0x00
    SESSION_ONLY = 0x01
    PROVISION_CERTIFICATE = 0x02
    VERIFY_MEASUREMENTS = 0x03
    GET_MEASUREMENTS = 0x04
    GET_MEL = 0x05
    PROVISION_REFERENCE_MEASUREMENTS = 0x06
    PROVISION_VERIFICATION_POLICY = 0x07
    NONE = 0xFF
    """No service, or no more."""


class ServiceState(enum.IntEnum):
    """State: what became of the service request before (DSP0287 table 11)."""

    NEXT = 0
    SESSION_METHOD_INVALID = 1
    SLOT_ID_INVALID = 2
    SERVICE_ID_NOT_AVAILABLE = 3
    SESSION_NOT_POSSIBLE = 4
    SERVICE_PARAM_INVALID = 5


class SessionMethod(enum.IntEnum):
    """SessionMethod: the session the Responder wants (DSP0287 table 13)."""

    NO_PREFERENCE = 0b000
    SESSION = 0b100
    PSK_EXCHANGE = 0b110
    KEY_EXCHANGE = 0b111


class VerificationResult(enum.IntEnum):
    """What became of one measurement (DSP0287, VERIFICATION_RESULTS)."""

    NOT_PROVIDED = 0
    NO_REFERENCE = 1
    NO_POLICY = 2
    NO_REFERENCE_AND_POLICY = 3
    FAILED = 4
    OTHER_REASON = 5
    PASSED = 8


@structure(clause="DSP0287 7.1")
class GetServiceRequest(Struct):
    """GET_SERVICE_REQUEST: which services there are, and how the last request went.

    Attributes:
        available_dmtf_services: 32 bytes, bit n of them for ServiceID n.
    """

    available_dmtf_services: bytes = fixed(32)
    _reserved = reserved(3)
    state: int = u8(display=ServiceState)

    @classmethod
    def of(cls, services: set[int], state: int = ServiceState.NEXT) -> GetServiceRequest:
        """The request for a set of ServiceIDs; ANY_REQUEST is always among them."""
        mask = sum(1 << service for service in services | {ServiceId.ANY_REQUEST})
        return cls(available_dmtf_services=mask.to_bytes(32, "little"), state=state)

    @property
    def services(self) -> set[int]:
        """The ServiceIDs that are available."""
        mask = int.from_bytes(self.available_dmtf_services, "little")
        return {service for service in range(256) if mask >> service & 1}


DMTF_SERVICE = AllOf((Equals("registry", Registry.DMTF), Not(Present("vendor_id"))))


@structure(clause="DSP0287 7.1")
class ServiceRequest(Struct):
    """SERVICE_REQUEST: the service a Responder wants.

    Attributes:
        session_method: the session it wants for it.
        slot_id: slot suggested for KEY_EXCHANGE, 0xF for a provisioned key.
        registry: with `vendor_id`: whose services `service_id` numbers.
        service_id: the service, for DMTF's own a `ServiceId`.
        vendor_parameters: what bodies other than DMTF made of the last five bytes.
    """

    _session_option = word("SessionOption")
    session_method: int = bits(_session_option, 0, 3, display=SessionMethod)
    slot_id: int = bits(_session_option, 4, 4)
    _reserved = reserved(1)
    registry: int = u8("ID", display=Registry)
    vendor_id: bytes = prefixed(1, length_name="VendorIDLen")
    service_id: int = u8(display=ServiceId)
    _reserved2 = reserved(1)
    service_param: int = u8(display=Format.HEX)
    _reserved3 = reserved(5, when=DMTF_SERVICE)
    vendor_parameters: bytes = rest(when=Not(DMTF_SERVICE))


@structure(clause="DSP0287 7.2")
class VerificationResults(Struct):
    """VERIFICATION_RESULTS: four bits for each measurement index; see `unpack_results`."""

    results: bytes = fixed(128)


@structure(clause="DSP0287 7.3")
class SetReference(Struct):
    """SET_REFERENCE: reference values, as general opaque data."""

    _length = length_of("reference", 2, "ReferenceLen")
    _reserved = reserved(2)
    reference: bytes = counted("_length", inner=Embedded(GeneralOpaqueData))


@structure(clause="DSP0287 7.4")
class SetPolicy(Struct):
    """SET_POLICY: a verification policy, as general opaque data."""

    _length = length_of("policy", 2, "PolicyLen")
    _reserved = reserved(2)
    policy: bytes = counted("_length", inner=Embedded(GeneralOpaqueData))


CONTENTS: dict[int, type[Struct]] = {
    SubId.GET_SERVICE_REQUEST: GetServiceRequest,
    SubId.SERVICE_REQUEST: ServiceRequest,
    SubId.VERIFICATION_RESULTS: VerificationResults,
    SubId.SET_REFERENCE: SetReference,
    SubId.SET_POLICY: SetPolicy,
}
"""What is inside, by id; the acknowledgements hold nothing."""


@structure(clause="DSP0287 7")
class ServicePayload(Struct):
    """The payload of every service message (DSP0287 tables 6 and 8).

    Attributes:
        dsp_version: any 1.x.
        sub_id: SubRequestID or SubResponseID.
    """

    dsp_number: int = u16(
        "TCP_DSPNumber", default=DSP_NUMBER, minimum=DSP_NUMBER, maximum=DSP_NUMBER
    )
    dsp_version: int = u16(
        "TCP_DSPVersion",
        default=DSP_VERSION,
        minimum=DSP_VERSION,
        maximum=DSP_VERSION | 0xFFF,
        display=Format.VERSION,
    )
    sub_id: int = u8("TCP_SubRequestID", display=SubId)
    _length = length_of("sub_payload", 2, "TCP_ReqPayloadLen")
    _reserved = reserved(1)
    sub_payload: bytes = counted(
        "_length", "TCP_ReqPayload", inner=Alternatives("sub_id", CONTENTS)
    )

    @classmethod
    def of(cls, sub_id: int, content: Struct | None, ctx: Context) -> ServicePayload:
        """The payload with a structure inside, or with none."""
        return cls(sub_id=sub_id, sub_payload=b"" if content is None else content.encode(ctx))

    def content(self, ctx: Context) -> Struct | None:
        """The structure inside, or None for acknowledgements.

        Raises:
            DecodeError: it is malformed, or the id is unknown.
        """
        struct = CONTENTS.get(self.sub_id)
        if struct is not None:
            return struct.decode(self.sub_payload, ctx)
        if self.sub_id not in SubId.__members__.values():
            raise DecodeError(
                "ServicePayload", "TCP_SubRequestID", 4, f"{self.sub_id:#04x} is unknown"
            )
        if self.sub_payload:
            raise DecodeError(
                "ServicePayload", "TCP_ReqPayload", 8, "an acknowledgement holds nothing"
            )
        return None


def is_service(standard_id: int, vendor_id: bytes, payload: bytes) -> bool:
    """Whether a VENDOR_DEFINED message is one of DSP0287's services."""
    number = DSP_NUMBER.to_bytes(2, "little")
    return standard_id == Registry.DMTF and not vendor_id and payload.startswith(number)


def pack_results(results: Mapping[int, int]) -> bytes:
    """The 128 bytes of VERIFICATION_RESULTS: index -> result; what is not named is NOT_PROVIDED.

    Measurement index i is in byte i / 2, in its low half when i is even.

    Raises:
        EncodeError: an index is not 0 to 255, or a result not four bits.
    """
    packed = bytearray(128)
    for index, result in results.items():
        if not 0 <= index <= 255 or not 0 <= result <= 15:
            raise EncodeError("VerificationResults", "Results", f"index {index}: {result}")
        packed[index >> 1] |= result << 4 * (index & 1)
    return bytes(packed)


def unpack_results(packed: bytes) -> dict[int, VerificationResult]:
    """Index -> result, without those NOT_PROVIDED; a reserved value counts as FAILED.

    Raises:
        DecodeError: not 128 bytes.
    """
    if len(packed) != 128:
        raise DecodeError("VerificationResults", "Results", 0, f"{len(packed)} bytes, not 128")
    results = {}
    for index in range(256):
        value = packed[index >> 1] >> 4 * (index & 1) & 15
        if value:
            known = value in VerificationResult.__members__.values()
            results[index] = VerificationResult(value) if known else VerificationResult.FAILED
    return results

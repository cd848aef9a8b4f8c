"""Events: what a notifier can tell, a subscription to it, and the events (DSP0274 10.29)."""

from __future__ import annotations

import enum

from spdmkit.messages.base import Message, message
from spdmkit.messages.codes import Registry, RequestCode, ResponseCode
from spdmkit.messages.context import V13
from spdmkit.wire import Format, Struct, structure
from spdmkit.wire.kinds import Alternatives
from spdmkit.wire.layout import (
    count_of,
    fixed,
    items,
    length_of,
    prefixed,
    reserved,
    u8,
    u16,
    u32,
)
from spdmkit.wire.predicates import Present

__all__ = [
    "CertificateChanged",
    "CertificateManagementChanged",
    "DmtfEventType",
    "Event",
    "EventAck",
    "EventGroup",
    "EventGroupAttributes",
    "EventLost",
    "EventType",
    "GetSupportedEventTypes",
    "MeasurementChanged",
    "MeasurementPreUpdate",
    "SendEvent",
    "SubscribeEventTypes",
    "SubscribeEventTypesAck",
    "SupportedEventTypes",
]


class DmtfEventType(enum.IntEnum):
    """Event types of the DMTF event group (DSP0274 table 162)."""

    EVENT_LOST = 1
    MEASUREMENT_CHANGED = 2
    MEASUREMENT_PRE_UPDATE = 3
    CERTIFICATE_CHANGED = 4
    CERTIFICATE_MANAGEMENT_CHANGED = 5
    """From 1.4 on."""


class EventGroupAttributes(enum.IntFlag):
    """Attributes of an event group in SUBSCRIBE_EVENT_TYPES (DSP0274 table 124)."""

    ALL_EVENT_TYPES = 1 << 0


@structure(clause="10.29.1")
class EventType(Struct):
    """An event type in a list (DSP0274 table 121)."""

    event_type_id: int = u16()
    _reserved = reserved(2)


@structure(clause="10.29.1")
class EventGroup(Struct):
    """An event group and some of its event types (DSP0274 table 120).

    Attributes:
        registry: with `vendor_id`, EventGroupId: whose events these are.
        attributes: `EventGroupAttributes` in a subscription, reserved else.
    """

    registry: int = u8("ID", display=Registry)
    vendor_id: bytes = prefixed(1, length_name="VendorIDLen")
    _event_type_count = count_of("event_types", 2, "EventTypeCount")
    event_group_ver: int = u16()
    attributes: int = u32(display=EventGroupAttributes)
    event_types: list[EventType] = items(EventType, "EventTypeList", count="_event_type_count")


@message(RequestCode.GET_SUPPORTED_EVENT_TYPES, clause="10.29.1", since=V13)
class GetSupportedEventTypes(Message):
    """GET_SUPPORTED_EVENT_TYPES: which events can be subscribed to."""

    _param1 = reserved(1)
    _param2 = reserved(1)


@message(ResponseCode.SUPPORTED_EVENT_TYPES, clause="10.29.1", since=V13)
class SupportedEventTypes(Message):
    """SUPPORTED_EVENT_TYPES: the event groups of the notifier."""

    _group_count = count_of("event_groups", 1, "EventGroupCount")
    _param2 = reserved(1)
    _list_length = length_of("event_groups", 4, "SupportedEventGroupsListLen")
    event_groups: list[EventGroup] = items(
        EventGroup, "SupportedEventGroupsList", count="_group_count", length="_list_length"
    )


@message(RequestCode.SUBSCRIBE_EVENT_TYPES, clause="10.29.2", since=V13)
class SubscribeEventTypes(Message):
    """SUBSCRIBE_EVENT_TYPES: replaces the subscription; without groups it ends it."""

    _group_count = count_of("event_groups", 1, "SubscribeEventGroupCount")
    _param2 = reserved(1)
    _list_length = length_of("event_groups", 4, "SubscribeListLen", when=Present("_group_count"))
    event_groups: list[EventGroup] = items(
        EventGroup,
        "SubscribeList",
        count="_group_count",
        length="_list_length",
        when=Present("_group_count"),
    )


@message(ResponseCode.SUBSCRIBE_EVENT_TYPES_ACK, clause="10.29.2", since=V13)
class SubscribeEventTypesAck(Message):
    """SUBSCRIBE_EVENT_TYPES_ACK: done."""

    _param1 = reserved(1)
    _param2 = reserved(1)


@structure(clause="18.1.1")
class EventLost(Struct):
    """Details of the event EventLost; both ids are 0xFFFFFFFF when unknown."""

    last_acked_event_inst_id: int = u32("LastAckedEventInstID")
    last_lost_event_inst_id: int = u32("LastLostEventInstID")


@structure(clause="18.1.2")
class MeasurementChanged(Struct):
    """Details of MeasurementChanged: bit n of the mask for measurement index n."""

    changed_measurements: bytes = fixed(32)


@structure(clause="18.1.3")
class MeasurementPreUpdate(Struct):
    """Details of MeasurementPreUpdate: bit n of the mask for measurement index n."""

    pre_update_measurement_changes: bytes = fixed(32)


@structure(clause="18.1.4")
class CertificateChanged(Struct):
    """Details of CertificateChanged: bit n of the mask for slot n."""

    certificate_changed: int = u8(display=Format.HEX)


@structure(clause="18.1.5")
class CertificateManagementChanged(Struct):
    """Details of CertificateMgmtChanged (1.4): bit n of the mask for slot n of the bank."""

    bank_changed: int = u8()
    slot_changed: int = u8(display=Format.HEX)


@structure(clause="10.29.3", name="EventData")
class Event(Struct):
    """An event (DSP0274 table 126).

    Attributes:
        event_instance_id: from 0 in each session, one more for each event.
        registry: with `vendor_id`, EventGroupId: whose event it is.
        event_detail: for DMTF's events one of the structures of this module.
    """

    event_instance_id: int = u32()
    _reserved = reserved(4)
    registry: int = u8("ID", display=Registry)
    vendor_id: bytes = prefixed(1, length_name="VendorIDLen")
    event_type_id: int = u16()
    event_detail: bytes = prefixed(
        2,
        length_name="EventDetailLen",
        inner=Alternatives(
            "event_type_id",
            {
                DmtfEventType.EVENT_LOST: EventLost,
                DmtfEventType.MEASUREMENT_CHANGED: MeasurementChanged,
                DmtfEventType.MEASUREMENT_PRE_UPDATE: MeasurementPreUpdate,
                DmtfEventType.CERTIFICATE_CHANGED: CertificateChanged,
                DmtfEventType.CERTIFICATE_MANAGEMENT_CHANGED: CertificateManagementChanged,
            },
        ),
    )


@message(RequestCode.SEND_EVENT, clause="10.29.3", since=V13)
class SendEvent(Message):
    """SEND_EVENT: events, oldest first."""

    _param1 = reserved(1)
    _param2 = reserved(1)
    _event_count = count_of("events", 4, "EventCount")
    events: list[Event] = items(Event, "EventsList", count="_event_count")


@message(ResponseCode.EVENT_ACK, clause="10.29.3", since=V13)
class EventAck(Message):
    """EVENT_ACK: the events arrived."""

    _param1 = reserved(1)
    _param2 = reserved(1)

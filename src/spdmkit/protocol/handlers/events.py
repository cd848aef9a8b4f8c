"""The event mechanism, answered by either side (DSP0274 10.29): subscriptions, and events."""

from __future__ import annotations

from spdmkit.errors import ProtocolViolation
from spdmkit.messages import (
    ErrorCode,
    EventAck,
    GetSupportedEventTypes,
    SendEvent,
    SubscribeEventTypes,
    SubscribeEventTypesAck,
    SupportedEventTypes,
)
from spdmkit.protocol.events import PeerNotification
from spdmkit.protocol.handlers.call import Call, Outcome, Steps, slow
from spdmkit.protocol.notifier import EventSource, Notifier, as_groups, everything, subscription

__all__ = ["get_supported_event_types", "queue_events", "send_event", "subscribe_event_types"]


def get_supported_event_types(call: Call) -> Outcome:
    """GET_SUPPORTED_EVENT_TYPES -> SUPPORTED_EVENT_TYPES (10.29.1)."""
    call.typed(GetSupportedEventTypes)
    call.established_session()
    supported = _source(call).supported_events(call.connection.version)
    return call.answer(SupportedEventTypes(event_groups=as_groups(supported)))


def subscribe_event_types(call: Call) -> Outcome:
    """SUBSCRIBE_EVENT_TYPES -> SUBSCRIBE_EVENT_TYPES_ACK: replaces the subscription (10.29.2)."""
    request = call.typed(SubscribeEventTypes)
    session = call.established_session()
    source = _source(call)
    supported = source.supported_events(call.connection.version)
    wanted = subscription(request.event_groups, supported)
    place = source.event_place()
    if session.notifier is None:
        session.notifier = Notifier(place)
    session.notifier.subscribe(wanted, place)
    return call.answer(SubscribeEventTypesAck())


def subscribe_to_all(call: Call) -> Notifier:
    """The subscription that EventAllPolicy of a session's opener stands for (10.16)."""
    source = _source(call)
    place = source.event_place()
    notifier = Notifier(place)
    notifier.subscribe(everything(source.supported_events(call.connection.version)), place)
    return notifier


def send_event(call: Call) -> Outcome:
    """SEND_EVENT -> EVENT_ACK: what the peer tells us goes to whoever listens (10.29.3)."""
    request = call.typed(SendEvent)
    session = call.established_session()
    if not session.subscribed:
        raise ProtocolViolation(
            "events that nobody subscribed to", error_code=ErrorCode.UNEXPECTED_REQUEST
        )
    if not request.events:
        raise ProtocolViolation("SEND_EVENT without events")
    for event in sorted(request.events, key=lambda each: each.event_instance_id):
        instance = event.event_instance_id
        if instance < session.next_event:
            continue  # told already: only our acknowledgement was lost
        notification = PeerNotification(
            session.session_id,
            event.registry,
            event.event_type_id,
            event.event_detail,
            vendor_id=event.vendor_id,
            instance=instance,
            missing=instance - session.next_event,
        )
        session.next_event = instance + 1
        session.notify(notification)
    return call.answer(EventAck())


def queue_events(call: Call) -> Steps | None:
    """Have the session's subscriber's events read from their source; None when nobody subscribed.

    Looking may take time (files are measured), so that it is handed out.
    """
    session = call.session
    notifier = None if session is None or not session.established else session.notifier
    if notifier is None or not notifier.wanted:
        return None
    return _queue(call, notifier)


def _queue(call: Call, notifier: Notifier) -> Steps:
    source, place = _source(call), notifier.place
    since = yield from slow(lambda: source.events_since(place))
    notifier.take(since)
    return Outcome(b"")


def _source(call: Call) -> EventSource:
    source = call.connection.event_source if call.device is None else call.device
    if source is None:
        raise ProtocolViolation(
            "this side sends no events",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
            error_data=call.request.code,
        )
    return source

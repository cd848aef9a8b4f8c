"""A requester that is not ready for an encapsulated request is asked again (DSP0274 10.24.3.1)."""

from __future__ import annotations

from typing import Any

import pytest

from spdmkit.crypto.signing import LocalSigner
from spdmkit.messages import (
    V11,
    V12,
    V13,
    V14,
    DeliverEncapsulatedResponse,
    Digests,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    Error,
    ErrorCode,
    GetEncapsulatedRequest,
    RequestCode,
)
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.certificates import get_digests
from spdmkit.protocol.responder.flow import EncapsulatedLink

from .support import Pair, ask, chain, psk_session, refusal

VERSIONS = [V11, V12, V13, V14]


class Asked:
    """A session in which the responder asks for our digests, answered by hand."""

    def __init__(self, version: int) -> None:
        key, certificates = chain("ecdsa-p256", b"requester", requester=True)
        credentials = Credentials([Slot(0, certificates, LocalSigner(key))])
        self.pair = Pair(versions=(version,), credentials=credentials)
        self.link: Link = psk_session(self.pair)
        self.heard: list[Any] = []
        (session,) = self.pair.responder.connection.sessions.values()
        self.pair.responder.ask(self.question, session)
        self.session = session

    def question(self, link: EncapsulatedLink) -> Exchange[int | None]:
        self.heard.append((yield from get_digests(link)))
        return None

    def fetch(self) -> EncapsulatedRequest:
        return self.pair.run(ask(self.link, GetEncapsulatedRequest(), EncapsulatedRequest))

    def deliver(self, asked: EncapsulatedRequest, response: bytes) -> EncapsulatedResponseAck:
        message = DeliverEncapsulatedResponse(
            request_id=asked.request_id, encapsulated_response=response
        )
        return self.pair.run(ask(self.link, message, EncapsulatedResponseAck))

    def digests(self) -> bytes:
        context = self.pair.requester.connection.context
        message = Digests(provisioned_slot_mask=1, digests=[bytes(context.hash_size)])
        return message.encode(context)

    def error(self, **fields: Any) -> bytes:
        return Error(**fields).encode(self.pair.requester.connection.context)


@pytest.mark.parametrize("version", VERSIONS)
def test_not_ready(version: int) -> None:
    asked = Asked(version)
    first = asked.fetch()
    assert first.encapsulated_request[1] == RequestCode.GET_DIGESTS
    context = asked.pair.requester.connection.context
    not_ready = Error.response_not_ready(
        rdt_exponent=20, request_code=RequestCode.GET_DIGESTS, token=9, rdtm=64
    ).encode(context)
    assert asked.deliver(first, not_ready).payload_type == EncapsulatedPayload.ABSENT
    # Too early, and nothing keeps the requester from asking for something else.
    nothing = ErrorCode.NO_PENDING_REQUESTS if version >= V13 else ErrorCode.UNEXPECTED_REQUEST
    early = ask(asked.link, GetEncapsulatedRequest(), EncapsulatedRequest)
    assert refusal(asked.pair, early) is nothing
    assert asked.pair.run(asked.link.converse(b"x")).data == b"x"
    asked.pair.clock.now += 2
    again = asked.fetch()
    assert again.encapsulated_request[1:4] == bytes(
        (RequestCode.RESPOND_IF_READY, RequestCode.GET_DIGESTS, 9)
    )
    ack = asked.deliver(again, asked.digests())
    assert ack.payload_type == EncapsulatedPayload.ABSENT
    (digests,) = asked.heard
    assert set(digests.slots) == {0}


@pytest.mark.parametrize("version", VERSIONS)
def test_busy(version: int) -> None:
    asked = Asked(version)
    busy = asked.error(error_code=ErrorCode.BUSY)
    assert asked.deliver(asked.fetch(), busy).payload_type == EncapsulatedPayload.ABSENT
    asked.pair.clock.now += 5
    again = asked.fetch()
    assert again.encapsulated_request[1] == RequestCode.GET_DIGESTS
    asked.deliver(again, asked.digests())
    assert asked.heard


def test_what_waits_comes_after_what_is_parked() -> None:
    asked = Asked(V13)
    asked.pair.responder.ask(asked.question, asked.session)
    busy = asked.error(error_code=ErrorCode.BUSY)
    asked.deliver(asked.fetch(), busy)
    early = ask(asked.link, GetEncapsulatedRequest(), EncapsulatedRequest)
    assert refusal(asked.pair, early) is ErrorCode.NO_PENDING_REQUESTS
    asked.pair.clock.now += 5
    for count in (1, 2):
        asked.deliver(asked.fetch(), asked.digests())
        assert len(asked.heard) == count


def test_a_token_of_another_request() -> None:
    asked = Asked(V13)
    wrong = Error.response_not_ready(
        rdt_exponent=1, request_code=RequestCode.CHALLENGE, token=9, rdtm=64
    ).encode(asked.pair.requester.connection.context)
    asked.deliver(asked.fetch(), wrong)
    asked.pair.clock.now += 5
    later = ask(asked.link, GetEncapsulatedRequest(), EncapsulatedRequest)
    assert refusal(asked.pair, later) is ErrorCode.NO_PENDING_REQUESTS
    assert not asked.heard

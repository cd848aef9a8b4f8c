"""Any payload, and good ones with a few bytes changed: an ERROR that names a reason, no more."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spdmkit.device.folder import FolderDevice
from spdmkit.errors import DecodeError, ProtocolViolation, SpdmError
from spdmkit.messages import V12, V14, Context
from spdmkit.messages.dsp0287 import (
    GetServiceRequest,
    ServicePayload,
    ServiceRequest,
    SetPolicy,
    SetReference,
    SubId,
    VerificationResults,
)
from spdmkit.messages.opaque import GeneralOpaqueData
from spdmkit.protocol.link import Link
from spdmkit.protocol.responder.device import Peer, VendorMessage
from spdmkit.services import content
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.evaluation import run_in_process
from spdmkit.services.provider import gifts_from
from spdmkit.services.visit import Visit
from spdmkit.services.wishes import Abilities, WishList

from .support import Lab
from .test_given import Signer

CONTEXT = Context(version=V14)
FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PEERS = st.sampled_from(
    [
        Peer(version=V12),
        Peer(version=V14, session_id=1),
        Peer(session_id=1, authenticated=True, identity="x", identity_kind="psk", version=V14),
    ]
)


@pytest.fixture(scope="module")
def desk(original: Lab, tmp_path_factory: pytest.TempPathFactory) -> ServiceDesk:
    lab = original.copy(tmp_path_factory.mktemp("fuzz"))
    signer = Signer()
    signer.trusted_in(lab, "reference_signers")
    signer.trusted_in(lab, "policy_signers")
    return ServiceDesk(FolderDevice.load(lab.device))


@pytest.fixture(scope="module")
def spare(original: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """What is given to a device stays with it."""
    return original.copy(tmp_path_factory.mktemp("spare"))


@pytest.fixture(scope="module")
def payloads(original: Lab) -> list[bytes]:
    """A good payload of each kind, signed and not."""
    signer, folder = Signer(), original.device
    documents = [gifts_from([folder / "reference.json"])[0].data, signer.corim(original)]
    policies = [content.policy_document(original.policy.read_bytes()), signer.policy(2)]

    def opaque(data: bytes) -> bytes:
        return GeneralOpaqueData(elements=content.elements_of([data])).encode(CONTEXT)

    bodies: list[tuple[SubId, Any]] = [
        (SubId.GET_SERVICE_REQUEST, GetServiceRequest.of({3, 4})),
        (SubId.VERIFICATION_RESULTS, VerificationResults(results=bytes(128))),
        *((SubId.SET_REFERENCE, SetReference(reference=opaque(each))) for each in documents),
        *((SubId.SET_POLICY, SetPolicy(policy=opaque(each))) for each in policies),
    ]
    return [ServicePayload.of(sub, body, CONTEXT).encode(CONTEXT) for sub, body in bodies]


def ask(desk: ServiceDesk, payload: bytes, peer: Peer) -> None:
    with suppress(ProtocolViolation, DecodeError):
        desk(VendorMessage(0, b"", payload), peer)


@FEW
@given(rest=st.binary(max_size=200), sub_id=st.integers(0, 255), peer=PEERS)
def test_any_payload(desk: ServiceDesk, rest: bytes, sub_id: int, peer: Peer) -> None:
    ask(desk, b"\x1f\x01\x00\x10" + bytes([sub_id]) + rest, peer)
    ask(desk, rest, peer)


@FEW
@given(data=st.data(), peer=PEERS)
def test_a_few_bytes_changed(
    desk: ServiceDesk, payloads: list[bytes], data: st.DataObject, peer: Peer
) -> None:
    payload = bytearray(data.draw(st.sampled_from(payloads)))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 20))
    ask(desk, bytes(payload[: len(payload) - cut]), peer)


class Anything(WishList):
    """Asks for whatever the test drew."""

    def __init__(self, requests: list[ServiceRequest]) -> None:
        super().__init__([], Abilities())
        self.requests = requests

    def answer(self, state: int, services: Collection[int]) -> ServiceRequest:
        return self.requests.pop(0) if self.requests else ServiceRequest(service_id=0xFF)


REQUESTS = st.builds(
    ServiceRequest,
    session_method=st.integers(0, 7),
    slot_id=st.integers(0, 15),
    registry=st.sampled_from([0, 0, 0, 3]),
    service_id=st.sampled_from([*range(9), 0x80, 0xFF]),
    service_param=st.integers(0, 255),
)


@settings(FEW, max_examples=60)
@given(requests=st.lists(REQUESTS, max_size=6), psk=st.booleans())
def test_a_device_may_ask_for_anything(
    spare: Lab, requests: list[ServiceRequest], psk: bool
) -> None:
    """The visit ends, in good order or with an error of ours, whatever is asked for."""
    device = FolderDevice.load(spare.device)
    desk = ServiceDesk(device)
    desk._new_list = lambda: Anything(list(requests))  # type: ignore[method-assign] # as a bad device would
    device.register_vendor(desk)
    provider = spare.provider(psks=(spare.psk(),) if psk else (), default_service=None)
    visits: list[Visit] = []

    def run(link: Link) -> Generator[Any, Any, None]:
        visits.append(Visit(link, provider))
        yield from visits[0].run()

    with suppress(SpdmError):
        run_in_process(device, run)
    (visit,) = visits
    assert len(visit.outcomes) + len(visit.corrections) <= len(requests)
    assert not any(each.service == "verify" and each.session == "none" for each in visit.outcomes)

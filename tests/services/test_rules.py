"""What is refused where, by either side; what is corrected; who is given up."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from spdmkit.attestation.results.dsp0287 import IndexVerification, unpack_results
from spdmkit.errors import AuthenticationError, PeerError, ProtocolViolation
from spdmkit.messages import ErrorCode, Registry, VendorDefinedRequest, VendorDefinedResponse
from spdmkit.messages.dsp0287 import (
    GetServiceRequest,
    ServiceId,
    ServicePayload,
    ServiceRequest,
    ServiceState,
    SessionMethod,
    SetPolicy,
    SetReference,
    SubId,
    VerificationResults,
)
from spdmkit.messages.opaque import GeneralOpaqueData
from spdmkit.protocol.link import Link
from spdmkit.services import content, requests
from spdmkit.services.catalogue import VALIDITY, Validity, refusal
from spdmkit.services.wishes import Abilities, Fate, Wish, WishList

from .support import Lab, device_listens, verifier_listens

S, M = ServiceId, SessionMethod
PROVISIONING = [S.PROVISION_REFERENCE_MEASUREMENTS, S.PROVISION_VERIFICATION_POLICY]


# --- table 9, requester --------------------------------------------------------------------------


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("guaranteed", [False, True])
@pytest.mark.parametrize("sub_id", list(VALIDITY), ids=lambda each: each.name)
def test_table_9(sub_id: SubId, session: bool, mutual: bool, guaranteed: bool) -> None:
    allowed = {
        SubId.GET_SERVICE_REQUEST: True,
        SubId.VERIFICATION_RESULTS: session and mutual,
        SubId.SET_REFERENCE: guaranteed or (session and mutual),
        SubId.SET_POLICY: guaranteed or (session and mutual),
    }[sub_id]
    found = refusal(sub_id, session=session, mutual=mutual, guaranteed=guaranteed)
    assert (found is None) is allowed
    if found is not None:
        expected = ErrorCode.UNSPECIFIED if session else ErrorCode.SESSION_REQUIRED
        assert found.error is expected
    assert VALIDITY[SubId.VERIFICATION_RESULTS][0] is Validity.PROHIBITED


@pytest.mark.parametrize("service", [S.VERIFY_MEASUREMENTS, *PROVISIONING], ids=lambda s: s.name)
async def test_the_requester_refuses_what_it_may_not_do(lab: Lab, service: ServiceId) -> None:
    """Without identity and key there is no mutual session: State 0x04, and the wish is given up."""
    async with verifier_listens(lab, mutual=False) as house:
        call = await house.call(Wish.of(service))
    (ending,) = call.endings
    assert ending.fate is Fate.REFUSED
    assert house.reports[0].error is None
    assert not house.received


@pytest.mark.parametrize("service", [S.VERIFY_MEASUREMENTS, *PROVISIONING], ids=lambda s: s.name)
async def test_a_session_without_mutual_authentication_is_sent_back(
    lab: Lab, service: ServiceId
) -> None:
    """The device does not ask who the requester is: State 0x01; then PSK_EXCHANGE is tried."""
    lab.edit('requester_trust_anchors = ["requesters.pem"]', "")
    async with verifier_listens(lab) as house:
        call = await house.call(Wish.of(service))
    assert call.endings[0].fate is Fate.REFUSED
    assert not house.received
    async with verifier_listens(lab, lab.provider(psks=(lab.psk(),))) as house:
        call = await house.call(Wish.of(service))
    assert call.endings[0].fate is Fate.FULFILLED
    assert house.reports[0].corrections
    assert house.received[0].given_by == "psk:0001"
    assert house.reports[0].services[0].session == "psk"


# --- table 9, responder --------------------------------------------------------------------------


def _say(link: Link, sub_id: SubId, body: Any) -> Generator[Any, Any, ServicePayload]:
    """A service request as somebody sends it who does not care for table 9."""
    context = link.connection.context
    payload = ServicePayload.of(sub_id, body, context).encode(context)
    request = VendorDefinedRequest(standard_id=0, payload=payload)
    answer = yield from link.ask(request, VendorDefinedResponse)
    return ServicePayload.decode(answer.message.payload, context)


def _bodies(lab: Lab) -> dict[SubId, Any]:
    provider = lab.provider()
    context = requests_context()
    elements = {
        SubId.SET_REFERENCE: content.elements_of([provider.gifts[0].data]),
        SubId.SET_POLICY: content.elements_of([provider.policy_document]),
    }
    encoded = {
        sub: GeneralOpaqueData(elements=each).encode(context) for sub, each in elements.items()
    }
    return {
        SubId.VERIFICATION_RESULTS: VerificationResults(results=bytes(128)),
        SubId.SET_REFERENCE: SetReference(reference=encoded[SubId.SET_REFERENCE]),
        SubId.SET_POLICY: SetPolicy(policy=encoded[SubId.SET_POLICY]),
    }


def requests_context() -> Any:
    from spdmkit.messages import V13, Context

    return Context(version=V13)


@pytest.mark.parametrize("where", ["clear", "session", "mutual", "psk"])
@pytest.mark.parametrize(
    "sub_id", [SubId.VERIFICATION_RESULTS, SubId.SET_REFERENCE, SubId.SET_POLICY]
)
async def test_the_device_refuses_too(lab: Lab, sub_id: SubId, where: str) -> None:
    provider = lab.provider(psks=(lab.psk(),), services=frozenset({S.SESSION_ONLY}))
    body = _bodies(lab)[sub_id]
    code: list[int] = []

    def converse(link: Link) -> Generator[Any, Any, Mapping[str, Any]]:
        target = Link(link.connection) if where == "clear" else link
        try:
            yield from _say(target, sub_id, body)
        except PeerError as error:
            code.append(error.code)
        return {}

    provider.converse = converse
    provider.default_service = None
    method = M.PSK_EXCHANGE if where == "psk" else M.KEY_EXCHANGE
    async with verifier_listens(lab, provider, mutual=where == "mutual") as house:
        await house.call(Wish.of(S.SESSION_ONLY, session_method=method))
    assert house.reports[0].error is None
    expected = {"clear": [ErrorCode.SESSION_REQUIRED], "session": [ErrorCode.UNSPECIFIED]}
    assert code == expected.get(where, [])
    assert bool(house.received) is (where in ("mutual", "psk"))


async def test_not_everybody_may_give_references(lab: Lab) -> None:
    lab.edit('may_set_reference = ["certificate:*", "psk:*"]', 'may_set_reference = ["psk:*"]')
    async with verifier_listens(lab) as house:
        call = await house.call(Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS))
    assert call.endings[0].fate is not Fate.FULFILLED
    assert isinstance(house.reports[0].error, PeerError)
    assert not house.holdings().references


async def test_reserved_results_count_as_failed(lab: Lab) -> None:
    packed = bytes([0x80, 0x6F, *bytes(126)])
    assert unpack_results(packed) == {
        1: IndexVerification.PASSED,
        2: IndexVerification.FAILED,
        3: IndexVerification.FAILED,
    }


async def test_before_spdm_1_2_nothing_is_given(lab: Lab) -> None:
    lab.edit('versions = ["1.0", "1.1", "1.2", "1.3", "1.4"]', 'versions = ["1.1"]')
    link_problem: list[str] = []

    def converse(link: Link) -> Generator[Any, Any, Mapping[str, Any]]:
        try:
            yield from requests.set_policy(link, [], guaranteed=False)
        except ProtocolViolation as error:
            link_problem.append(str(error))
        with pytest.raises(PeerError) as refused:
            yield from _say(link, SubId.SET_POLICY, SetPolicy(policy=bytes(4)))
        assert refused.value.code == ErrorCode.UNSUPPORTED_REQUEST
        return {}

    provider = lab.provider(converse=converse)
    async with verifier_listens(lab, provider, versions=(0x11,)) as house:
        call = await house.call(Wish.of(S.SESSION_ONLY))
    assert call.endings[0].fate is Fate.FULFILLED, house.reports[0].error
    assert "need SPDM 1.2" in link_problem[0]


async def test_unknown_sub_requests_and_foreign_payloads(lab: Lab) -> None:
    codes: list[int] = []

    def converse(link: Link) -> Generator[Any, Any, Mapping[str, Any]]:
        context = link.connection.context
        for payload in (
            ServicePayload(sub_id=0x33).encode(context),
            b"\x1e\x01" + bytes(10),
            ServicePayload(sub_id=SubId.SET_POLICY, sub_payload=b"\x01").encode(context),
            ServicePayload(sub_id=SubId.SERVICE_REQUEST, sub_payload=bytes(12)).encode(context),
        ):
            request = VendorDefinedRequest(standard_id=0, payload=payload)
            try:
                yield from link.ask(request, VendorDefinedResponse)
            except PeerError as error:
                codes.append(error.code)
        return {}

    async with verifier_listens(lab, lab.provider(converse=converse)) as house:
        await house.call(Wish.of(S.SESSION_ONLY))
    unsupported, invalid = ErrorCode.UNSUPPORTED_REQUEST, ErrorCode.INVALID_REQUEST
    assert codes == [unsupported, unsupported, invalid, unsupported]


# --- corrections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "state", "performed"),
    [
        (Wish(S.GET_MEASUREMENTS, SessionMethod(0b110), 0, 0xE), 1, "key-exchange"),
        (Wish(S.GET_MEASUREMENTS, M.KEY_EXCHANGE, 5, 0xE), 2, "key-exchange"),
        (Wish(S.GET_MEASUREMENTS, M.KEY_EXCHANGE, 9, 0xE), 2, "key-exchange"),
        (Wish(S.GET_MEASUREMENTS, M.KEY_EXCHANGE, 15, 0xE), 2, "key-exchange"),
        (Wish(S.GET_MEASUREMENTS, M.NO_PREFERENCE, 0, 0x3), 5, "none"),
        (Wish(S.GET_MEASUREMENTS, M.NO_PREFERENCE, 0, 0x9), 5, "none"),
        (Wish(S.GET_MEASUREMENTS, M.NO_PREFERENCE, 0, 0x10), 5, "none"),
        (Wish(S.GET_MEASUREMENTS, M.NO_PREFERENCE, 0, 0xF), 5, "none"),
    ],
)
async def test_the_device_corrects_itself(lab: Lab, wish: Wish, state: int, performed: str) -> None:
    async with verifier_listens(lab) as house:
        call = await house.call(wish)
    assert [each.fate for each in call.endings] == [Fate.FULFILLED]
    (report,) = house.reports
    assert len(report.corrections) == 1
    assert [each.session for each in report.services] == [performed]
    assert report.verdict == "trusted"


async def test_what_is_not_provided_is_not_asked(lab: Lab) -> None:
    provider = lab.provider(services=frozenset({S.GET_MEL}), default_service=None)
    async with verifier_listens(lab, provider) as house:
        call = await house.call(Wish.of(S.VERIFY_MEASUREMENTS), Wish.of(S.GET_MEL))
    assert [each.fate for each in call.endings] == [Fate.REFUSED, Fate.FULFILLED]
    assert not house.reports[0].corrections


class Stubborn(WishList):
    """Asks for the same again, whatever is said."""

    def answer(self, state: int, services: Any) -> ServiceRequest:
        self.states.append(state)
        return self.wrong

    states: list[int]
    wrong: ServiceRequest


@pytest.mark.parametrize(
    ("wrong", "state"),
    [
        (ServiceRequest(session_method=3, service_id=S.SESSION_ONLY), 1),
        (ServiceRequest(session_method=7, slot_id=4, service_id=S.SESSION_ONLY), 2),
        (ServiceRequest(service_id=0x44), 3),
        (ServiceRequest(registry=Registry.PCI_SIG, vendor_id=b"\1\2", service_id=1,
                        vendor_parameters=bytes(5)), 3),
        (ServiceRequest(service_id=S.VERIFY_MEASUREMENTS), 4),
        (ServiceRequest(service_id=S.GET_MEASUREMENTS, service_param=0x8), 5),
    ],
)  # fmt: skip
async def test_a_device_that_corrects_nothing_is_given_up(
    lab: Lab, wrong: ServiceRequest, state: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = Stubborn([], Abilities())
    stubborn.states, stubborn.wrong = [], wrong
    monkeypatch.setattr("spdmkit.services.desk.ServiceDesk._new_list", lambda _self: stubborn)
    async with verifier_listens(lab, lab.provider(most_invalid=3), mutual=False) as house:
        await house.call()
    assert stubborn.states == [0, state, state, state]
    assert isinstance(house.reports[0].error, ProtocolViolation)
    assert "3 times" in str(house.reports[0].error)


def test_states_lead_through_every_correction() -> None:
    wishes = WishList(
        [Wish(S.GET_MEASUREMENTS, M.KEY_EXCHANGE, 3, 4)],
        Abilities(slots=(0, 2), key_exchange=True, psk=True),
    )
    offered = {S.GET_MEASUREMENTS}
    assert wishes.answer(0, offered).slot_id == 3
    assert wishes.answer(ServiceState.SLOT_ID_INVALID, offered).slot_id == 0
    assert wishes.answer(ServiceState.SLOT_ID_INVALID, offered).slot_id == 2
    asked = wishes.answer(ServiceState.SLOT_ID_INVALID, offered)
    assert asked.session_method == M.SESSION
    asked = wishes.answer(ServiceState.SERVICE_PARAM_INVALID, offered)
    assert asked.service_param == 0xE
    assert wishes.answer(0x77, offered).service_id == S.NONE
    (ending,) = wishes.endings
    assert (ending.fate, ending.wish.slot_id) == (Fate.REFUSED, 3)
    assert "reserved" in ending.reason


@pytest.mark.parametrize("state", [3, 4])
def test_what_cannot_be_is_given_up_at_once(state: int) -> None:
    wishes = WishList([Wish.of(S.VERIFY_MEASUREMENTS), Wish.of(S.GET_MEL)], Abilities())
    everything = set(S)
    assert wishes.answer(0, everything).service_id == S.VERIFY_MEASUREMENTS
    assert wishes.answer(state, everything).service_id == S.GET_MEL
    assert wishes.answer(0, everything).service_id == S.NONE
    assert [each.fate for each in wishes.endings] == [Fate.REFUSED, Fate.FULFILLED]


def test_what_did_not_arrive_was_not_done() -> None:
    wishes = WishList([Wish.of(S.VERIFY_MEASUREMENTS)] * 2, Abilities())
    wishes.answer(0, set(S))
    wishes.received(S.PROVISION_VERIFICATION_POLICY)
    wishes.answer(0, set(S))
    wishes.received(S.VERIFY_MEASUREMENTS)
    assert wishes.answer(0, set(S)).service_id == S.NONE
    assert [each.fate for each in wishes.endings] == [Fate.UNANSWERED, Fate.FULFILLED]


def test_a_certificate_is_there_when_its_slot_was_written() -> None:
    slots = {1: 1, 2: 2}
    asked = [Wish.of(S.PROVISION_CERTIFICATE, parameter=number) for number in (1, 2)]
    wishes = WishList(asked, Abilities(), slots.get)
    wishes.answer(0, set(S))
    slots[1] = 7
    wishes.answer(0, set(S))
    wishes.answer(0, set(S))
    assert [each.fate for each in wishes.endings] == [Fate.FULFILLED, Fate.UNANSWERED]


def test_a_conversation_that_breaks_leaves_wishes_unanswered() -> None:
    wishes = WishList([Wish.of(S.GET_MEL), Wish.of(S.SESSION_ONLY)], Abilities())
    wishes.answer(0, set(S))
    found = wishes.close(in_good_order=False)
    assert [each.fate for each in found] == [Fate.UNANSWERED, Fate.UNANSWERED]


def test_any_request_is_always_offered() -> None:
    assert 0 in GetServiceRequest.of({int(S.GET_MEL)}).services


async def test_too_many_services_end_the_conversation(lab: Lab) -> None:
    provider = lab.provider(most_services=2)
    async with verifier_listens(lab, provider) as house:
        assert (await house.call(*[Wish.of(S.SESSION_ONLY)] * 2)).done
        assert house.reports.pop().error is None
        call = await house.call(*[Wish.of(S.SESSION_ONLY)] * 3)
    assert isinstance(house.reports[0].error, ProtocolViolation)
    assert len(house.reports[0].services) == 2
    assert call.endings[-1].fate is Fate.UNANSWERED


async def test_an_untrusted_device_is_told_nothing_good(lab: Lab) -> None:
    (lab.device / "firmware" / "main.bin").write_bytes(b"something else")
    async with verifier_listens(lab) as house:
        await house.call(Wish.of(S.VERIFY_MEASUREMENTS))
    assert house.reports[0].verdict == "untrusted"
    found = unpack_results(house.holdings().results[0].results)
    assert found.pop(2) is IndexVerification.FAILED
    assert set(found.values()) == {IndexVerification.PASSED}


async def test_a_device_of_somebody_else(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Lab.make(tmp_path_factory.mktemp("stranger"))
    async with verifier_listens(stranger) as house:
        house.lab = lab
        await house.call(Wish.of(S.GET_MEASUREMENTS))
    (report,) = house.reports
    assert isinstance(report.error, AuthenticationError)
    assert report.verdict == "untrusted"


async def test_reach_down_refuses_alike(lab: Lab) -> None:
    async with device_listens(lab) as (uri, received), verifier_listens(lab, mutual=False) as house:
        report = await house.service.dial(uri, [Wish.of(S.VERIFY_MEASUREMENTS)])
    assert isinstance(report.error, ProtocolViolation)
    assert not received

"""Each service in both models, over real sockets; what is sent back, and what is refused."""

from __future__ import annotations

import pytest

from spdmkit.attestation.results.dsp0287 import IndexVerification, unpack_results
from spdmkit.messages.dsp0287 import ServiceId, SubId
from spdmkit.services.wishes import Fate, Wish

from .support import Lab, verifier_listens

S = ServiceId
NEUTRAL = [
    S.ANY_REQUEST,
    S.SESSION_ONLY,
    S.VERIFY_MEASUREMENTS,
    S.GET_MEASUREMENTS,
    S.GET_MEL,
    S.PROVISION_REFERENCE_MEASUREMENTS,
    S.PROVISION_VERIFICATION_POLICY,
]


@pytest.mark.parametrize("service", NEUTRAL, ids=lambda each: each.name)
async def test_each_service_reach_out(lab: Lab, service: ServiceId) -> None:
    async with verifier_listens(lab) as house:
        call = await house.call(Wish.of(service))
    assert call.error is None
    assert [each.fate for each in call.endings] == [Fate.FULFILLED]
    (report,) = house.reports
    assert report.error is None
    (outcome,) = report.services
    assert outcome.service_id == service
    if service in (S.VERIFY_MEASUREMENTS, S.GET_MEASUREMENTS, S.GET_MEL, S.ANY_REQUEST):
        assert report.verdict == "trusted"
    if service is S.GET_MEL:
        assert outcome.detail["hash_extended"] == [6]
        assert outcome.detail["leads_to_measurements"]
    holdings = house.holdings()
    assert bool(holdings.results) is (service is S.VERIFY_MEASUREMENTS)
    assert bool(holdings.references) is (service is S.PROVISION_REFERENCE_MEASUREMENTS)
    assert bool(holdings.policy) is (service is S.PROVISION_VERIFICATION_POLICY)


async def test_results_reach_the_device(lab: Lab) -> None:
    async with verifier_listens(lab) as house:
        await house.call(Wish.of(S.VERIFY_MEASUREMENTS))
    (stored,) = house.holdings().results
    assert stored.given_by == "certificate:CN=spdmkit device V001"
    found = unpack_results(stored.results)
    assert set(found) == {1, 2, 3, 4, 5, 6, 254}
    assert set(found.values()) == {IndexVerification.PASSED}
    assert [each.what for each in house.received] == [SubId.VERIFICATION_RESULTS]

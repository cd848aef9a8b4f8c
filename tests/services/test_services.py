"""Each service in both models, over real sockets; what is sent back, and what is refused."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from spdmkit.attestation.results.dsp0287 import IndexVerification, unpack_results
from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.pkcs8 import armour
from spdmkit.crypto.signing import LocalSigner
from spdmkit.device.folder import FolderDevice
from spdmkit.device.responders import responder_factory
from spdmkit.errors import ProtocolViolation
from spdmkit.identity.issue import Authority, Profile
from spdmkit.messages import CertificateModel, Heartbeat, HeartbeatAck, Registry
from spdmkit.messages.dsp0287 import ServiceId, ServiceRequest, SessionMethod, SubId
from spdmkit.protocol.connection import Role
from spdmkit.protocol.credentials import Slot
from spdmkit.protocol.events import SessionEstablished
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.sessions import PreSharedKey
from spdmkit.provisioning.authority import CertificateAuthority
from spdmkit.provisioning.serving import ServiceProvisioner
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.wishes import Fate, Wish
from spdmkit.transports.aio import connect

from .support import Lab, device_listens, verifier_listens

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


REACH_DOWN = [
    S.SESSION_ONLY,
    S.VERIFY_MEASUREMENTS,
    S.GET_MEASUREMENTS,
    S.GET_MEL,
    S.PROVISION_REFERENCE_MEASUREMENTS,
    S.PROVISION_VERIFICATION_POLICY,
]


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "unasked"])
@pytest.mark.parametrize("service", REACH_DOWN, ids=lambda each: each.name)
async def test_each_service_reach_down(lab: Lab, service: ServiceId, asked: bool) -> None:
    """The requester dials; the device may say what it wants, or the requester knows."""
    wishes = [Wish.of(service)]
    async with (
        verifier_listens(lab) as house,
        device_listens(lab, wishes if asked else ()) as (uri, received),
    ):
        report = await house.service.dial(uri, () if asked else wishes)
    assert report.error is None
    assert [(each.service_id, each.asked) for each in report.services] == [(service, asked)]
    gives = {
        S.VERIFY_MEASUREMENTS: [SubId.VERIFICATION_RESULTS],
        S.PROVISION_REFERENCE_MEASUREMENTS: [SubId.SET_REFERENCE],
        S.PROVISION_VERIFICATION_POLICY: [SubId.SET_POLICY],
    }
    assert [each.what for each in received] == gives.get(service, [])


@pytest.mark.parametrize("method", [SessionMethod.KEY_EXCHANGE, SessionMethod.PSK_EXCHANGE])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "each its own"])
async def test_several_services_on_one_connection(
    lab: Lab, method: SessionMethod, keep: bool
) -> None:
    provider = lab.provider(psks=(lab.psk(),), keep_session=keep)
    begun: list[object] = []

    def note(event: object) -> None:
        if isinstance(event, SessionEstablished):
            begun.append(event)

    wishes = [
        Wish.of(service, session_method=method, parameter=0xE if service == 4 else 0)
        for service in NEUTRAL
    ]
    async with verifier_listens(lab, provider, events=note) as house:
        call = await house.call(*wishes)
    assert all(each.fate is Fate.FULFILLED for each in call.endings), call.endings
    (report,) = house.reports
    assert len(report.services) == len(NEUTRAL)
    assert {each.session for each in report.services} == {
        "psk" if method is SessionMethod.PSK_EXCHANGE else "key-exchange"
    }
    assert len(begun) == (1 if keep else len(NEUTRAL))


async def test_a_session_is_changed_for_the_next_service(lab: Lab) -> None:
    methods = [SessionMethod.PSK_EXCHANGE, SessionMethod.KEY_EXCHANGE, SessionMethod.NO_PREFERENCE]
    wishes = [Wish.of(S.SESSION_ONLY, session_method=method) for method in methods]
    async with verifier_listens(lab, lab.provider(psks=(lab.psk(),))) as house:
        call = await house.call(*wishes, Wish.of(S.VERIFY_MEASUREMENTS))
    assert all(each.fate is Fate.FULFILLED for each in call.endings)
    sessions = [each.session for each in house.reports[0].services]
    assert sessions == ["psk", "key-exchange", "key-exchange", "key-exchange"]


async def test_a_device_that_knows_no_services_gets_the_default_one(lab: Lab) -> None:
    async with verifier_listens(lab) as house:
        device = FolderDevice.load(lab.device)
        connection = await connect(house.uri, responder_factory(device), role=Role.RESPONDER)
        await connection.wait_closed()
        async with device_listens(lab, desk=False) as (uri, _):
            report = await house.service.dial(uri)
    for each in (house.reports[0], report):
        assert each.speaks_services is False
        assert [(s.service, s.asked) for s in each.services] == [("measurements", False)]
        assert each.verdict == "trusted"


async def test_a_default_service_may_need_a_session(lab: Lab) -> None:
    provider = lab.provider(default_service=S.VERIFY_MEASUREMENTS)
    async with verifier_listens(lab, provider) as house, device_listens(lab) as (uri, received):
        report = await house.service.dial(uri)
        alone = await house.call(Wish.of(S.ANY_REQUEST))
    assert [each.what for each in received] == []
    assert report.services == []
    assert alone.done
    assert [each.what for each in house.received] == [SubId.VERIFICATION_RESULTS]


async def test_services_of_other_bodies(lab: Lab) -> None:
    seen: list[ServiceRequest] = []

    def perform(link: Link, request: ServiceRequest) -> Generator[Any, Any, dict[str, Any]]:
        seen.append(request)
        assert link.session is not None
        yield from link.ask(Heartbeat(), HeartbeatAck)
        return {"did": "something"}

    wish = Wish(
        7,
        SessionMethod.SESSION,
        parameter=9,
        registry=Registry.PCI_SIG,
        vendor_id=b"\x34\x12",
        vendor_parameters=b"abcde",
    )
    provider = lab.provider(bodies={(Registry.PCI_SIG, b"\x34\x12"): perform})
    async with verifier_listens(lab, provider) as house:
        call = await house.call(wish, Wish.of(S.GET_MEL))
    assert call.done
    assert (seen[0].service_param, seen[0].vendor_parameters) == (9, b"abcde")
    assert house.reports[0].services[0].as_dict()["did"] == "something"


async def test_the_key_is_chosen_by_the_name_of_the_device(lab: Lab) -> None:
    others = tuple(PreSharedKey(f"other {n}".encode(), bytes([n]) * 32) for n in range(6))
    async with verifier_listens(lab, lab.provider(psks=(*others, lab.psk()))) as house:
        call = await house.call(Wish.of(S.SESSION_ONLY, session_method=SessionMethod.PSK_EXCHANGE))
    assert call.done
    assert house.reports[0].identity == {"psk_hint": "0001"}


async def test_a_device_with_nothing_but_a_key(lab: Lab) -> None:
    """No certificates at all: everything happens in the session by pre-shared key."""
    for flag in (
        '"CERT_CAP", "CHAL_CAP", ',
        '"MEAS_CAP_SIG", ',
        '"MUT_AUTH_CAP", ',
        '"KEY_EX_CAP", ',
    ):
        lab.edit(flag, '"MEAS_CAP_NO_SIG", ' if "SIG" in flag else "")
    lab.edit('requester_trust_anchors = ["requesters.pem"]', "")
    wishes = [Wish.of(S.VERIFY_MEASUREMENTS), Wish.of(S.GET_MEL)]
    async with verifier_listens(lab, lab.provider(psks=(lab.psk(),))) as house:
        call = await house.call(*wishes)
    assert house.reports[0].error is None
    assert call.done
    assert house.reports[0].services[1].detail["leads_to_measurements"]
    # It proved no name, so that no reference values are for it.
    assert house.reports[0].verdict == "not-appraised"


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca", "secret", algorithm="ecdsa-p256")


@pytest.mark.parametrize("method", [SessionMethod.NO_PREFERENCE, SessionMethod.PSK_EXCHANGE])
async def test_a_certificate_is_provisioned(
    lab: Lab, authority: CertificateAuthority, method: SessionMethod
) -> None:
    lab.edit("may_provision = []", 'may_provision = ["certificate:*", "psk:*"]')
    provider = lab.provider(provisioner=ServiceProvisioner(authority), psks=(lab.psk(),))
    wishes = [
        Wish.of(S.PROVISION_CERTIFICATE, parameter=number, session_method=method)
        for number in (2, 3)
    ]
    async with verifier_listens(lab, provider) as house:
        call = await house.call(*wishes, Wish.of(S.GET_MEASUREMENTS, parameter=0xE))
        assert call.done, house.reports[0].error
        erased = await house.call(Wish.of(S.PROVISION_CERTIFICATE, parameter=0x83))
        assert erased.done, house.reports[1].error
    device = FolderDevice.load(lab.device)
    assert sorted(device.credentials.slots) == [0, 2]
    first = house.reports[0].services[0]
    assert [each["outcome"] for each in first.detail["steps"]] == ["passed"] * 6
    assert first.session == ("psk" if method else "key-exchange")


async def test_a_certificate_is_asked_for_in_a_session_of_slot_0(
    lab: Lab, authority: CertificateAuthority
) -> None:
    """A session by another slot is with whoever holds that key: State 0x02, then slot 0."""
    lab.edit("may_provision = []", 'may_provision = ["certificate:*"]')
    provider = lab.provider(provisioner=ServiceProvisioner(authority))
    root = PrivateKey.from_seed("ecdsa-p256", b"other root")
    other = PrivateKey.from_seed("ecdsa-p256", b"other key")
    maker = Authority.root("CN=Other Root", root)
    leaf = maker.issue("CN=Other", other.public_key, Profile.leaf(CertificateModel.DEVICE, "a:b:c"))
    device = FolderDevice.load(lab.device)
    device.credentials.slots[1] = Slot(
        1, (maker.certificate.der, leaf.der), LocalSigner(other), key_pair_id=2
    )
    (lab.device / "other.pem").write_bytes(armour(maker.certificate.der, "CERTIFICATE"))
    anchors = [lab.device / "trust-anchor.pem", lab.device / "other.pem"]
    provider.verifier = Verifier.from_files(Sources(trust_anchors=anchors))
    wish = Wish(S.PROVISION_CERTIFICATE, SessionMethod.KEY_EXCHANGE, slot_id=1, parameter=2)
    device.register_vendor(ServiceDesk(device, [wish]))
    async with verifier_listens(lab, provider) as house:
        connection = await connect(house.uri, responder_factory(device), role=Role.RESPONDER)
        await connection.wait_closed()
    (report,) = house.reports
    assert report.error is None
    assert report.corrections == ["the session has to be with the device attested in slot 0"]
    assert [each.service for each in report.services] == ["certificate"]


async def test_a_default_service_that_is_not_possible_says_nothing_of_the_device(lab: Lab) -> None:
    provider = lab.provider(default_service=S.VERIFY_MEASUREMENTS)
    async with (
        verifier_listens(lab, provider, mutual=False) as house,
        device_listens(lab, desk=False) as (uri, _),
    ):
        report = await house.service.dial(uri)
    assert isinstance(report.error, ProtocolViolation)
    assert report.verdict == "none"


@pytest.mark.parametrize("obstacle", ["slot 0", "not permitted", "untrusted", "no session"])
async def test_a_certificate_is_refused(
    lab: Lab, authority: CertificateAuthority, obstacle: str
) -> None:
    if obstacle != "not permitted":
        lab.edit("may_provision = []", 'may_provision = ["certificate:*"]')
    if obstacle == "untrusted":
        (lab.device / "firmware" / "main.bin").write_bytes(b"something else")
    provider = lab.provider(provisioner=ServiceProvisioner(authority))
    number = 0 if obstacle == "slot 0" else 1
    async with verifier_listens(lab, provider, mutual=obstacle != "no session") as house:
        call = await house.call(Wish.of(S.PROVISION_CERTIFICATE, parameter=number))
    assert not call.done
    assert sorted(FolderDevice.load(lab.device).credentials.slots) == [0]
    expected = Fate.REFUSED if obstacle == "slot 0" else Fate.UNANSWERED
    assert call.endings[0].fate is expected

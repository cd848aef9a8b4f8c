"""What devices are given: kept durably, signed forms, freshness, and what they make of it."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.pkcs8 import armour
from spdmkit.device.folder import FolderDevice
from spdmkit.errors import ConfigurationError, DecodeError, PeerError
from spdmkit.identity.issue import Authority, Issuance, Profile
from spdmkit.messages import V13, Context, ErrorCode, Registry
from spdmkit.messages.dsp0287 import ServiceId, SessionMethod
from spdmkit.messages.opaque import GeneralOpaqueData, OpaqueElement
from spdmkit.protocol.link import Link
from spdmkit.services import content, requests
from spdmkit.services.evaluation import evaluate_itself
from spdmkit.services.holdings import Entry, Holdings, StoredResults
from spdmkit.services.provider import Gift, gifts_from
from spdmkit.services.wishes import Fate, Wish

from .support import Lab, verifier_listens

S = ServiceId
NOW = int(time.time())
DAY = 86400
CONTEXT = Context(version=V13)


class Signer:
    """Somebody who signs, below a root of its own."""

    def __init__(self, name: str = "Signer") -> None:
        self.key = _key()
        self.root = Authority.root(f"CN={name} Root", _key())
        self.leaf = self.root.issue(f"CN={name}", self.key.public_key, Profile())

    def trusted_in(self, lab: Lab, what: str) -> None:
        name = f"{what}.pem"
        (lab.device / name).write_bytes(armour(self.root.certificate.der, "CERTIFICATE"))
        lab.edit("[trust]", f'[trust]\n{what} = ["{name}"]')

    def corim(self, lab: Lab, *, revision: int = 1, until: int | None = NOW + DAY) -> bytes:
        manifests = [
            replace(each, revision=revision, not_after=until)
            for each in gifts_from([lab.device / "reference.json"])[0].manifests
        ]
        chain = [self.leaf.der, self.root.certificate.der]
        return sign_corim(to_corim(manifests), self.key, signer="Signer", certificates=chain)

    def policy(self, version: int, *, until: str = "not_after = 2199-01-01") -> bytes:
        text = f'[policy]\nname = "rack"\nversion = {version}\n{until}\n'
        return content.sign_policy(
            text.encode(), self.key, [self.leaf.der, self.root.certificate.der]
        )


def _key() -> PrivateKey:
    from spdmkit.crypto.registry import signature_algorithm

    return PrivateKey.generate(signature_algorithm("ecdsa-p256"))


def gift(data: bytes) -> Gift:
    return Gift("signed", data, content.unverified_manifests(data), True)


# --- outside a session ----------------------------------------------------------------------------


async def test_signed_data_needs_no_session(lab: Lab) -> None:
    signer = Signer()
    signer.trusted_in(lab, "reference_signers")
    signer.trusted_in(lab, "policy_signers")
    provider = lab.provider(gifts=(gift(signer.corim(lab)),), policy_document=signer.policy(4))
    wishes = [
        Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS),
        Wish.of(S.PROVISION_VERIFICATION_POLICY),
    ]
    async with verifier_listens(lab, provider, mutual=False) as house:
        call = await house.call(*wishes)
    assert call.done, house.reports[0].error
    assert {each.session for each in house.reports[0].services} == {"none"}
    holdings = house.holdings()
    assert holdings.references[0].signer == "CN=Signer"
    assert holdings.references[0].given_by == "nobody in particular"
    assert holdings.policy.signer == "CN=Signer"
    assert holdings.policy.versions == {"rack": 4}
    result = evaluate_itself(FolderDevice.load(lab.device), holdings, NOW)
    assert result.verdict == "trusted"
    assert result.policy.startswith("rack v4")


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [(1, 2, True), (2, 2, False), (2, 1, False), (None, 1, True)],
)
async def test_only_newer_versions_are_taken_in_the_clear(
    lab: Lab, first: int | None, second: int, taken: bool
) -> None:
    signer = Signer()
    signer.trusted_in(lab, "reference_signers")
    signer.trusted_in(lab, "policy_signers")
    for number, version in enumerate((first, second)):
        if version is None:
            continue
        provider = lab.provider(
            gifts=(gift(signer.corim(lab, revision=version)),),
            policy_document=signer.policy(version),
        )
        for service in (S.PROVISION_REFERENCE_MEASUREMENTS, S.PROVISION_VERIFICATION_POLICY):
            async with verifier_listens(lab, provider, mutual=False) as house:
                call = await house.call(Wish.of(service))
            expected = taken if number else True
            assert call.done is expected
            if not expected:
                assert call.endings[0].fate is Fate.REFUSED
                assert house.reports[0].corrections
    assert house.holdings().policy.versions == {"rack": second if taken else first}


@pytest.mark.parametrize("flaw", ["stranger", "expired", "endless", "altered", "nobody"])
async def test_what_does_not_guarantee_itself_is_refused_in_the_clear(lab: Lab, flaw: str) -> None:
    signer = Signer()
    if flaw != "nobody":
        trusted = Signer("Other") if flaw == "stranger" else signer
        trusted.trusted_in(lab, "reference_signers")
        trusted.trusted_in(lab, "policy_signers")
    until = {"expired": NOW - DAY, "endless": None}.get(flaw, NOW + DAY)
    dated = {"expired": "not_after = 2001-01-01", "endless": ""}.get(flaw)
    document = signer.corim(lab, until=until)
    policy = signer.policy(4) if dated is None else signer.policy(4, until=dated)
    offered = gift(document)
    if flaw == "altered":
        offered = replace(offered, data=document[:-1] + bytes([document[-1] ^ 1]))
        policy = policy[:-1] + bytes([policy[-1] ^ 1])
    provider = lab.provider(gifts=(offered,), policy_document=policy)
    for service in (S.PROVISION_REFERENCE_MEASUREMENTS, S.PROVISION_VERIFICATION_POLICY):
        async with verifier_listens(lab, provider, mutual=False) as house:
            call = await house.call(Wish.of(service))
        assert not call.done
        # A signature that does not hold is an error; what is only not guaranteed wants a session.
        wrong = flaw in ("stranger", "altered")
        assert isinstance(house.reports[0].error, PeerError) is wrong
        assert (call.endings[0].fate is Fate.REFUSED) is not wrong
    assert not house.holdings().references
    assert house.holdings().policy is None


@pytest.mark.parametrize("method", [None, SessionMethod.SESSION])
async def test_what_does_not_convince_in_the_clear_is_given_in_a_session(
    lab: Lab, method: SessionMethod | None
) -> None:
    """The device has the same version already: that is no reason to refuse whom it knows."""
    signer = Signer()
    signer.trusted_in(lab, "reference_signers")
    signer.trusted_in(lab, "policy_signers")
    provider = lab.provider(gifts=(gift(signer.corim(lab)),), policy_document=signer.policy(4))
    wishes = [
        Wish.of(service, session_method=method)
        for service in (S.PROVISION_REFERENCE_MEASUREMENTS, S.PROVISION_VERIFICATION_POLICY)
    ]
    for _ in range(2):
        async with verifier_listens(lab, provider) as house:
            call = await house.call(*wishes)
        assert call.done, house.reports[0].error
    assert {each.session for each in house.reports[0].services} == {"key-exchange"}
    assert house.reports[0].services[1].detail["given"].startswith("rack v4")


async def test_another_name_does_not_make_an_old_policy_new(lab: Lab) -> None:
    signer = Signer()
    signer.trusted_in(lab, "policy_signers")
    other = content.sign_policy(
        b'[policy]\nname = "other"\nversion = 3\nnot_after = 2199-01-01\n',
        signer.key,
        [signer.leaf.der, signer.root.certificate.der],
    )
    for document, done in ((signer.policy(4), True), (other, False)):
        provider = lab.provider(policy_document=document)
        async with verifier_listens(lab, provider, mutual=False) as house:
            call = await house.call(Wish.of(S.PROVISION_VERIFICATION_POLICY))
        assert call.done is done


async def test_an_older_version_is_taken_in_a_mutual_session(lab: Lab) -> None:
    """Who may set references may go back, too: the session vouches for freshness."""
    signer = Signer()
    signer.trusted_in(lab, "reference_signers")
    for revision in (5, 4):
        document = signer.corim(lab, revision=revision)
        provider = lab.provider(gifts=(replace(gift(document), signed=False),))
        async with verifier_listens(lab, provider) as house:
            call = await house.call(Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS))
        assert call.done, house.reports[0].error
    assert list(house.holdings().reference_versions.values()) == [4]


# --- content --------------------------------------------------------------------------------------


def test_elements_name_the_tag_of_their_data(lab: Lab) -> None:
    document = gifts_from([lab.device / "reference.json"])[0].data
    (element,) = content.elements_of([document])
    assert element.registry == Registry.IANA_CBOR
    assert element.vendor_id == bytes.fromhex("d901f5")
    encoded = GeneralOpaqueData(elements=[element]).encode(CONTEXT)
    assert content.understood(encoded, CONTEXT, content.REFERENCE_TAGS) == [document]
    other = OpaqueElement(registry=Registry.TCG, vendor_id=b"\0\0", data=b"something")
    both = GeneralOpaqueData(elements=[other, element]).encode(CONTEXT)
    assert content.understood(both, CONTEXT, content.REFERENCE_TAGS) == [document]


@pytest.mark.parametrize(
    "elements",
    [
        [],
        [OpaqueElement(registry=Registry.TCG, vendor_id=b"\0\0", data=b"x")],
        [OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=b"\xd2", data=b"\xd9\x01\xf5\xa0")],
        [OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=b"\xc1", data=b"\xc1\x00")],
        [OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=b"", data=b"")],
        [OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=b"\xd9", data=b"\xd9\x01")],
        [OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=b"\x40", data=b"\x40")],
        [OpaqueElement(registry=Registry.IANA_CBOR, vendor_id=b"\xd2", data=b"\xd2\x80")] * 17,
    ],
)
def test_elements_that_nobody_understands(elements: list[OpaqueElement]) -> None:
    encoded = GeneralOpaqueData(elements=elements).encode(CONTEXT)
    with pytest.raises(DecodeError):
        content.understood(encoded, CONTEXT, content.REFERENCE_TAGS)


@pytest.mark.parametrize(
    "text",
    [
        '[identity]\ntrust_anchors = ["/etc/passwd"]',
        '[identity]\ncrls = ["x"]',
        '[references]\nsigners = ["x"]',
        '[references]\nstore = "/"',
        "[nonsense]\nx = 1",
        "not toml",
    ],
)
async def test_a_policy_for_a_device_names_no_files(lab: Lab, text: str) -> None:
    from spdmkit.attestation import cbor
    from spdmkit.attestation.policy_file import POLICY_TAG

    document = cbor.encode(cbor.Tag(POLICY_TAG, text))
    async with verifier_listens(lab, lab.provider(policy_document=document)) as house:
        call = await house.call(Wish.of(S.PROVISION_VERIFICATION_POLICY))
    assert not call.done
    error = house.reports[0].error
    assert isinstance(error, PeerError)
    assert error.code == ErrorCode.INVALID_REQUEST
    assert house.holdings().policy is None


async def test_a_large_set_travels_in_chunks(lab: Lab) -> None:
    document = gifts_from([lab.device / "reference.json"])[0]
    lab.edit("[limits]", "[limits]\ndata_transfer_size = 512")
    async with verifier_listens(lab, lab.provider(gifts=(document,) * 3)) as house:
        call = await house.call(Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS))
    assert call.done, house.reports[0].error


async def test_more_than_fits_one_message_is_said(lab: Lab) -> None:
    problem: list[str] = []

    def converse(link: Link) -> Generator[Any, Any, dict[str, Any]]:
        elements = content.elements_of([b"\xd2" + bytes(0xFF00)] * 2)
        try:
            yield from requests.set_reference(link, elements, guaranteed=False)
        except Exception as error:
            problem.append(str(error))
        return {}

    async with verifier_listens(lab, lab.provider(converse=converse)) as house:
        await house.call(Wish.of(S.SESSION_ONLY))
    assert "fit one message" in problem[0]


# --- on the disk ----------------------------------------------------------------------------------


def entry(name: str, version: int = 1) -> Entry:
    return Entry(b"data of " + name.encode(), {name: version}, "psk:me", "", NOW)


def test_holdings_are_read_back(tmp_path: Path) -> None:
    holdings = Holdings(tmp_path)
    assert (holdings.references, holdings.policy, holdings.results) == ((), None, ())
    holdings.put_references([entry("a"), entry("b")])
    holdings.put_references([entry("a", 2)])
    holdings.put_policy(entry("p"))
    holdings.put_results(StoredResults("x", bytes(128), NOW))
    holdings.put_results(StoredResults("x", bytes([8]) * 128, NOW))
    again = Holdings(tmp_path)
    assert again.reference_versions == {"b": 1, "a": 2}
    assert again.references == holdings.references
    assert again.policy == entry("p")
    assert again.policy_versions == {"p": 1}
    assert [each.results[0] for each in again.results] == [8]


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holdings = Holdings(tmp_path)
    holdings.put_policy(entry("old"))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        holdings.put_policy(entry("new"))
    monkeypatch.undo()
    assert holdings.policy == entry("old")
    (tmp_path / "received" / ".new-policy.cbor-1234").write_bytes(b"half")
    assert Holdings(tmp_path).policy == entry("old")
    assert [path.name for path in (tmp_path / "received").iterdir()] == ["policy.cbor"]


@pytest.mark.parametrize("damage", [b"", b"\x80\x80", b"\x01", b"\x81\xa0", b"\x81\x01"])
@pytest.mark.parametrize("name", ["references", "policy", "results"])
def test_damaged_holdings_are_named(tmp_path: Path, name: str, damage: bytes) -> None:
    (tmp_path / "received").mkdir()
    (tmp_path / "received" / f"{name}.cbor").write_bytes(damage)
    with pytest.raises(ConfigurationError):
        Holdings(tmp_path)


def test_holdings_are_bounded(tmp_path: Path) -> None:
    holdings = Holdings(tmp_path)
    holdings.put_references([entry(str(number)) for number in range(64)])
    holdings.put_references([entry("7", 2)])
    with pytest.raises(ConfigurationError, match="64"):
        holdings.put_references([entry("one more")])
    for number in range(20):
        holdings.put_results(StoredResults(str(number), bytes(128), NOW))
    assert len(Holdings(tmp_path).results) == 16


async def test_a_full_disk_is_an_error_for_the_requester(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Holdings, _entry: Entry) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Holdings, "put_policy", full)
    async with verifier_listens(lab) as house:
        call = await house.call(Wish.of(S.PROVISION_VERIFICATION_POLICY))
    assert call.endings[0].fate is Fate.UNANSWERED
    assert isinstance(house.reports[0].error, PeerError)


# --- judging itself -------------------------------------------------------------------------------


async def test_a_device_judges_itself_by_what_it_was_given(lab: Lab) -> None:
    def verdict() -> str:
        device = FolderDevice.load(lab.device)
        return str(evaluate_itself(device, Holdings(lab.device), NOW).verdict)

    assert verdict() == "not-appraised"
    async with verifier_listens(lab) as house:
        await house.call(Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS))
    assert verdict() == "trusted"
    (lab.device / "firmware" / "main.bin").write_bytes(b"something else")
    assert verdict() == "untrusted"


async def test_a_device_follows_the_policy_it_was_given(lab: Lab) -> None:
    lab.policy.write_text(lab.policy.read_text().replace("minimum_svn = 1", "minimum_svn = 9"))
    async with verifier_listens(lab) as house:
        await house.call(
            Wish.of(S.PROVISION_REFERENCE_MEASUREMENTS),
            Wish.of(S.PROVISION_VERIFICATION_POLICY),
        )
    result = evaluate_itself(FolderDevice.load(lab.device), house.holdings(), NOW)
    assert result.verdict == "untrusted"
    assert any("security-version" in reason for reason in result.reasons)


def test_a_signer_who_is_no_longer_trusted_counts_no_more(lab: Lab) -> None:
    signer = Signer()
    document = signer.corim(lab)
    holdings = Holdings(lab.device)
    given = content.read_given_reference(document, None, NOW, {})
    holdings.put_references([Entry(document, given.versions, "nobody", "CN=Signer", NOW)])
    Signer("Other").trusted_in(lab, "reference_signers")
    result = evaluate_itself(FolderDevice.load(lab.device), holdings, NOW)
    assert result.verdict == "untrusted"
    assert [each.name for each in result.failed_steps()] == ["reference-signature"]


def test_a_device_with_a_key_alone_judges_itself(lab: Lab) -> None:
    lab.edit('"CERT_CAP", "CHAL_CAP", ', "")
    result = evaluate_itself(FolderDevice.load(lab.device), Holdings(lab.device), NOW)
    assert result.verdict == "not-appraised"
    lab.edit('[[pre_shared_key]]\nfile = "psk.toml"\n', "")
    with pytest.raises(ConfigurationError, match="neither"):
        evaluate_itself(FolderDevice.load(lab.device), Holdings(lab.device), NOW)


def test_expired_signers(lab: Lab) -> None:
    """A signer's certificate that has ended is no signer's any more."""
    key = _key()
    root = Authority.root("CN=Old Root", _key())
    ended = Issuance(not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    leaf = root.issue("CN=Old", key.public_key, Profile(), ended)
    text = b'[policy]\nname = "rack"\nversion = 1\nnot_after = 2199-01-01\n'
    document = content.sign_policy(text, key, [leaf.der])
    from spdmkit.errors import AuthenticationError
    from spdmkit.identity import Purpose, TrustAnchors

    anchors = TrustAnchors([root.certificate], Purpose.POLICY_SIGNER)
    with pytest.raises(AuthenticationError, match="policy-signature"):
        content.read_given_policy(document, anchors, NOW, {})

"""Results: JSON, EAR verified by public libraries, DSP0287 nibbles, and the report."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import cbor2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from spdmkit.attestation import cbor
from spdmkit.attestation.outcome import (
    AttestationResult,
    MeasurementOutcome,
    MeasurementResult,
    Verdict,
)
from spdmkit.attestation.policy import Component, Policy
from spdmkit.attestation.results.dsp0287 import (
    SIZE,
    IndexVerification,
    pack_results,
    unpack_results,
)
from spdmkit.attestation.results.ear import (
    PROFILE,
    SUBMODULE,
    EarOptions,
    claims,
    read_cwt,
    read_jwt,
    to_cwt,
    to_jwt,
)
from spdmkit.attestation.results.html import to_html
from spdmkit.attestation.results.json_result import to_dict, to_json
from spdmkit.crypto.keys import PrivateKey
from spdmkit.errors import AuthenticationError, DecodeError
from spdmkit.identity import Outcome, Step

from .lab import (
    FIRMWARE,
    MODE,
    NEWS,
    NOW,
    ROM,
    SVN,
    Trial,
    mode,
    trust,
)

M = MeasurementOutcome
KEY = PrivateKey.from_seed("ecdsa-p256", b"verifier")
OTHERS = ("ecdsa-p384", "ecdsa-p521", "ed25519")
KEYS = [KEY, *(PrivateKey.from_seed(name, b"v") for name in OTHERS)]
OPTIONS = EarOptions(NOW, NOW + 3600, b"relying party's", b"evidence")


def good() -> AttestationResult:
    return Trial.good().run()


def untrusted() -> AttestationResult:
    trial = Trial.good()
    trial.measure(FIRMWARE, raw=b"other")
    return trial.run()


def not_appraised() -> AttestationResult:
    trial = Trial.good()
    trial.references.clear()
    return trial.run()


def unauthentic() -> AttestationResult:
    trial = Trial.good()
    assert trial.evidence is not None
    exchange = trial.evidence.exchanges[-1]
    last = exchange.messages[-1]
    messages = (*exchange.messages[:-1], last[:-1] + bytes([last[-1] ^ 1]))
    exchanges = (*trial.evidence.exchanges[:-1], exchange._replace(messages=messages))
    trial.evidence = replace(trial.evidence, exchanges=exchanges)
    return trial.run()


def stranger() -> AttestationResult:
    trial = Trial.good()
    trial.believed = trust("Elsewhere")
    return trial.run()


EVERY = [good, untrusted, not_appraised, unauthentic, stranger]


# --- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_the_keys_that_scripts_hold_on_to(make: Any) -> None:
    result = make()
    found = json.loads(to_json(result))
    assert found == json.loads(json.dumps(to_dict(result)))
    assert {
        "verdict", "spdm_version", "algorithms", "identity", "measurements", "steps", "timings",
    } <= set(found)  # fmt: skip
    assert found["verdict"] in ("trusted", "untrusted", "not-appraised")
    for step in found["steps"]:
        assert set(step) == {"name", "outcome", "detail"}
        assert step["outcome"] in (
            "passed", "failed", "skipped", "not-checked", "unpinned", "not-covered",
        )  # fmt: skip
    for each in found["measurements"]:
        assert {"index", "type", "value", "result"} <= set(each)


def test_values_are_shown_as_what_they_are() -> None:
    found = {each["index"]: each for each in to_dict(good())["measurements"]}
    assert found[SVN]["value"] == "5"
    assert found[SVN]["type"] == "mutable-firmware-svn"
    assert found[ROM]["digest"] is True
    assert found[MODE]["value"] == mode().hex()
    assert found[NEWS]["result"] == "not-required"


# --- EAR ---------------------------------------------------------------------------------------


def submodule(make: Any) -> dict[str, Any]:
    found: dict[str, Any] = claims(make(), OPTIONS)["submods"][SUBMODULE]
    return found


def test_the_status_follows_the_verdict() -> None:
    assert [submodule(make)["ear_status"] for make in EVERY] == [
        "affirming",
        "contraindicated",
        "none",
        "contraindicated",
        "contraindicated",
    ]


@pytest.mark.parametrize(
    ("make", "vector"),
    [
        (good, {"hardware": 2, "executables": 3, "configuration": 2}),
        (untrusted, {"hardware": 2, "executables": 96, "configuration": 2}),
        (not_appraised, {"hardware": 2, "executables": 1, "configuration": 1}),
        (
            unauthentic,
            {"hardware": 99, "executables": 99, "configuration": 99, "instance-identity": 99},
        ),
        (stranger, {"hardware": 97}),
    ],
)
def test_the_trust_vector(make: Any, vector: dict[str, int]) -> None:
    assert submodule(make)["ear_trustworthiness_vector"] == vector


def test_the_trust_vector_of_other_findings() -> None:
    trial = Trial.good()
    trial.expectations = replace(trial.expectations, identities=("ACME:Widget:0001",))
    assert submodule(trial.run)["ear_trustworthiness_vector"]["instance-identity"] == 2
    trial.expectations = replace(trial.expectations, identities=("ACME:Widget:0002",))
    assert submodule(trial.run)["ear_trustworthiness_vector"]["instance-identity"] == 97
    trial = Trial.good()
    trial.policy = Policy(components=(Component(SVN, minimum_svn=9),))
    assert submodule(trial.run)["ear_trustworthiness_vector"]["executables"] == 32
    trial = Trial.good()
    trial.measure(MODE, raw=mode(debug=1))
    assert submodule(trial.run)["ear_trustworthiness_vector"]["configuration"] == 96


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.key_type)
def test_pyjwt_verifies_the_token(key: PrivateKey) -> None:
    token = to_jwt(good(), key, OPTIONS)
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "eat+jwt"
    decoded = jwt.decode(
        token,
        key.public_key.handle,  # type: ignore[arg-type] # a key of cryptography
        algorithms=[header["alg"]],
        options={"verify_exp": False},
    )
    assert decoded["eat_profile"] == PROFILE
    assert decoded["ear_status"] == "affirming"
    assert decoded["iat"] == NOW
    assert decoded["submods"][SUBMODULE]["spdmkit_measurements"][str(ROM)] == "match"
    assert decoded["submods"][SUBMODULE]["spdmkit_identity"]["san"] == "ACME:Widget:0001"
    assert decoded == read_jwt(token, [key.public_key], now=NOW)


def test_pyjwt_refuses_an_altered_token() -> None:
    head, body, signature = to_jwt(good(), KEY, OPTIONS).split(".")
    other = to_jwt(untrusted(), KEY, OPTIONS).split(".")[1]
    token = f"{head}.{other}.{signature}"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, KEY.public_key.handle, algorithms=["ES256"])  # type: ignore[arg-type] # likewise
    with pytest.raises(AuthenticationError):
        read_jwt(token, [KEY.public_key], now=NOW)
    assert body


def test_the_cwt_verifies_by_hand_with_public_libraries() -> None:
    token = to_cwt(good(), KEY, OPTIONS)
    message = cbor2.loads(token)
    assert message.tag == 18
    protected, _, payload, signature = message.value
    header = cbor2.loads(protected)
    assert (header[1], header[16]) == (-7, "application/eat+cwt")
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    handle: Any = KEY.public_key.handle
    handle.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    found = cbor2.loads(payload)
    assert found[265] == PROFILE
    assert (found[1000], found[6], found[4]) == (2, NOW, NOW + 3600)
    assert found[10] == b"relying party's"
    assert found[1002] == b"evidence"
    device = found[266][SUBMODULE]
    assert device[1001] == {1: 2, 2: 3, 4: 2}
    assert device[-71001][ROM] == "match"
    assert cbor.thaw(read_cwt(token, [KEY.public_key], now=NOW)) == cbor.thaw(found)


def test_only_verifiers_that_are_trusted_are_believed() -> None:
    token, cwt = to_jwt(good(), KEY, OPTIONS), to_cwt(good(), KEY, OPTIONS)
    other = KEYS[1].public_key
    assert read_jwt(token, [other, KEY.public_key], now=NOW)
    assert read_cwt(cwt, [other, KEY.public_key], now=NOW)
    for keys in ([], [other], [PrivateKey.from_seed("ecdsa-p256", b"other").public_key]):
        with pytest.raises(AuthenticationError, match="no verifier that is trusted"):
            read_jwt(token, keys, now=NOW)
        with pytest.raises(AuthenticationError, match="no verifier that is trusted"):
            read_cwt(cwt, keys, now=NOW)


def test_tokens_expire() -> None:
    for late in (NOW + 3600, NOW + 9999):
        with pytest.raises(AuthenticationError, match="expired"):
            read_jwt(to_jwt(good(), KEY, OPTIONS), [KEY.public_key], now=late)
        with pytest.raises(AuthenticationError, match="expired"):
            read_cwt(to_cwt(good(), KEY, OPTIONS), [KEY.public_key], now=late)
    endless = EarOptions(NOW)
    assert read_jwt(to_jwt(good(), KEY, endless), [KEY.public_key], now=NOW * 2)


def _signed(header: dict[str, Any], body: object) -> str:
    from spdmkit.crypto.documents import sign_document

    def part(item: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(item).encode()).rstrip(b"=").decode()

    text = f"{part(header)}.{part(body)}"
    signature = base64.urlsafe_b64encode(sign_document(KEY, text.encode())).rstrip(b"=").decode()
    return f"{text}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        "%.e30.AA",
        _signed({"alg": "none"}, {"eat_profile": PROFILE}),
        _signed({"alg": "HS256"}, {"eat_profile": PROFILE}),
        _signed({"alg": "ES384"}, {"eat_profile": PROFILE}),
        _signed({"alg": "ES256", "crit": ["b64"]}, {"eat_profile": PROFILE}),
        _signed({"alg": "ES256"}, {"eat_profile": "tag:other"}),
        _signed({"alg": "ES256"}, {}),
        _signed({"alg": "ES256"}, [1]),
        _signed({"alg": "ES256"}, {"eat_profile": PROFILE, "exp": 1.5}),
        _signed({"alg": "ES256"}, {"eat_profile": PROFILE, "exp": True}),
    ],
)
def test_odd_tokens_are_refused(token: str) -> None:
    with pytest.raises((AuthenticationError, DecodeError)):
        read_jwt(token, [KEY.public_key], now=NOW)


@pytest.mark.parametrize("token", [b"", b"\xd2\x80", b"\xd2\x84\x40\xa0\x40\x40"])
def test_odd_cwts_are_refused(token: bytes) -> None:
    with pytest.raises((AuthenticationError, DecodeError)):
        read_cwt(token, [KEY.public_key], now=NOW)


# --- DSP0287 -----------------------------------------------------------------------------------


def with_results(*results: MeasurementOutcome) -> AttestationResult:
    measurements = tuple(
        MeasurementResult(index, "mutable-firmware", "00", each)
        for index, each in enumerate(results, 1)
    )
    return AttestationResult(Verdict.UNTRUSTED, ("x",), (), measurements)


def test_each_result_has_its_nibble() -> None:
    result = with_results(
        M.MATCH, M.MISMATCH, M.NO_REFERENCE, M.NOT_REQUIRED, M.STALE, M.MALFORMED, M.MISSING
    )
    packed = pack_results(result)
    assert len(packed) == SIZE
    # index 1 is the high half of byte 0, index 2 the low half of byte 1
    assert packed[:4] == bytes([0x80, 0x14, 0x50, 0x05])
    assert packed[4:] == bytes(SIZE - 4)
    assert pack_results(result, with_policy=False)[:2] == bytes([0x80, 0x34])
    assert unpack_results(packed) == {
        1: IndexVerification.PASSED,
        2: IndexVerification.FAILED,
        3: IndexVerification.NO_REFERENCE,
        5: IndexVerification.UNABLE,
        6: IndexVerification.UNABLE,
    }


def test_reserved_values_count_as_failed() -> None:
    for reserved in (6, 7, 9, 10, 11, 12, 13, 14, 15):
        field = bytes([reserved << 4]) + bytes(SIZE - 1)
        assert unpack_results(field) == {1: IndexVerification.FAILED}
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(DecodeError):
            unpack_results(bytes(size))


def test_the_last_index_fits() -> None:
    last = MeasurementResult(0xFE, "device-mode", "", M.MATCH)
    result = AttestationResult(Verdict.TRUSTED, (), (), (last,))
    assert unpack_results(pack_results(result)) == {0xFE: IndexVerification.PASSED}


# --- report ------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("make", "headline"),
    [
        (good, "Trusted"),
        (untrusted, "Not trusted"),
        (not_appraised, "Not appraised"),
        (unauthentic, "Not trusted"),
    ],
)
def test_the_report_says_it_in_words(make: Any, headline: str) -> None:
    result = make()
    page = Outline(to_html(result))
    assert headline in page.text
    for step in result.steps:
        assert step.name in page.text
    for reason in result.reasons[:3]:
        assert reason in page.text
    if result.measurements:
        assert "ACME:Widget:0001" in page.text


@pytest.mark.parametrize("make", EVERY)
def test_the_report_fetches_nothing(make: Any) -> None:
    page = Outline(to_html(make()))
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href", "srcset")]
    assert "url(" not in to_html(make())
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_what_peers_say_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    result = replace(
        good(),
        identity={"san": evil, "subject": evil},
        steps=(Step("x", Outcome.FAILED, evil),),
        reasons=(evil,),
        target=evil,
        facts={evil: evil},
        references=(evil,),
        measurements=(MeasurementResult(1, evil, evil, M.MISMATCH, evil, evil, evil, (evil,)),),
    )
    page = to_html(result)
    assert evil not in page
    assert page.count("&lt;script&gt;") >= 8


def test_a_title_of_ones_own() -> None:
    assert "<title>Rack 7: Trusted</title>" in to_html(good(), title="Rack 7")


def test_long_lists_of_reasons_are_cut() -> None:
    result = replace(not_appraised(), reasons=tuple(f"reason {n}" for n in range(40)))
    page = to_html(result)
    assert "reason 11" in page
    assert "reason 12" not in page
    assert "and 28 more" in page


# --- exit codes --------------------------------------------------------------------------------


def test_exit_codes() -> None:
    assert [make().exit_code() for make in EVERY] == [0, 1, 4, 1, 1]
    assert [make().exit_code(authenticate_only=True) for make in EVERY] == [0, 1, 0, 1, 1]

"""The commands around an appraisal: evidence, reference values, policies, forms of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.attestation.reference.json_format import to_json
from spdmkit.attestation.results.ear import read_cwt
from spdmkit.cli.root import run
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.pkcs8 import armour
from spdmkit.device.initialise import initialise
from tests.attestation.lab import DAY, NOW, authority, collect_from, good_manifest, make_device
from tests.attestation.pki import make_party

from .support import serving

H100 = Path(__file__).parent.parent / "data" / "nvidia-h100"
NONCE = bytes(range(32))
JsonCommand = Callable[..., Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with evidence of a device, its root, reference values and a verifier's key."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "root.pem").write_bytes(armour(authority()[0].certificate.der, "CERTIFICATE"))
    (folder / "widget.json").write_bytes(to_json(good_manifest()))
    signer_root = make_party("cli rim root", ca=True)
    signer = make_party("cli rim signer", signer_root, end=NOW + 10 * DAY)
    corim = sign_corim(
        to_corim([good_manifest()]), signer.key, signer="ACME", certificates=signer.chain
    )
    (folder / "widget.corim").write_bytes(corim)
    (folder / "rim-root.pem").write_bytes(signer_root.pem)
    key = PrivateKey.from_seed("ecdsa-p256", b"cli verifier")
    (folder / "key.pem").write_bytes(key.to_pem())
    (folder / "key.pem").chmod(0o600)
    (folder / "locked.pem").write_bytes(key.to_pem("secret"))
    (folder / "locked.pem").chmod(0o600)
    (folder / "key.pub").write_bytes(key.public_key.to_pem())
    evidence = collect_from(make_device(), nonce=NONCE).signed_by_collector(key)
    (folder / "evidence.cbor").write_bytes(evidence.to_cbor())
    return folder


@pytest.fixture
def spdm(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> JsonCommand:
    """Run a command in the site's folder; gives its JSON document."""
    monkeypatch.chdir(site)

    def command(*arguments: str | Path, code: int = 0, plain: bool = False) -> Any:
        found = run([*map(str, arguments), *([] if plain else ["--json"])])
        out = capsys.readouterr()
        assert found == code, f"exit {found}\n{out.out}\n{out.err}"
        assert "Traceback" not in out.err
        return out.out if plain else json.loads(out.out)

    return command


AT = ("--time", describe_time(NOW + 60))
JUDGED = ("appraise", "evidence.cbor", "--trust-anchor", "root.pem", *AT)
VALUES = ("--reference", "widget.json")


def failed(result: dict[str, Any]) -> list[str]:
    return [step["name"] for step in result["steps"] if step["outcome"] == "failed"]


def outcome(result: dict[str, Any], name: str) -> str:
    return {step["name"]: str(step["outcome"]) for step in result["steps"]}[name]


# --- appraise -----------------------------------------------------------------------------------


def test_the_time_of_the_appraisal_is_explicit_and_shown(spdm: JsonCommand) -> None:
    result = spdm(*JUDGED, *VALUES)
    assert result["verdict"] == "trusted"
    assert result["appraised_at"] == describe_time(NOW + 60)
    assert describe_time(NOW + 60) in spdm(*JUDGED, *VALUES, plain=True)
    late = ("appraise", "evidence.cbor", "--trust-anchor", "root.pem", "--time")
    assert failed(spdm(*late, "2040-01-01", *VALUES, code=1)) == ["chain"]
    assert "--time" in spdm(*late, "yesterday", code=2)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "wrong"),
    [
        (("--nonce", NONCE.hex()), 0, []),
        (("--nonce", NONCE.hex(), "--max-age", "1h"), 0, []),
        (("--nonce", bytes(32).hex()), 1, ["nonce"]),
        (("--max-age", "1h"), 1, ["freshness"]),
        (("--max-age", "1h", "--collector", "key.pub"), 0, []),
        (("--max-age", "59s", "--collector", "key.pub"), 1, ["freshness"]),
        (("--expect-identity", "ACME:Widget:0001"), 0, []),
        (("--expect-identity", "ACME:Widget:0002"), 1, ["identity"]),
        (("--versions", "1.3"), 0, []),
        (("--versions", "1.4"), 1, ["version"]),
    ],
)
def test_what_is_demanded_on_the_command_line(
    spdm: JsonCommand, arguments: tuple[str, ...], code: int, wrong: list[str]
) -> None:
    assert failed(spdm(*JUDGED, *VALUES, *arguments, code=code)) == wrong


def test_authenticate_only_is_said_by_the_exit_code_alone(spdm: JsonCommand) -> None:
    assert spdm(*JUDGED, code=4)["verdict"] == "not-appraised"
    assert spdm(*JUDGED, "--authenticate-only")["verdict"] == "not-appraised"


@pytest.mark.parametrize(
    "arguments",
    [
        ("appraise",),
        ("appraise", "evidence.cbor"),
        ("appraise", "evidence.cbor", "--trust-anchor", "root.pem", "--public-key", "key.pub"),
        ("appraise", "evidence.cbor", "--chain", "root.pem", "--trust-anchor", "root.pem"),
        ("appraise", "--measurements", "evidence.cbor", "--trust-anchor", "root.pem"),
        (*JUDGED, "--nonce", "abc"),
        (*JUDGED, "--max-age", "5"),
        (*JUDGED, "--collector", "root.pem"),
        (*JUDGED, "--expect-identity", "serial:zz"),
        (*JUDGED, "--versions", "2.0"),
        (*JUDGED, "--result", "x.txt"),
        (*JUDGED, "--result", "x.jwt"),
        (*JUDGED, "--result-format", "ear-cwt"),
        (*JUDGED, "--result-format", "html"),  # and --json
        (*JUDGED, "--signing-key", "key.pem"),
        (*JUDGED, "--result", "x.jwt", "--signing-key", "key.pub"),
        (*JUDGED, "--result", "x.jwt", "--signing-key", "locked.pem"),
        (*JUDGED, "--result", "x.jwt", "--signing-key", "key.pem", "--ear-nonce", "00"),
        (*JUDGED, "--result", "x.jwt", "--signing-key", "key.pem", "--ear-lifetime", "1"),
        ("attest", "tcp://127.0.0.1:1", "--targets", "root.pem"),
        ("attest", "tcp://127.0.0.1:1", "--trust-anchor", "root.pem", "--output", "x"),
        ("attest", "tcp://127.0.0.1:1", "--trust-anchor", "root.pem", "--remember"),
        ("attest", "tcp://127.0.0.1:1", "--trust-anchor", "root.pem", "--collector-key", "key.pem"),
        ("attest", "tcp://127.0.0.1:1", "--public-key", "key.pub", "--slot", "1"),
        ("attest", "tcp://127.0.0.1:1", "--trust-anchor", "root.pem", "--psk", "root.pem"),
        ("attest", "--targets", "root.pem", "--result", "x.json"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    spdm: JsonCommand, arguments: tuple[str, ...]
) -> None:
    assert spdm(*arguments, code=2)["error"]["message"]


# --- results ------------------------------------------------------------------------------------


def test_signed_results_verify_with_public_libraries(spdm: JsonCommand, site: Path) -> None:
    key = load_pem_public_key((site / "key.pub").read_bytes())
    options = ("--signing-key", "key.pem", "--ear-nonce", "ab" * 8, "--ear-lifetime", "1h")
    token = spdm(*JUDGED, *VALUES, "--result-format", "ear-jwt", *options, plain=True).strip()
    claims = jwt.decode(token, key, algorithms=["ES256"])  # type: ignore[arg-type] # of this kind
    assert claims["ear_status"] == "affirming"
    assert claims["exp"] - claims["iat"] == 3600
    results = ("--result", "r.jwt", "--result", "r.cwt", "--result", "r.html", "--result", "r.json")
    shown = spdm(*JUDGED, *VALUES, *results, *options)
    assert json.loads((site / "r.json").read_bytes()) == shown
    assert (site / "r.html").read_text().startswith("<!DOCTYPE html>")
    mine = PrivateKey.from_seed("ecdsa-p256", b"cli verifier").public_key
    assert read_cwt((site / "r.cwt").read_bytes(), [mine], now=0)[1000] == 2
    bad = spdm(*JUDGED, "--nonce", bytes(32).hex(), "--result", "bad.jwt", *options, code=1)
    assert bad["verdict"] == "untrusted"
    claims = jwt.decode((site / "bad.jwt").read_text().strip(), key, algorithms=["ES256"])  # type: ignore[arg-type] # of this kind
    assert claims["ear_status"] == "contraindicated"


def test_keys_are_their_owners(
    spdm: JsonCommand, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = (*JUDGED, *VALUES, "--result", "r.jwt", "--signing-key")
    monkeypatch.setenv("SPDM_PASSPHRASE", "secret")
    spdm(*signed, "locked.pem")
    (site / "words").write_text("wrong\n")
    spdm(*signed, "locked.pem", "--passphrase-file", "words", code=2)
    (site / "open.pem").write_bytes((site / "key.pem").read_bytes())
    (site / "open.pem").chmod(0o644)
    assert "chmod 600" in spdm(*signed, "open.pem", code=2)["error"]["hint"]


# --- evidence -----------------------------------------------------------------------------------


def test_evidence_is_shown_and_changes_its_form(spdm: JsonCommand) -> None:
    found = spdm("evidence", "show", "evidence.cbor")
    assert found["verified"] is False
    assert found["spdm_version"] == "1.3"
    assert len(found["measurements"]) == 9
    assert "GET_CERTIFICATE" in spdm("evidence", "show", "evidence.cbor", plain=True)
    spdm("evidence", "convert", "evidence.cbor", "again.json")
    spdm("evidence", "convert", "again.json", "again.cbor")
    assert Path("again.cbor").read_bytes() == Path("evidence.cbor").read_bytes()
    for name in ("again.json", "again.cbor"):
        spdm("appraise", name, "--trust-anchor", "root.pem", *VALUES, *AT)


def test_evidence_goes_out_and_comes_in_as_redfish_and_bare_messages(spdm: JsonCommand) -> None:
    out = ("--redfish", "rf.json", "--measurements", "bare.bin", "--chain", "chain.pem")
    made = spdm("evidence", "export", "evidence.cbor", *out, "--certificate-uri", "/redfish/v1/C/1")
    assert made == {"redfish": "rf.json", "measurements": "bare.bin", "chain": "chain.pem"}
    anchored = ("--chain", "chain.pem", "--trust-anchor", "root.pem", *VALUES, *AT)
    for source in ("--redfish", "rf.json"), ("--measurements", "bare.bin"):
        assert spdm("appraise", *source, *anchored)["verdict"] == "trusted"
        spdm("evidence", "convert", *source, "--chain", "chain.pem", "in.cbor")
        again = spdm("appraise", "in.cbor", "--trust-anchor", "root.pem", *VALUES, *AT)
        assert again["verdict"] == "trusted"
    for wrong in (
        ("evidence", "show", "root.pem"),
        ("evidence", "export", "evidence.cbor"),
        ("evidence", "convert", "evidence.cbor"),
        ("evidence", "convert", "--redfish", "root.pem", "--chain", "chain.pem", "x.cbor"),
    ):
        spdm(*wrong, code=2)


# --- policies -----------------------------------------------------------------------------------


def test_policy_check_points_at_the_line(spdm: JsonCommand, site: Path) -> None:
    good = '[identity]\ntrust_anchors = ["root.pem"]\n\n[references]\nsigners = ["rim-root.pem"]\n'
    (site / "good.toml").write_text(good + "[[component]]\nindex = 8\nminimum_svn = 5\n")
    found = spdm("policy", "check", "good.toml")
    assert found["policy"]["protocol"]["minimum_version"] == "1.2"
    assert found["policy"]["component"][0]["minimum_svn"] == 5
    assert "minimum_svn 5" in spdm("policy", "check", "good.toml", plain=True)
    assert "refuse_debug" in spdm("policy", "check", "good.toml", "-v", plain=True)
    for text, place in (
        (good.replace("signers", "signer"), "bad.toml:5: references.signer"),
        (good.replace("rim-root.pem", "absent.pem"), "bad.toml:5: references.signers"),
        (good.replace('"root.pem"', '"key.pub"'), "bad.toml:2: identity.trust_anchors"),
        (good + 'store = "absent"\n', "bad.toml:6: references.store"),
        ('[identity]\n\ncrls = ["root.pem"]\n', "bad.toml:3: identity.crls"),
        ('[identity]\n\nocsp = ["root.pem"]\n', "bad.toml:3: identity.ocsp"),
        ("[identity\n", "bad.toml:1"),
    ):
        (site / "bad.toml").write_text(text)
        error = spdm("policy", "check", "bad.toml", code=2)["error"]
        assert error["message"].startswith(place)


# --- reference values ----------------------------------------------------------------------------


def test_the_store_imports_lists_shows_chooses_and_forgets(
    spdm: JsonCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPDM_REFERENCE_STORE", str(tmp_path / "store"))
    signed = ("--reference-anchor", "rim-root.pem")
    assert spdm("reference", "list")["entries"] == []
    spdm("reference", "import", "widget.corim", code=1)
    spdm("reference", "import", "root.pem", code=2)
    entry = spdm("reference", "import", "widget.corim", *signed, *AT)["entries"][0]
    assert entry["signer"] == "CN=cli rim signer"
    assert entry["manifests"][0]["applies_to"] == {"manufacturer": ["ACME"], "product": ["Widget"]}
    assert len(spdm("reference", "list", "widget")["entries"]) == 1
    assert spdm("reference", "list", "gadget")["entries"] == []
    assert "widget.corim" in spdm("reference", "list", plain=True)
    shown = spdm("reference", "show", entry["id"][:6], *signed, *AT)
    assert len(shown["measurements"]) == 8
    assert "nobody is trusted" in spdm("reference", "show", entry["id"])["refused"]
    assert "part 8" in spdm("reference", "show", entry["id"], *signed, *AT, plain=True)
    spdm("reference", "show", entry["id"], "--content", tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == Path("widget.corim").read_bytes()

    chosen = spdm(*JUDGED, *signed)
    assert (chosen["verdict"], outcome(chosen, "reference-signature")) == ("trusted", "passed")
    # nobody's signature counts: a store that nobody named is passed over, a named one is not
    assert spdm(*JUDGED, code=4)["verdict"] == "not-appraised"
    named = spdm(*JUDGED, "--reference-store", tmp_path / "store", code=1)
    assert failed(named) == ["reference-signature"]
    assert spdm(*JUDGED, *signed, "--reference-store", "none", code=4)["references"] == []
    # and a reference that is named stands alone
    assert spdm(*JUDGED, *VALUES)["references"] == ["Widget 7.2 (not signed)"]

    assert spdm("reference", "rm", entry["id"])["removed"][0]["id"] == entry["id"]
    spdm("reference", "rm", entry["id"], code=2)


def test_values_change_their_form_and_get_a_signature(spdm: JsonCommand, site: Path) -> None:
    root = make_party("cli rim root", ca=True)
    signer = make_party("another rim signer", root)
    (site / "rim-key.pem").write_bytes(signer.key.to_pem())
    (site / "rim-key.pem").chmod(0o600)
    chain = b"".join(armour(der, "CERTIFICATE") for der in signer.chain)
    (site / "rim-chain.pem").write_bytes(chain)
    spdm("reference", "convert", "widget.json", "plain.corim")
    signing = ("--signing-key", "rim-key.pem", "--certificates", "rim-chain.pem")
    until = ("--valid-until", describe_time(NOW + DAY))
    assert spdm("reference", "convert", "widget.json", "new.corim", *signing, *until)["signed"]
    believed = ("--reference-anchor", "rim-root.pem")
    for name, more in (("plain.corim", ()), ("new.corim", believed)):
        assert spdm(*JUDGED, "--reference", name, *more)["verdict"] == "trusted"
    late = ("appraise", "evidence.cbor", "--trust-anchor", "root.pem", *believed)
    after = ("--reference", "new.corim", "--time", describe_time(NOW + 2 * DAY))
    assert spdm(*late, *after, code=4)["summary"]["stale"] == 7
    spdm("reference", "convert", "new.corim", "back.json", *believed, *AT)
    assert spdm(*JUDGED, "--reference", "back.json")["verdict"] == "trusted"
    for wrong in (
        ("plain.json", *signing),
        ("x.corim", "--signer", "ACME"),
        ("x.corim", "--signing-key", "rim-key.pem"),
        ("x.corim", "--signing-key", "key.pem", "--certificates", "rim-chain.pem"),
    ):
        spdm("reference", "convert", "widget.json", *wrong, code=2)


def test_expired_values_leave_the_store(spdm: JsonCommand, tmp_path: Path, site: Path) -> None:
    from dataclasses import replace

    (site / "old.json").write_bytes(to_json(replace(good_manifest(), not_after=NOW)))
    store = ("--store", tmp_path / "store")
    spdm("reference", "import", "old.json", "widget.json", *store)
    before, after = ("--time", describe_time(NOW - 1)), ("--time", describe_time(NOW + 1))
    assert spdm("reference", "list", "--expired", *store, *before)["entries"] == []
    expired = spdm("reference", "list", "--expired", *store, *after)["entries"]
    assert [each["source"] for each in expired] == ["old.json"]
    assert spdm("reference", "expire", *store, *before)["removed"] == []
    gone = spdm("reference", "expire", *store, *after)["removed"]
    assert [each["source"] for each in gone] == ["old.json"]
    assert len(spdm("reference", "list", *store)["entries"]) == 1


# --- the real one -------------------------------------------------------------------------------


def test_a_real_gpu_against_its_manifests_in_a_store(spdm: JsonCommand, tmp_path: Path) -> None:
    in_2024 = ("--time", "2024-08-01")
    root = ("--reference-anchor", H100 / "rim_root.pem")
    store = tmp_path / "store"
    rims = (H100 / "driver_rim.swidtag", H100 / "vbios_rim.swidtag")
    spdm("reference", "import", *rims, "--store", store, *root, code=1)  # its signers' end is past
    spdm("reference", "import", *rims, "--store", store, *root, *in_2024)
    report = (
        *("appraise", "--measurements", H100 / "attestation_report.hex"),
        *("--chain", H100 / "certificate_chain.pem", "--trust-anchor", H100 / "device_root.pem"),
    )
    bare = spdm(*report, code=4)
    assert (len(bare["measurements"]), outcome(bare, "negotiation")) == (64, "not-covered")
    damaged = (H100 / "certificate_chain.pem").read_bytes().replace(b"MIIDfT", b"MIIEfT")
    (tmp_path / "chain.pem").write_bytes(damaged)
    assert failed(spdm(*report, "--chain", tmp_path / "chain.pem", code=1)) == ["decode"]
    judged = spdm(*report, "--reference-store", store, *root, *in_2024, code=1)
    assert judged["summary"] == {"match": 13, "mismatch": 20, "no-reference": 31}
    assert failed(judged) == ["release", "measurements"]
    late = spdm(*report, "--reference-store", store, *root, code=1)
    assert "reference-signature" in failed(late)
    forgiven = spdm(
        *report, "--reference-store", store, *root, "--insecure-ignore-reference-expiry", code=1
    )
    assert failed(forgiven) == ["release", "measurements"]


# --- attest -------------------------------------------------------------------------------------


def test_evidence_of_an_attestation_is_signed_by_its_collector(
    spdm: JsonCommand, tmp_path: Path
) -> None:
    initialise(tmp_path / "device", algorithm="ecdsa-p256")
    anchored = ("--trust-anchor", tmp_path / "device" / "trust-anchor.pem")
    kept = ("--evidence", tmp_path / "evidence.json", "--collector-key", "key.pem")
    with serving(tmp_path / "device") as uri:
        found = spdm("attest", uri, *anchored, *kept, "--nonce", NONCE.hex(), code=4)
        spdm("attest", uri, "--psk", tmp_path / "device" / "psk.toml", *kept, code=2)
    assert found["nonces"][-1] == NONCE.hex()
    assert {"connect", "total"} <= set(found["timings"])
    assert found["transport"] == spdm("evidence", "show", kept[1])["transport"] == "tcp strict"
    fresh = ("--collector", "key.pub", "--max-age", "10m", "--nonce", NONCE.hex())
    again = spdm("appraise", tmp_path / "evidence.json", *anchored, *fresh, code=4)
    assert outcome(again, "freshness") == "passed"

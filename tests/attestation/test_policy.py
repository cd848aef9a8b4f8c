"""The policy file, its line numbers, and rules composed in Python."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.attestation import policy_file
from spdmkit.attestation.outcome import Verdict
from spdmkit.attestation.policy import Component, Policy, WhenMissing
from spdmkit.attestation.policy_file import (
    POLICY_TAG,
    load_policy,
    pack_policy,
    read_policy,
    unpack_policy,
)
from spdmkit.attestation.rules import (
    AllOf,
    AnyOf,
    Case,
    Custom,
    IdentityIs,
    Matches,
    Rule,
    SvnAtLeast,
    VersionAtLeast,
    VersionIn,
)
from spdmkit.attestation.toml_lines import parse_toml
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.identity import Outcome
from spdmkit.messages import MeasurementKind
from spdmkit.messages.measurements import DebugMode, OperationalMode

from .lab import FIRMWARE, ROM, SVN, VERSION, Trial

DOCUMENTED = textwrap.dedent(
    (policy_file.__doc__ or "").partition("may stand in it:\n")[2]
).encode()


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(DOCUMENTED)
    policy = load_policy(path)
    assert (policy.name, policy.version, policy.not_after) == ("data centre", 3, 1924992000)
    assert policy.identity.trust_anchors == (tmp_path / "acme-root.pem",)
    assert policy.identity.expected == ("ACME:NIC:*",)
    assert policy.protocol.minimum_version == 0x12
    assert policy.protocol.hashes == ("sha-384", "sha-512")
    assert policy.freshness.max_age == 86400
    assert policy.references.store == tmp_path / "references"
    assert policy.references.wants_signature
    assert policy.device_mode.refuse_debug == (
        DebugMode.NON_INVASIVE_ACTIVE | DebugMode.INVASIVE_ACTIVE
    )
    assert policy.device_mode.operational == OperationalMode.NORMAL
    (component,) = policy.components
    assert component == Component(7, "firmware security version", minimum_svn=4)
    assert policy.identifier.startswith("data centre v3 sha256:")


def test_an_empty_file_is_the_default_policy() -> None:
    empty = read_policy(b"")
    assert replace(empty, name="default", source="", sha256="") == Policy()
    assert empty.references.when_none is WhenMissing.NOT_APPRAISED
    assert not empty.references.wants_signature
    assert not empty.protocol.accept_uncovered_negotiation


def test_algorithm_names_of_the_specification_are_understood() -> None:
    policy = read_policy(b'[protocol]\nsignatures = ["TPM_ALG_ECDSA_ECC_NIST_P384", "ML-DSA-65"]')
    assert policy.protocol.signatures == ("ecdsa-p384", "ml-dsa-65")


@pytest.mark.parametrize(
    ("text", "line", "complaint", "hint"),
    [
        ("a =\n", 1, "Invalid value", ""),
        ("\n[policy]\nname = [\n", 4, "Unclosed|unexpected|Invalid", ""),
        ('[policy]\nnmae = "x"', 2, "nmae: unknown key", "did you mean name?"),
        ("[polcy]\n", 1, "polcy: unknown key", "did you mean policy?"),
        ("[identity]\n\nx = 1\n", 3, "x: unknown key", "known here: trust_anchors"),
        ('[policy]\nversion = "1"\n', 2, "policy.version: Expected `int`", ""),
        ("[policy]\nversion = -1\n", 2, "policy.version", ""),
        ("[policy]\nnot_after = 2026-01-01T00:00:00\n", 2, "has no offset", "end it with Z"),
        ('[policy]\nname="x"\nnot_before = "soon"\n', 3, "'soon' is not a time", ""),
        ('[protocol]\nminimum_version = "1.5"\n', 2, "minimum_version", ""),
        ('[protocol]\nhashes = ["sha-384",\n "sha-1"]\n', 2, "sha-1", "known: sha-256"),
        ('[protocol]\nsignatures = ["rot13"]\n', 2, "rot13", "known"),
        ("[protocol]\nminimum_security = 9999\n", 2, "minimum_security", ""),
        ('[freshness]\nmax_age = "1y"\n', 2, "'1y' is not a duration", "like 24h"),
        ("[freshness]\nmax_age = 60\n", 2, "freshness.max_age: Expected `str", ""),
        ('[references]\n\n\nwhen_none = "trusted"\n', 4, "when_none", ""),
        ('[references]\nwhen_none = "accept"\n', 2, "when_none", ""),
        ('[identity]\ntrust_anchors = "x"\n', 2, "Expected `array`", ""),
        ('[identity]\ntrust_anchors = [""]\n', 2, r"trust_anchors\[1\]", ""),
        ('[identity]\nexpected = ["serial:zz"]\n', 2, "not in hex", ""),
        ('[device_mode]\nrefuse_debug = ["x"]\n', 2, "refuse_debug: has no 'x'", "known: non-inv"),
        ("[component]\nindex = 1\n", 1, "component: Expected `array`", ""),
        ("[[component]]\nindex = 1\n[[component]]\nindex = 300\n", 4, r"component\[2\].index", ""),
        ("[[component]]\nindex = 1\n[[component]]\nindex = 1\n", 4, "has a component already", ""),
        ('[[component]]\nname = "x"\n', 1, "missing required field `index`", ""),
        ('[[component]]\nindex = 1\n\ntype = "firmware"\n', 4, "is called 'firmware'", "known"),
        ("[[component]]\nindex = 1\nminimum_svn = -1\n", 3, "minimum_svn", ""),
    ],
)
def test_mistakes_are_named_with_their_line(
    text: str, line: int, complaint: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read_policy(text.encode(), "site.toml")
    place = str(caught.value).split(": ")[0]
    assert place in (f"site.toml:{line}", "site.toml")
    assert place == f"site.toml:{line}" or "end of document" in str(caught.value)
    assert hint in caught.value.hint


def test_odd_bytes_and_sizes() -> None:
    with pytest.raises(ConfigurationError, match=r"p\.toml:2: not UTF-8"):
        read_policy(b"a = 1\nb = '\xff'\n", "p.toml")
    with pytest.raises(ConfigurationError, match="more than"):
        read_policy(b"#" * (300 << 10))


def test_lines_of_every_shape() -> None:
    text = '''
[policy]            # line 2
name = "a # b = [ { "
[references]
signers = [
  "a=b",   # a comment
  "c",
]
inline = { first = 1, second = "x" }
text = """
[fake]
key = 1
"""
dotted.key = 1
[[component]]
index = 1
[component.sub]
x = 1
[[component]]
"quoted" = 2
'''
    _, lines = parse_toml(text.encode(), "x")
    assert lines.line(("policy",)) == 2
    assert lines.line(("policy", "name")) == 3
    assert lines.line(("references", "signers")) == 5
    assert lines.line(("references", "signers", 1)) == 5
    assert lines.line(("references", "inline", "second")) == 9
    assert lines.line(("references", "text")) == 10
    assert lines.line(("references", "key")) == 4  # no such key: the table is named
    assert lines.line(("references", "dotted", "key")) == 14
    assert lines.line(("component", 0, "index")) == 16
    assert lines.line(("component", 0, "sub", "x")) == 18
    assert lines.line(("component", 1, "quoted")) == 20
    assert lines.line(("nothing",)) == 1


def test_a_policy_travels_under_its_tag() -> None:
    packed = pack_policy(DOCUMENTED)
    assert packed[1:5] == POLICY_TAG.to_bytes(4, "big") == b"SPDP"
    assert unpack_policy(packed) == DOCUMENTED
    with pytest.raises(ConfigurationError):
        pack_policy(b"[polcy]")
    for bad in (b"", packed[:-1], packed + b"\0", b"\xc0\x61a", b"\xda" + b"SPDP" + b"\x01"):
        with pytest.raises(DecodeError):
            unpack_policy(bad)


# --- rules in Python ---------------------------------------------------------------------------

GOOD: list[Rule] = [
    SvnAtLeast(SVN, 5),
    VersionIn(VERSION, ("7.1.0", "7.2.0")),
    VersionAtLeast(0x13),
    Matches(ROM),
    IdentityIs(("ACME:Widget:*",)),
    IdentityIs(("OTHER:*", "serial:03")),
    Custom("own", lambda case: "" if case.blocks else "nothing"),
]
BAD: list[Rule] = [
    SvnAtLeast(SVN, 6),
    SvnAtLeast(FIRMWARE, 1),
    SvnAtLeast(0x77, 1),
    VersionIn(VERSION, ("7.1.0",)),
    VersionIn(FIRMWARE, ("7.2.0",)),
    VersionAtLeast(0x14),
    Matches(0x20),
    Matches(0x77),
    IdentityIs(("ACME:Gadget:*",)),
    IdentityIs(()),
    Custom("own", lambda _case: "not today"),
    AllOf(()),
    AnyOf(()),
]


def outcome_of(rule: Rule) -> tuple[Verdict, Outcome, str]:
    trial = Trial.good()
    trial.policy = Policy(rules=(rule,))
    result = trial.run()
    return result.verdict, result.steps[-1].outcome, result.steps[-1].name


@pytest.mark.parametrize("rule", [*GOOD, AllOf(GOOD), AnyOf([*BAD, GOOD[0]])])
def test_rules_that_are_met(rule: Rule) -> None:
    assert outcome_of(rule) == (Verdict.TRUSTED, Outcome.PASSED, rule.name)


@pytest.mark.parametrize("rule", [*BAD, AllOf([*GOOD, BAD[0]]), AnyOf(BAD), AnyOf([AllOf([])])])
def test_rules_that_are_not_met(rule: Rule) -> None:
    assert outcome_of(rule) == (Verdict.UNTRUSTED, Outcome.FAILED, rule.name)


def test_a_rule_sees_the_whole_case() -> None:
    seen: list[Case] = []
    trial = Trial.good()

    def look(case: Case) -> str:
        seen.append(case)
        return ""

    trial.policy = Policy(rules=(Custom("look", look),))
    trial.run()
    (case,) = seen
    assert case.blocks[ROM].kind == MeasurementKind.IMMUTABLE_ROM
    assert case.measurements[ROM].result == "match"
    assert case.evidence.claims.product == "Widget"


# --- components --------------------------------------------------------------------------------


def test_a_component_may_be_excused() -> None:
    trial = Trial.good()
    trial.measure(FIRMWARE, raw=b"our own build")
    assert trial.run().verdict is Verdict.UNTRUSTED
    trial.policy = Policy(components=(Component(FIRMWARE, required=False),))
    result = trial.run()
    assert result.verdict is Verdict.TRUSTED
    found = {each.index: each for each in result.measurements}[FIRMWARE]
    assert (found.result, found.required) == ("not-required", False)
    trial.device.values = [each for each in trial.device.values if each.index != FIRMWARE]
    trial.recollect()
    assert trial.run().verdict is Verdict.TRUSTED


def test_a_floor_stands_in_for_a_reference_value_of_its_index() -> None:
    from .lab import good_manifest, reference, without

    trial = Trial.good()
    trial.references = [reference(without(good_manifest(), SVN))]
    assert trial.run().verdict is Verdict.NOT_APPRAISED
    trial.policy = Policy(components=(Component(SVN, minimum_svn=5),))
    result = trial.run()
    assert result.verdict is Verdict.TRUSTED
    found = {each.index: each for each in result.measurements}[SVN]
    assert found.detail.startswith("by policy: ")
    assert found.value == "5"


def test_the_device_mode_is_judged_by_policy() -> None:
    from .lab import MODE, good_manifest, mode, reference, without

    trial = Trial.good()
    trial.references = [reference(without(good_manifest(), MODE))]
    assert trial.run().verdict is Verdict.TRUSTED
    trial.measure(MODE, raw=mode(debug=0b100))  # active earlier in this reset cycle
    result = trial.run()
    assert result.verdict is Verdict.TRUSTED
    assert result.device_mode["debug"] == ["non-invasive-this-reset"]
    strict = b'[device_mode]\nrefuse_debug = ["non-invasive-this-reset"]\n'
    trial.policy = read_policy(strict)
    assert trial.run().verdict is Verdict.UNTRUSTED
    trial.policy = read_policy(b"[device_mode]\noperational = []\nrefuse_debug = []\n")
    trial.measure(MODE, raw=mode(operational=0b10, debug=0b11))
    assert trial.run().verdict is Verdict.TRUSTED
    trial.device.values = [each for each in trial.device.values if each.index != MODE]
    trial.recollect()
    trial.policy = read_policy(b"[device_mode]\ndemand = true\n")
    assert [step.name for step in trial.run().failed_steps()] == ["device-mode"]

"""Every rule of the path walker: the good chain passes, one change is refused and named."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from spdmkit.crypto.der import (
    BIT_STRING,
    NULL,
    encode_integer,
    encode_object_identifier,
    sequence,
    tlv,
)
from spdmkit.crypto.registry import BASE_HASH, signature_algorithm
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import (
    Authority,
    Certificate,
    CertificateChain,
    CertificateModel,
    ChainCache,
    ChainError,
    ChainPolicy,
    KeyPurposeRule,
    Outcome,
    Profile,
    Purpose,
    TimePolicy,
    TrustAnchors,
    VerifiedChain,
    oids,
    verify_chain,
)

from .helpers import (
    ALIAS_LEAF,
    DEVICE_CA,
    ISSUER,
    LEAF,
    NOW,
    ROOT,
    SHA384,
    Refusal,
    Spec,
    anchors,
    basic_constraints,
    device_name,
    forge_all,
    forge_chain,
    key,
    key_purposes,
    key_usage,
    refused,
    spdm_marks,
    verify,
)

CHECKS = [
    "structure",
    "anchor",
    "root-hash",
    "algorithms",
    "names",
    "signatures",
    "validity",
    "critical-extensions",
    "basic-constraints",
    "key-usage",
    "extended-key-usage",
    "certificate-model",
    "leaf-key",
    "revocation",
]
DEVICE = ChainPolicy(model=CertificateModel.DEVICE)
ALIAS = ChainPolicy(model=CertificateModel.ALIAS)
GENERIC = ChainPolicy(model=CertificateModel.GENERIC)
MUTABLE = spdm_marks(oids.MUTABLE_CERTIFICATE)
HARDWARE = spdm_marks(oids.HARDWARE_IDENTITY)
DICE_TCB = "2.23.133.5.4.1"
PERMIT_NAMES = x509.NameConstraints([x509.DNSName("example.com")], None).public_bytes()
P384_SPKI = key("other", "ecdsa-p384").public_key.spki()


def rsa_spki(bits: int) -> bytes:
    """An RSA key of that many bits; nobody knows its private half."""
    numbers = sequence(encode_integer((1 << bits) - 1), encode_integer(65537))
    algorithm = sequence(encode_object_identifier("1.2.840.113549.1.1.1"), tlv(NULL))
    return sequence(algorithm, tlv(BIT_STRING, b"\0", numbers))


def test_a_good_chain_passes_every_check_in_order() -> None:
    chain = forge_chain(ROOT, ISSUER, LEAF)
    verified = verify(chain, algorithm=signature_algorithm("ecdsa-p256"))
    assert [step.name for step in verified.steps] == CHECKS
    outcomes = {step.name: step.outcome for step in verified.steps}
    assert outcomes.pop("revocation") is Outcome.NOT_CHECKED
    assert set(outcomes.values()) == {Outcome.PASSED}
    assert verified.chain == chain
    assert verified.public_key == key("leaf").public_key
    assert verified.anchor_position == 0
    assert verified.checked_at == NOW
    assert verified.model is CertificateModel.DEVICE


REFUSALS = {
    # structure
    "version 1 leaf": Refusal(
        (ROOT, ISSUER, replace(LEAF, version=1)), "structure", 2, "version 1"
    ),
    "version 2 issuer": Refusal(
        (ROOT, replace(ISSUER, version=2), LEAF), "structure", 1, "version 2"
    ),
    "serial zero": Refusal((ROOT, ISSUER, replace(LEAF, serial=0)), "structure", 2, "not positive"),
    "serial negative": Refusal(
        (ROOT, replace(ISSUER, serial=-5), LEAF), "structure", 1, "not positive"
    ),
    "inner algorithm differs": Refusal(
        (ROOT, ISSUER, replace(LEAF, inner_hash="sha3-256")), "structure", 2, "differs"
    ),
    "ECDSA with parameters": Refusal(
        (ROOT, ISSUER, replace(LEAF, parameters=b"\x05\x00")), "structure", 2, "no parameters"
    ),
    "field after the extensions": Refusal(
        (ROOT, ISSUER, replace(LEAF, tail=b"\x05\x00")), "structure", 2, "cannot be read"
    ),
    "too many": Refusal(
        (ROOT, ISSUER, LEAF),
        "structure",
        None,
        "at most 2",
        {"policy": ChainPolicy(max_certificates=2)},
    ),
    # algorithms
    "SHA-1": Refusal((ROOT, ISSUER, replace(LEAF, hash_name="sha1")), "algorithms", 2, "sha1"),
    "SHA-1 above": Refusal(
        (ROOT, replace(ISSUER, hash_name="sha1"), LEAF), "algorithms", 1, "sha1"
    ),
    "hash not in the policy": Refusal(
        (ROOT, ISSUER, LEAF),
        "algorithms",
        1,
        "sha256 is not accepted",
        {"policy": ChainPolicy(hashes=frozenset({"sha384"}))},
    ),
    # names and signatures
    "issuer of another name": Refusal(
        (ROOT, ISSUER, replace(LEAF, issuer="CN=Somebody")), "names", 2, "CN=Somebody"
    ),
    "order reversed": Refusal(
        (ROOT, replace(LEAF, issuer="CN=Test Issuer,O=Tests"), ISSUER),
        "names",
        1,
        "CN=Test Issuer",
    ),
    "signed by another key": Refusal(
        (ROOT, ISSUER, replace(LEAF, signer="stranger")), "signatures", 2, "does not verify"
    ),
    "issuer signed by another key": Refusal(
        (ROOT, replace(ISSUER, signer="stranger"), LEAF), "signatures", 1, "does not verify"
    ),
    "signature flipped": Refusal(
        (ROOT, ISSUER, replace(LEAF, signature_flip=True)), "signatures", 2, "verif"
    ),
    # validity
    "leaf ended": Refusal(
        (ROOT, ISSUER, replace(LEAF, not_after="20261124115959Z")),
        "validity",
        2,
        "ended 2026-11-24",
    ),
    "issuer ended": Refusal(
        (ROOT, replace(ISSUER, not_after="20250101000000Z"), LEAF), "validity", 1, "ended 2025"
    ),
    "root ended": Refusal(
        (replace(ROOT, not_after="20250101000000Z"), ISSUER, LEAF), "validity", 0, "ended 2025"
    ),
    "not yet valid": Refusal(
        (ROOT, ISSUER, replace(LEAF, not_before="20261124120001Z")),
        "validity",
        2,
        "not valid before",
    ),
    # extensions
    "unknown critical": Refusal(
        (
            ROOT,
            ISSUER,
            replace(LEAF, extensions={**LEAF.extensions, "1.2.3.4": (True, b"\x05\x00")}),
        ),
        "critical-extensions",
        2,
        "1.2.3.4",
    ),
    "unknown critical above": Refusal(
        (
            ROOT,
            ISSUER.also("1.2.3.4", True, b"\x05\x00"),
            LEAF,
        ),
        "critical-extensions",
        1,
        "1.2.3.4",
    ),
    "name constraints": Refusal(
        (
            ROOT,
            ISSUER.also(oids.NAME_CONSTRAINTS, False, PERMIT_NAMES),
            LEAF,
        ),
        "critical-extensions",
        1,
        "name constraints",
    ),
    "critical DICE that is not DICE": Refusal(
        (
            ROOT,
            ISSUER,
            replace(LEAF, extensions={**LEAF.extensions, DICE_TCB: (True, b"\x05\x00")}),
        ),
        "critical-extensions",
        2,
        "DiceTcbInfo",
    ),
    # basicConstraints
    "issuer without CA": Refusal(
        (ROOT, ISSUER.extended(BASIC_CONSTRAINTS=basic_constraints(False)), LEAF),
        "basic-constraints",
        1,
        "no certificate authority",
    ),
    "issuer without basicConstraints": Refusal(
        (ROOT, ISSUER.extended(BASIC_CONSTRAINTS=None), LEAF),
        "basic-constraints",
        1,
        "no certificate authority",
    ),
    "root without CA": Refusal(
        (ROOT.extended(BASIC_CONSTRAINTS=basic_constraints(False)), ISSUER, LEAF),
        "basic-constraints",
        0,
        "no certificate authority",
    ),
    "path length of the root": Refusal(
        (ROOT.extended(BASIC_CONSTRAINTS=basic_constraints(True, 0)), ISSUER, LEAF),
        "basic-constraints",
        0,
        "allows 0",
    ),
    "path length of the issuer": Refusal(
        (
            ROOT,
            ISSUER.extended(BASIC_CONSTRAINTS=basic_constraints(True, 0)),
            DEVICE_CA,
            ALIAS_LEAF,
        ),
        "basic-constraints",
        1,
        "allows 0",
    ),
    "leaf is CA": Refusal(
        (ROOT, ISSUER, LEAF.extended(BASIC_CONSTRAINTS=basic_constraints(True))),
        "basic-constraints",
        2,
        "the leaf says",
    ),
    "leaf is CA in 1.1": Refusal(
        (ROOT, ISSUER, LEAF.extended(BASIC_CONSTRAINTS=basic_constraints(True))),
        "basic-constraints",
        2,
        "the leaf says",
        {"policy": ChainPolicy.for_version(0x11)},
    ),
    "leaf without basicConstraints": Refusal(
        (ROOT, ISSUER, LEAF.extended(BASIC_CONSTRAINTS=None)),
        "basic-constraints",
        2,
        "no basicConstraints",
        {"policy": ChainPolicy.for_version(0x12)},
    ),
    # keyUsage
    "issuer may not sign certificates": Refusal(
        (ROOT, ISSUER.extended(KEY_USAGE=key_usage("digital_signature", "crl_sign")), LEAF),
        "key-usage",
        1,
        "may not sign certificates",
    ),
    "root may not sign certificates": Refusal(
        (ROOT.extended(KEY_USAGE=key_usage("crl_sign")), ISSUER, LEAF),
        "key-usage",
        0,
        "may not sign certificates",
    ),
    "leaf may not sign": Refusal(
        (ROOT, ISSUER, LEAF.extended(KEY_USAGE=key_usage("key_agreement"))),
        "key-usage",
        2,
        "digitalSignature",
    ),
    "leaf without keyUsage": Refusal(
        (ROOT, ISSUER, LEAF.extended(KEY_USAGE=None)), "key-usage", 2, "no keyUsage"
    ),
    "generic leaf may not sign": Refusal(
        (ROOT, ISSUER, LEAF.extended(KEY_USAGE=key_usage("key_agreement"))),
        "key-usage",
        2,
        "digitalSignature",
        {"policy": GENERIC},
    ),
    # extendedKeyUsage
    "for the other role": Refusal(
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes(oids.REQUESTER_AUTH))),
        "extended-key-usage",
        2,
        "other role",
    ),
    "for the other role, loosest rule": Refusal(
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes(oids.REQUESTER_AUTH))),
        "extended-key-usage",
        2,
        "other role",
        {"policy": ChainPolicy(key_purpose=KeyPurposeRule.NOT_THE_OTHER_ROLE)},
    ),
    "responder's key as requester": Refusal(
        (ROOT, ISSUER, LEAF),
        "extended-key-usage",
        2,
        "Requester",
        {"purpose": Purpose.REQUESTER},
    ),
    "for web servers only": Refusal(
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes("1.3.6.1.5.5.7.3.1"))),
        "extended-key-usage",
        2,
        "1.3.6.1.5.5.7.3.1",
        {"policy": ChainPolicy(key_purpose=KeyPurposeRule.IF_PRESENT)},
    ),
    "no purpose where one is demanded": Refusal(
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=None)),
        "extended-key-usage",
        2,
        "names no key purpose",
        {"policy": ChainPolicy(key_purpose=KeyPurposeRule.DEMANDED)},
    ),
    "any purpose where SPDM's is demanded": Refusal(
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes("2.5.29.37.0"))),
        "extended-key-usage",
        2,
        "is not for SPDM",
        {"policy": ChainPolicy(key_purpose=KeyPurposeRule.DEMANDED)},
    ),
    # certificate models
    "mutable in the device model": Refusal(
        (ROOT, ISSUER, LEAF.extended(SPDM_EXTENSION=MUTABLE)),
        "certificate-model",
        2,
        "marked as mutable",
        {"policy": DEVICE},
    ),
    "device leaf without a subject": Refusal(
        (ROOT, ISSUER, replace(LEAF, subject="")),
        "certificate-model",
        2,
        "empty subject",
        {"policy": DEVICE},
    ),
    "hardware identity at an alias leaf": Refusal(
        (ROOT, ISSUER, LEAF), "certificate-model", 2, "alias certificate", {"policy": ALIAS}
    ),
    "two hardware identities above an alias": Refusal(
        (ROOT, ISSUER.extended(SPDM_EXTENSION=HARDWARE), DEVICE_CA, ALIAS_LEAF),
        "certificate-model",
        2,
        "stands below the hardware identity",
        {"policy": ALIAS},
    ),
    "alias leaf without a subject": Refusal(
        (ROOT, DEVICE_CA, replace(ALIAS_LEAF, subject="")),
        "certificate-model",
        2,
        "empty subject",
        {"policy": ALIAS},
    ),
    "unmarked below a mutable certificate": Refusal(
        (ROOT, ISSUER.extended(SPDM_EXTENSION=MUTABLE), ALIAS_LEAF),
        "certificate-model",
        2,
        "below a mutable",
    ),
    "hardware identity and mutable": Refusal(
        (
            ROOT,
            ISSUER,
            LEAF.extended(
                SPDM_EXTENSION=spdm_marks(oids.HARDWARE_IDENTITY, oids.MUTABLE_CERTIFICATE)
            ),
        ),
        "certificate-model",
        2,
        "hardware identity and as mutable",
    ),
    "no hardware identity where one is demanded": Refusal(
        (ROOT, ISSUER, ALIAS_LEAF),
        "certificate-model",
        None,
        "no certificate is marked",
        {"policy": ChainPolicy(demand_hardware_identity=True)},
    ),
    "SPDM's extension that is not one": Refusal(
        (ROOT, ISSUER, LEAF.extended(SPDM_EXTENSION=(False, b"\x30\x00"))),
        "certificate-model",
        2,
        "id-spdm-cert-oids",
    ),
    # the leaf's key
    "another kind of key": Refusal(
        (ROOT, ISSUER, LEAF),
        "leaf-key",
        2,
        "TPM_ALG_ECDSA_ECC_NIST_P384 was negotiated",
        {"algorithm": signature_algorithm("ecdsa-p384")},
    ),
    "another curve than negotiated": Refusal(
        (ROOT, ISSUER, replace(LEAF, spki=P384_SPKI)),
        "leaf-key",
        2,
        "ec-p384",
        {"algorithm": signature_algorithm("ecdsa-p256")},
    ),
    # claims
    "SPDM name that is no UTF8String": Refusal(
        (ROOT, ISSUER, LEAF.extended(SUBJECT_ALTERNATIVE_NAME=device_name("M:W:1", tag=0x16))),
        "claims",
        2,
        "ub-DMTF-device-info",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_one_change_is_refused_and_named(case: Refusal) -> None:
    chain = forge_chain(*case.specs)
    with pytest.raises(ChainError) as caught:
        verify(chain, **case.options)
    refused(caught.value, case.check, case.link, case.words)


ACCEPTED = {
    "leaf without basicConstraints in 1.0": (
        (ROOT, ISSUER, LEAF.extended(BASIC_CONSTRAINTS=None)),
        {"policy": ChainPolicy.for_version(0x10)},
    ),
    "leaf without basicConstraints in 1.1": (
        (ROOT, ISSUER, LEAF.extended(BASIC_CONSTRAINTS=None)),
        {"policy": ChainPolicy.for_version(0x11)},
    ),
    "issuer without keyUsage": ((ROOT, ISSUER.extended(KEY_USAGE=None), LEAF), {}),
    "generic leaf without keyUsage": (
        (ROOT, ISSUER, ALIAS_LEAF.extended(KEY_USAGE=None)),
        {"policy": GENERIC},
    ),
    "generic leaf without a subject": (
        (ROOT, ISSUER, replace(ALIAS_LEAF, subject="")),
        {"policy": GENERIC},
    ),
    "path length just enough": (
        (ROOT.extended(BASIC_CONSTRAINTS=basic_constraints(True, 1)), ISSUER, LEAF),
        {},
    ),
    "no extendedKeyUsage": ((ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=None)), {}),
    "any purpose": (
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes("2.5.29.37.0"))),
        {},
    ),
    "DICE attestation key": (
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes("2.23.133.5.4.100.9"))),
        {},
    ),
    "both roles as requester": (
        (
            ROOT,
            ISSUER,
            LEAF.extended(
                EXTENDED_KEY_USAGE=key_purposes(oids.RESPONDER_AUTH, oids.REQUESTER_AUTH)
            ),
        ),
        {"purpose": Purpose.REQUESTER},
    ),
    "purposes of TLS and OCSP, as on the reference's samples": (
        (
            ROOT,
            ISSUER,
            LEAF.extended(
                EXTENDED_KEY_USAGE=key_purposes(
                    "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.9"
                )
            ),
        ),
        {},
    ),
    "SPDM purpose demanded and there": (
        (ROOT, ISSUER, LEAF),
        {"policy": ChainPolicy(key_purpose=KeyPurposeRule.DEMANDED)},
    ),
    "signer of reference values with a requester's key": (
        (ROOT, ISSUER, LEAF.extended(EXTENDED_KEY_USAGE=key_purposes(oids.REQUESTER_AUTH))),
        {"purpose": Purpose.REFERENCE_SIGNER},
    ),
    "SHA3 signatures": (
        (ROOT, replace(ISSUER, hash_name="sha3-256"), replace(LEAF, hash_name="sha3-256")),
        {},
    ),
    "root signed with SHA-1, which nobody relies on": (
        (replace(ROOT, hash_name="sha1"), ISSUER, LEAF),
        {},
    ),
    "unknown extension that is not critical": (
        (ROOT, ISSUER, LEAF.also("1.2.3.4", False, b"x")),
        {},
    ),
    "critical extension that the policy knows": (
        (ROOT, ISSUER, LEAF.also("1.2.3.4", True, b"x")),
        {"policy": ChainPolicy(critical_extensions=oids.KNOWN_EXTENSIONS | {"1.2.3.4"})},
    ),
    "critical DICE TcbInfo": (
        (
            ROOT,
            ISSUER,
            LEAF.also(DICE_TCB, True, bytes.fromhex("3003830107")),
        ),
        {},
    ),
    "device model": ((ROOT, ISSUER, LEAF), {"policy": DEVICE}),
    "alias model": (
        (ROOT, DEVICE_CA, ALIAS_LEAF.extended(SPDM_EXTENSION=MUTABLE)),
        {"policy": ALIAS},
    ),
    "alias model, unmarked leaf": ((ROOT, DEVICE_CA, ALIAS_LEAF), {"policy": ALIAS}),
    "alias model with a layer between": (
        (
            ROOT,
            DEVICE_CA,
            ISSUER.extended(SPDM_EXTENSION=MUTABLE),
            ALIAS_LEAF.extended(SPDM_EXTENSION=MUTABLE),
        ),
        {"policy": ALIAS},
    ),
    "partial chain of SET_CERTIFICATE": (
        (ROOT, ISSUER, DEVICE_CA),
        {"policy": replace(ALIAS, ends_in_ca=True)},
    ),
    "hardware identity demanded and there": (
        (ROOT, ISSUER, LEAF),
        {"policy": ChainPolicy(demand_hardware_identity=True)},
    ),
    "no end": ((ROOT, ISSUER, LEAF), {"time": dt.datetime(9999, 1, 1, tzinfo=dt.UTC)}),
    "ended, at a time before": (
        (ROOT, ISSUER, replace(LEAF, not_after="20250101000000Z")),
        {"time": dt.datetime(2024, 6, 1, tzinfo=dt.UTC)},
    ),
    "ended this very second": (
        (ROOT, ISSUER, replace(LEAF, not_after="20261124120000Z")),
        {},
    ),
}


@pytest.mark.parametrize(("specs", "options"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_differs_and_is_allowed(specs: tuple[Spec, ...], options: dict[str, Any]) -> None:
    verified = verify(forge_chain(*specs), **options)
    assert Outcome.FAILED not in {step.outcome for step in verified.steps}


class TestPartialChain:
    def test_ends_in_an_authority(self) -> None:
        policy = replace(ALIAS, ends_in_ca=True)
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, LEAF), policy=policy)
        refused(caught.value, "basic-constraints", 2, "no certificate authority")

    def test_its_last_may_sign_certificates(self) -> None:
        policy = replace(ALIAS, ends_in_ca=True)
        last = DEVICE_CA.extended(KEY_USAGE=key_usage("digital_signature"))
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, last), policy=policy)
        refused(caught.value, "key-usage", 2, "may not sign certificates")

    def test_path_length_counts_its_last(self) -> None:
        policy = replace(ALIAS, ends_in_ca=True)
        issuer = ISSUER.extended(BASIC_CONSTRAINTS=basic_constraints(True, 0))
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, issuer, DEVICE_CA), policy=policy)
        refused(caught.value, "basic-constraints", 1, "allows 0")


def test_a_single_certificate_is_no_alias_chain() -> None:
    chain = forge_chain(ALIAS_LEAF)
    trusted = anchors(chain.certificates[0], accept_leaf=True)
    verify(chain, trusted, policy=DEVICE)
    with pytest.raises(ChainError) as caught:
        verify(chain, trusted, policy=ALIAS)
    refused(caught.value, "certificate-model", None, "no alias chain")


def test_a_certificate_that_stands_there_twice() -> None:
    ders = forge_all(ROOT, ISSUER, LEAF)
    chain = CertificateChain.from_certificates((ders[0], *ders), SHA384)
    with pytest.raises(ChainError) as caught:
        verify(chain)
    refused(caught.value, "structure", 1, "twice")


class TestAnchors:
    def test_root_in_the_chain(self) -> None:
        ders = forge_all(ROOT, ISSUER, LEAF)
        verified = verify(CertificateChain.from_certificates(ders, SHA384), anchors(ders[0]))
        assert verified.anchor.der == ders[0]

    def test_intermediate_in_the_chain(self) -> None:
        ders = forge_all(ROOT, ISSUER, LEAF)
        verified = verify(CertificateChain.from_certificates(ders, SHA384), anchors(ders[1]))
        assert verified.anchor_position == 1

    def test_above_an_intermediate_anchor_nothing_has_to_be_valid(self) -> None:
        ders = forge_all(replace(ROOT, not_after="20210101000000Z"), ISSUER, LEAF)
        chain = CertificateChain.from_certificates(ders, SHA384)
        verify(chain, anchors(ders[1]))
        with pytest.raises(ChainError) as caught:
            verify(chain, anchors(ders[0]))
        refused(caught.value, "validity", 0, "ended 2021")

    def test_root_left_out_of_the_chain(self) -> None:
        root, *rest = forge_all(ROOT, ISSUER, LEAF)
        chain = CertificateChain.from_certificates(rest, SHA384, root=root)
        verified = verify(chain, anchors(root))
        assert verified.anchor_position == -1
        assert verified.anchor.der == root
        step = next(step for step in verified.steps if step.name == "root-hash")
        assert "trust anchor" in step.detail

    def test_root_left_out_and_rules_still_hold_for_it(self) -> None:
        root, *rest = forge_all(
            ROOT.extended(BASIC_CONSTRAINTS=basic_constraints(True, 0)), ISSUER, LEAF
        )
        chain = CertificateChain.from_certificates(rest, SHA384, root=root)
        with pytest.raises(ChainError) as caught:
            verify(chain, anchors(root))
        refused(caught.value, "basic-constraints", -1, "allows 0")
        assert "the trust anchor (CN=Test Root,O=Tests)" in str(caught.value)

    def test_another_certificate_for_the_same_root_key(self) -> None:
        ders = forge_all(ROOT, ISSUER, LEAF)
        renewed = forge_all(replace(ROOT, serial=0x101))[0]
        chain = CertificateChain.from_certificates(ders, SHA384)
        assert verify(chain, anchors(renewed)).anchor_position == -1

    def test_several_anchors_of_one_name(self) -> None:
        other = forge_all(replace(ROOT, name="another root key"))[0]
        root, *rest = forge_all(ROOT, ISSUER, LEAF)
        chain = CertificateChain.from_certificates(rest, SHA384, root=root)
        assert verify(chain, anchors(other, root)).anchor.der == root

    def test_stranger(self) -> None:
        other = forge_all(replace(ROOT, subject="CN=Other Root"))[0]
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, LEAF), anchors(other))
        refused(caught.value, "anchor", None, "none of our 1 trust anchors")
        assert caught.value.hint

    def test_stranger_of_the_same_name(self) -> None:
        other = forge_all(replace(ROOT, name="another root key"))[0]
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, LEAF), anchors(other))
        refused(caught.value, "anchor", None, "none of our 1 trust anchors")

    def test_a_chain_does_not_bring_its_own_anchor(self) -> None:
        ours = forge_all(ROOT)[0]
        chain = forge_chain(
            *(replace(spec, name=f"evil {spec.name}") for spec in (ROOT, ISSUER, LEAF))
        )
        with pytest.raises(ChainError) as caught:
            verify(chain, anchors(ours))
        assert caught.value.check == "anchor"

    def test_leaf_only_when_said(self) -> None:
        ders = forge_all(ROOT, ISSUER, LEAF)
        chain = CertificateChain.from_certificates(ders, SHA384)
        with pytest.raises(ChainError) as caught:
            verify(chain, anchors(ders[2]))
        refused(caught.value, "anchor", None, "only the leaf itself")
        assert verify(chain, anchors(ders[2], accept_leaf=True)).anchor_position == 2

    def test_self_signed_leaf_alone(self) -> None:
        chain = forge_chain(LEAF)
        with pytest.raises(ChainError) as caught:
            verify(chain, anchors(chain.certificates[0]))
        assert caught.value.check == "anchor"
        verify(chain, anchors(chain.certificates[0], accept_leaf=True))

    def test_purpose_must_be_the_one_verified_for(self) -> None:
        chain = forge_chain(ROOT, ISSUER, LEAF)
        roots = anchors(chain.certificates[0], purpose=Purpose.REFERENCE_SIGNER)
        with pytest.raises(ConfigurationError, match="reference signer"):
            verify_chain(chain, roots, purpose=Purpose.DEVICE, time=NOW)


class TestRootHash:
    def test_of_something_else(self) -> None:
        root, *rest = forge_all(ROOT, ISSUER, LEAF)
        chain = CertificateChain.from_certificates((root, *rest), SHA384, root=rest[0])
        with pytest.raises(ChainError) as caught:
            verify(chain)
        refused(caught.value, "root-hash", None, "not the digest")

    def test_of_something_else_with_the_root_left_out(self) -> None:
        root, *rest = forge_all(ROOT, ISSUER, LEAF)
        chain = CertificateChain.from_certificates(rest, SHA384, root=b"\x30\x00")
        with pytest.raises(ChainError) as caught:
            verify(chain, anchors(root))
        refused(caught.value, "root-hash", None, "not the digest")

    def test_of_the_first_certificate_though_the_root_is_left_out(self) -> None:
        root, *rest = forge_all(ROOT, ISSUER, LEAF)
        verify(CertificateChain.from_certificates(rest, SHA384), anchors(root))

    def test_not_checked_below_an_unknown_root(self) -> None:
        root, *rest = forge_all(ROOT, ISSUER, DEVICE_CA, ALIAS_LEAF)
        chain = CertificateChain.from_certificates(rest, SHA384, root=root)
        verified = verify(chain, anchors(rest[1]))
        step = next(step for step in verified.steps if step.name == "root-hash")
        assert step.outcome is Outcome.NOT_CHECKED

    def test_by_another_hash(self) -> None:
        sha256 = BASE_HASH.by_name("sha-256")
        chain = CertificateChain.from_certificates(forge_all(ROOT, ISSUER, LEAF), sha256)
        verify(chain)
        with pytest.raises(DecodeError):
            CertificateChain.parse(chain.raw, SHA384)


class TestKeys:
    @pytest.mark.parametrize("bits", [1024, 1536])
    def test_short_rsa_key_at_the_leaf(self, bits: int) -> None:
        spki = rsa_spki(bits)
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, replace(LEAF, spki=spki)))
        refused(caught.value, "algorithms", 2, f"RSA key of {bits} bits")

    def test_rsa_floor_is_settable(self) -> None:
        chain = forge_chain(ROOT, ISSUER, replace(LEAF, spki=rsa_spki(2048)))
        verify(chain, algorithm=signature_algorithm("rsapss-2048"))
        verify(chain, algorithm=signature_algorithm("rsassa-2048"))
        with pytest.raises(ChainError) as caught:
            verify(chain, policy=ChainPolicy(minimum_rsa_bits=3072))
        refused(caught.value, "algorithms", 2, "3072")

    def test_huge_rsa_key(self) -> None:
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, replace(LEAF, spki=rsa_spki(16384))))
        refused(caught.value, "algorithms", 2, "16384 bits")

    def test_kind_of_key_that_spdm_has_not(self) -> None:
        spki = sequence(
            sequence(
                encode_object_identifier("1.2.840.10045.2.1"),
                encode_object_identifier("1.3.132.0.10"),  # secp256k1
            ),
            tlv(BIT_STRING, b"\0", bytes(65)),
        )
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, replace(LEAF, spki=spki)))
        refused(caught.value, "algorithms", 2, "SPDM has no key of kind")

    def test_point_off_the_curve(self) -> None:
        spki = bytearray(key("leaf").public_key.spki())
        spki[-1] ^= 1
        with pytest.raises(ChainError) as caught:
            verify(forge_chain(ROOT, ISSUER, replace(LEAF, spki=bytes(spki))))
        assert caught.value.link == 2


class TestTime:
    def test_without_a_zone(self) -> None:
        with pytest.raises(ConfigurationError, match="time zone"):
            verify(forge_chain(ROOT, ISSUER, LEAF), time=dt.datetime(2026, 1, 1))

    def test_without_a_moment(self) -> None:
        with pytest.raises(ConfigurationError, match="no time"):
            TimePolicy(None)

    def test_other_zones_are_converted(self) -> None:
        zone = dt.timezone(dt.timedelta(hours=14))
        leaf = replace(LEAF, not_after="20261124115959Z")
        chain = forge_chain(ROOT, ISSUER, leaf)
        verify(chain, time=dt.datetime(2026, 11, 25, 1, 59, 58, tzinfo=zone))
        with pytest.raises(ChainError):
            verify(chain, time=dt.datetime(2026, 11, 25, 2, 0, 0, tzinfo=zone))

    def test_ignored_by_name_and_shown(self) -> None:
        chain = forge_chain(ROOT, ISSUER, replace(LEAF, not_after="20210101000000Z"))
        verified = verify(chain, time=TimePolicy.ignoring_validity())
        step = next(step for step in verified.steps if step.name == "validity")
        assert step.outcome is Outcome.NOT_CHECKED
        assert verified.checked_at is None

    def test_policy_with_a_moment_is_the_moment(self) -> None:
        chain = forge_chain(ROOT, ISSUER, replace(LEAF, not_after="20210101000000Z"))
        with pytest.raises(ChainError):
            verify(chain, time=TimePolicy(NOW))


class TestVerifiedChain:
    def test_is_made_by_verifying_alone(self) -> None:
        verified = verify(forge_chain(ROOT, ISSUER, LEAF))
        with pytest.raises(TypeError, match="only verify_chain"):
            VerifiedChain(
                verified.chain,
                verified.purpose,
                verified.anchor,
                0,
                verified.public_key,
                verified.identity,
                (),
                None,
                (),
                object(),
            )
        with pytest.raises((TypeError, ValueError)):
            replace(verified, public_key=key("stranger").public_key)  # type: ignore[call-arg] # the point

    def test_cannot_be_changed(self) -> None:
        verified = verify(forge_chain(ROOT, ISSUER, LEAF))
        with pytest.raises(AttributeError):
            verified.public_key = key("stranger").public_key  # type: ignore[misc] # the point

    @pytest.mark.parametrize("carry", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_does_not_travel(self, carry: Callable[[object], object]) -> None:
        with pytest.raises(TypeError, match="does not travel"):
            carry(verify(forge_chain(ROOT, ISSUER, LEAF)))


class TestCache:
    def test_remembers(self) -> None:
        cache = ChainCache()
        chain = forge_chain(ROOT, ISSUER, LEAF)
        first = verify(chain, cache=cache)
        again = verify(CertificateChain.parse(chain.raw, SHA384), cache=cache)
        assert len(cache) == 1
        assert again.leaf is first.leaf  # parsed once
        assert again.steps == first.steps

    def test_judges_time_anew(self) -> None:
        cache = ChainCache()
        chain = forge_chain(ROOT, ISSUER, replace(LEAF, not_after="20270101000000Z"))
        verify(chain, cache=cache)
        late = dt.datetime(2027, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
        with pytest.raises(ChainError) as caught:
            verify(chain, cache=cache, time=late)
        refused(caught.value, "validity", 2, "ended 2027")
        assert verify(chain, cache=cache).checked_at == NOW

    def test_ignoring_time_is_another_entry(self) -> None:
        cache = ChainCache()
        chain = forge_chain(ROOT, ISSUER, replace(LEAF, not_after="20210101000000Z"))
        verify(chain, cache=cache, time=TimePolicy.ignoring_validity())
        with pytest.raises(ChainError):
            verify(chain, cache=cache)

    @pytest.mark.parametrize(
        "options",
        [
            {"policy": ChainPolicy(minimum_rsa_bits=3072)},
            {"algorithm": signature_algorithm("ecdsa-p256")},
            {"purpose": Purpose.POLICY_SIGNER},
            {"time": TimePolicy.ignoring_validity()},
        ],
        ids=["policy", "algorithm", "purpose", "time"],
    )
    def test_another_question_is_another_entry(self, options: dict[str, Any]) -> None:
        cache = ChainCache()
        chain = forge_chain(ROOT, ISSUER, LEAF)
        verify(chain, cache=cache)
        verify(chain, cache=cache, **options)
        assert len(cache) == 2

    def test_another_anchor_is_another_entry(self) -> None:
        cache = ChainCache()
        chain = forge_chain(ROOT, ISSUER, LEAF)
        verify(chain, cache=cache)
        with pytest.raises(ChainError):
            verify(chain, anchors(forge_all(replace(ROOT, name="other"))[0]), cache=cache)

    def test_failures_are_not_remembered(self) -> None:
        cache = ChainCache()
        with pytest.raises(ChainError):
            verify(forge_chain(ROOT, ISSUER, replace(LEAF, signer="x")), cache=cache)
        assert len(cache) == 0

    def test_is_bounded_and_forgets_the_oldest(self) -> None:
        cache = ChainCache(capacity=2)
        chains = [forge_chain(ROOT, ISSUER, replace(LEAF, serial=n)) for n in (1, 2, 3)]
        for chain in (chains[0], chains[1], chains[0], chains[2]):
            verify(chain, cache=cache)
        assert len(cache) == 2
        first = verify(chains[0], cache=cache)
        assert first.leaf is verify(chains[0], cache=cache).leaf
        cache.clear()
        assert len(cache) == 0

    def test_can_be_switched_off(self) -> None:
        cache = ChainCache(capacity=0)
        verify(forge_chain(ROOT, ISSUER, LEAF), cache=cache)
        assert len(cache) == 0


class TestWithoutCache:
    def test_every_signature_is_verified_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chain = forge_chain(ROOT, ISSUER, LEAF)
        first = verify(chain)
        verified: list[Certificate] = []
        plain = Certificate.verify_signature

        def counted(self: Certificate, issuer: Certificate) -> None:
            verified.append(self)
            plain(self, issuer)

        monkeypatch.setattr(Certificate, "verify_signature", counted)
        for _ in range(2):
            again = verify(CertificateChain.parse(chain.raw, SHA384))
            assert again.steps == first.steps
        assert len(verified) == 4

    def test_a_signature_that_fails_fails_a_chain_of_known_form(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chain = forge_chain(ROOT, ISSUER, LEAF)
        verify(chain)

        def fail(self: Certificate, issuer: Certificate) -> None:
            raise AuthenticationError("signature", "does not verify")

        monkeypatch.setattr(Certificate, "verify_signature", fail)
        with pytest.raises(ChainError) as caught:
            verify(chain)
        assert caught.value.check == "signatures"
        assert [step.name for step in caught.value.steps][-1] == "signatures"

    def test_time_is_judged_each_time(self) -> None:
        chain = forge_chain(ROOT, ISSUER, replace(LEAF, not_after="20270101000000Z"))
        verify(chain)
        late = dt.datetime(2027, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
        with pytest.raises(ChainError) as caught:
            verify(chain, time=late)
        refused(caught.value, "validity", 2, "ended 2027")


ALGORITHMS = [
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "ed25519",
    "ed448",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
    "rsassa-2048",
    "rsapss-2048",
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_and_a_flipped_signature(algorithm: str) -> None:
    entry = signature_algorithm(algorithm)
    pss = algorithm.startswith("rsapss")
    names = ["root", "issuer", "leaf"]
    if algorithm.startswith("rsa"):
        names = ["root", "root", "root"]  # making an RSA key takes long; one must do
    keys = [key(name, entry.short) for name in names]
    root = Authority.root("Root", keys[0], pss=pss)
    issuer = root.subordinate("Issuer", keys[1], pss=pss)
    leaf = issuer.issue("Leaf", keys[2].public_key, Profile.leaf(CertificateModel.DEVICE, "A:B:C"))
    trusted = TrustAnchors([root.certificate], Purpose.DEVICE)
    ders = [root.certificate.der, issuer.certificate.der, leaf.der]
    chain = CertificateChain.from_certificates(ders, SHA384)
    verified = verify(chain, trusted, algorithm=entry)
    assert verified.public_key.key_type == entry.key_type

    broken = ders[2][:-1] + bytes([ders[2][-1] ^ 1])
    chain = CertificateChain.from_certificates([*ders[:2], broken], SHA384)
    with pytest.raises(ChainError) as caught:
        verify(chain, trusted, algorithm=entry)
    refused(caught.value, "signatures", 2, "verif")


def test_subjects_in_errors_are_safe_to_print() -> None:
    leaf = replace(LEAF, subject="CN=evil\x1b[31m\u202e\nname", signer="stranger")
    with pytest.raises(ChainError) as caught:
        verify(forge_chain(ROOT, ISSUER, leaf))
    assert str(caught.value).isprintable()
    assert "\\x1b[31m" in caught.value.subject

"""Our walker against two others: what both know must be judged alike.

`cryptography.x509.verification` with policies as open as it lets us, and OpenSSL by pyOpenSSL where
that is installed. They know nothing of SPDM, so only rules of RFC 5280 are compared here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509 import verification

from spdmkit.identity import (
    CertificateChain,
    ChainError,
    ChainPolicy,
    KeyPurposeRule,
    Purpose,
    TrustAnchors,
)

from .helpers import (
    ALIAS_LEAF,
    DEVICE_CA,
    ISSUER,
    LEAF,
    NOW,
    ROOT,
    Spec,
    basic_constraints,
    forge_chain,
    key_usage,
    verify,
)
from .test_vectors import CHAINS, Recorded, anchors, parse

LENIENT = ChainPolicy(
    demand_leaf_basic_constraints=False,
    demand_leaf_key_usage=False,
    key_purpose=KeyPurposeRule.NOT_THE_OTHER_ROLE,
)

Oracle = Callable[[CertificateChain, TrustAnchors, dt.datetime], bool]


def by_pyca(chain: CertificateChain, trusted: TrustAnchors, at: dt.datetime) -> bool:
    agnostic = verification.Criticality.AGNOSTIC
    authorities = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, agnostic, None
    )
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([item.x509 for item in trusted]))
        .time(at)
        .extension_policies(
            ca_policy=authorities, ee_policy=verification.ExtensionPolicy.permit_all()
        )
        .build_client_verifier()
    )
    parsed = [item.x509 for item in chain.parsed]
    try:
        verifier.verify(parsed[-1], parsed[:-1])
    except (verification.VerificationError, ValueError):
        return False
    return True


def by_openssl(chain: CertificateChain, trusted: TrustAnchors, at: dt.datetime) -> bool:
    crypto = pytest.importorskip("OpenSSL.crypto")
    store = crypto.X509Store()
    for item in trusted:
        store.add_cert(crypto.X509.from_cryptography(item.x509))
    store.set_time(at)
    parsed = [crypto.X509.from_cryptography(item.x509) for item in chain.parsed]
    context = crypto.X509StoreContext(store, parsed[-1], parsed[:-1])
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def by_us(chain: CertificateChain, trusted: TrustAnchors, at: dt.datetime) -> bool:
    try:
        verify(chain, trusted, time=at, policy=LENIENT)
    except ChainError:
        return False
    return True


CASES: dict[str, tuple[tuple[Spec, ...], bool]] = {
    "good": ((ROOT, ISSUER, LEAF), True),
    "four": ((ROOT, ISSUER, DEVICE_CA, ALIAS_LEAF), True),
    "path length enough": (
        (ROOT.extended(BASIC_CONSTRAINTS=basic_constraints(True, 1)), ISSUER, LEAF),
        True,
    ),
    "path length of an issuer exceeded": (
        (
            ROOT,
            ISSUER.extended(BASIC_CONSTRAINTS=basic_constraints(True, 0)),
            DEVICE_CA,
            ALIAS_LEAF,
        ),
        False,
    ),
    "issuer no authority": (
        (ROOT, ISSUER.extended(BASIC_CONSTRAINTS=basic_constraints(False)), LEAF),
        False,
    ),
    "issuer without basicConstraints": (
        (ROOT, ISSUER.extended(BASIC_CONSTRAINTS=None), LEAF),
        False,
    ),
    "wrong key": ((ROOT, ISSUER, replace(LEAF, signer="stranger")), False),
    "flipped signature": ((ROOT, ISSUER, replace(LEAF, signature_flip=True)), False),
    "wrong name": ((ROOT, ISSUER, replace(LEAF, issuer="CN=Nobody")), False),
    "ended": ((ROOT, ISSUER, replace(LEAF, not_after="20260101000000Z")), False),
    "issuer ended": ((ROOT, replace(ISSUER, not_after="20260101000000Z"), LEAF), False),
    "not begun": ((ROOT, ISSUER, replace(LEAF, not_before="20270101000000Z")), False),
    "unknown critical extension": ((ROOT, ISSUER, LEAF.also("1.2.3.4", True, b"\x05\x00")), False),
    "unknown extension": ((ROOT, ISSUER, LEAF.also("1.2.3.4", False, b"\x05\x00")), True),
}
NOT_JUDGED_BY_PYCA = {
    "issuer may not sign certificates": (
        (ROOT, ISSUER.extended(KEY_USAGE=key_usage("crl_sign")), LEAF),
        False,
    ),
}


def at_second(moment: str) -> dt.datetime:
    return dt.datetime.strptime(moment, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)


def as_generalized_as_allowed(spec: Spec) -> Spec:
    """RFC 5280 wants UTCTime up to 2049 and the others insist; so all dates lie beyond it."""

    def later(moment: str) -> str:
        return moment if moment.startswith("9999") else f"{int(moment[:4]) + 50}{moment[4:]}"

    return replace(spec, not_before=later(spec.not_before), not_after=later(spec.not_after))


LATER = NOW.replace(year=NOW.year + 50)


@pytest.mark.parametrize("oracle", [by_pyca, by_openssl])
@pytest.mark.parametrize(("specs", "good"), CASES.values(), ids=CASES.keys())
def test_judged_alike(specs: tuple[Spec, ...], good: bool, oracle: Oracle) -> None:
    chain = forge_chain(*map(as_generalized_as_allowed, specs))
    trusted = TrustAnchors(chain.certificates[:1], Purpose.DEVICE)
    assert by_us(chain, trusted, LATER) is good
    assert oracle(chain, trusted, LATER) is good


@pytest.mark.parametrize(
    ("specs", "good"), NOT_JUDGED_BY_PYCA.values(), ids=NOT_JUDGED_BY_PYCA.keys()
)
def test_judged_alike_by_openssl(specs: tuple[Spec, ...], good: bool) -> None:
    chain = forge_chain(*map(as_generalized_as_allowed, specs))
    trusted = TrustAnchors(chain.certificates[:1], Purpose.DEVICE)
    assert by_us(chain, trusted, LATER) is good
    assert by_openssl(chain, trusted, LATER) is good


@pytest.mark.parametrize("oracle", [by_pyca, by_openssl])
@pytest.mark.parametrize("recorded", CHAINS[::5], ids=[item.file for item in CHAINS[::5]])
def test_recorded_chains_are_judged_alike(recorded: Recorded, oracle: Oracle) -> None:
    chain, trusted = parse(recorded), anchors(recorded)
    assert by_us(chain, trusted, NOW)
    assert oracle(chain, trusted, NOW)
    late = at_second("20991231000000Z")
    assert not by_us(chain, trusted, late)
    assert not oracle(chain, trusted, late)

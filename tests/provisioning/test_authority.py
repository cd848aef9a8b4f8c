"""The authority in a folder: what it issues, to whom, and what it refuses."""

from __future__ import annotations

import datetime as dt
import fcntl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import AuthenticationError, ConfigurationError
from spdmkit.identity import (
    CertificateChain,
    CertificateRequest,
    Profile,
    Purpose,
    RevocationData,
    VerifiedChain,
    build_csr,
    verify_chain,
    verify_csr,
)
from spdmkit.provisioning.authority import ALGORITHMS, CertificateAuthority
from spdmkit.provisioning.profile import Subject, read_ca_configuration

NOW = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
PASSPHRASE = "correct horse"
DEVICE = Subject("acme:nic:0001", "CN=0001,O=acme", "ab" * 32)
SHA384 = BASE_HASH.by_name("sha-384")


def clock() -> dt.datetime:
    return NOW


@pytest.fixture(scope="module")
def request_() -> CertificateRequest:
    key = PrivateKey.from_seed("ecdsa-p384", b"device")
    return verify_csr(build_csr(key, subject="CN=x", profile=Profile.leaf(0)))  # type: ignore[arg-type] # NONE


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca", PASSPHRASE, clock=clock)


def verified(authority: CertificateAuthority, chain: tuple[bytes, ...]) -> VerifiedChain:
    return verify_chain(
        CertificateChain.from_certificates(chain, SHA384),
        authority.anchors,
        purpose=Purpose.DEVICE,
        time=NOW,
    )


def test_what_it_issues_verifies_below_its_root(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    issued = authority.issue(request_, DEVICE, 1, note={"target": "tcp://h"})
    chain = verified(authority, issued.chain)
    assert chain.public_key == request_.public_key
    assert str(chain.identity.device_name) == "acme:nic:0001"
    assert chain.identity.hardware_identity
    assert chain.identity.subject == "CN=0001,O=acme"
    assert issued.certificate.serial_number == issued.serial
    authority.installed(issued, slot=1)
    entry = authority.ledger.entries[issued.serial]
    assert entry.state == "installed"
    assert entry.details["target"] == "tcp://h"
    assert entry.details["time"] == "2026-03-04T05:06:07Z"


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a not in ("rsa-3072", "rsa-4096")])
def test_every_kind_of_key(tmp_path: Path, algorithm: str, request_: CertificateRequest) -> None:
    made = CertificateAuthority.create(
        tmp_path / "ca", PASSPHRASE, algorithm=algorithm, clock=clock
    )
    verified(made, made.issue(request_, DEVICE, 1).chain)


def test_keys_are_encrypted_and_for_their_owner(authority: CertificateAuthority) -> None:
    for part in ("root", "issuing"):
        path = authority.folder / "keys" / f"{part}.pem"
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="passphrase"):
        CertificateAuthority.load(authority.folder, "wrong")
    with pytest.raises(ConfigurationError, match="need a passphrase"):
        CertificateAuthority.create(authority.folder.parent / "other", "")


def test_a_key_that_others_can_read_is_refused(authority: CertificateAuthority) -> None:
    (authority.folder / "keys" / "issuing.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="read or changed by others"):
        CertificateAuthority.load(authority.folder, PASSPHRASE)


def test_key_and_certificate_must_belong_together(authority: CertificateAuthority) -> None:
    keys = authority.folder / "keys"
    (keys / "issuing.pem").write_bytes((keys / "root.pem").read_bytes())
    with pytest.raises(ConfigurationError, match="is not the key of"):
        CertificateAuthority.load(authority.folder, PASSPHRASE)


def test_nothing_is_written_over(authority: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="File exists"):
        CertificateAuthority.create(authority.folder, PASSPHRASE)
    with pytest.raises(ConfigurationError, match="is not an authority"):
        CertificateAuthority.load(authority.folder.parent, PASSPHRASE)


def edit(authority: CertificateAuthority, old: str, new: str) -> CertificateAuthority:
    path = authority.folder / "ca.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return CertificateAuthority.load(authority.folder, PASSPHRASE, clock=clock)


@pytest.mark.parametrize(
    "pattern",
    ["*", "acme:nic:*", "acme:*:0001", "subject:CN=0001,*", f"spki-sha256:{'ab' * 32}"],
)
def test_patterns_that_name_the_device(
    authority: CertificateAuthority, request_: CertificateRequest, pattern: str
) -> None:
    changed = edit(authority, 'identities = ["*"]', f'identities = ["{pattern}"]')
    assert changed.issue(request_, DEVICE, 1).profile.name == "device"


@pytest.mark.parametrize(
    "pattern",
    ["acme:gpu:*", "subject:CN=0002*", f"spki-sha256:{'cd' * 32}", "nic"],
)
def test_a_device_that_no_profile_names_gets_nothing(
    authority: CertificateAuthority, request_: CertificateRequest, pattern: str
) -> None:
    changed = edit(authority, 'identities = ["*"]', f'identities = ["{pattern}"]')
    with pytest.raises(AuthenticationError, match="ca-policy: no profile names acme:nic:0001"):
        changed.issue(request_, DEVICE, 1)
    assert not changed.ledger.entries


def test_slots_and_profile_names_are_part_of_the_policy(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    with pytest.raises(AuthenticationError, match="slot 0"):
        authority.issue(request_, DEVICE, 0)
    with pytest.raises(AuthenticationError, match="'server'"):
        authority.issue(request_, DEVICE, 1, profile="server")


def test_an_end_and_a_subject_by_template(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    changed = edit(authority, "days = 0", "days = 10")
    changed = edit(changed, '"{subject}"', '"CN={serial_number},OU={product}"')
    strange = Subject('acme:a,b="c":+1', "CN=x", "00" * 32)
    certificate = changed.issue(request_, strange, 1).certificate
    assert certificate.not_after == NOW + dt.timedelta(days=10)
    names = {a.oid._name: a.value for a in certificate.x509.subject}
    assert names == {"commonName": "+1", "organizationalUnitName": 'a,b="c"'}


def test_the_alias_model_gets_an_authority(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    changed = edit(authority, 'model = "device"', 'model = "alias"\npath_length = 0')
    certificate = changed.issue(request_, DEVICE, 1).certificate
    constraints = certificate.x509.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    assert constraints.path_length == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("slots = [1", "slots = [8", "slots"),
        ('"{subject}"', '"CN={nobody}"', "{nobody} is not known"),
        ('"{subject}"', '"CN={subject.__class__}"', "is not known"),
        ('"{subject}"', '"CN={"', "subject"),
        ('"device"        #', '"server"        #', "model"),
        ("days = 0", "days = -1", "days"),
        ("days = 0", "dais = 0", "did you mean days"),
        ("days = 0", "path_length = 1", "goes with model"),
        ("requester = false", '[[profile]]\nname = "device"\nidentities = ["*"]', "there already"),
    ],
)
def test_mistakes_in_the_configuration_name_their_line(
    authority: CertificateAuthority, old: str, new: str, complaint: str
) -> None:
    text = (authority.folder / "ca.toml").read_text()
    assert old in text
    with pytest.raises(ConfigurationError) as caught:
        read_ca_configuration(text.replace(old, new).encode(), "ca.toml")
    assert complaint in f"{caught.value} {caught.value.hint}"
    assert str(caught.value).startswith("ca.toml:")


def test_revoked_certificates_fail_with_the_list(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    issued = authority.issue(request_, DEVICE, 1)
    kept = authority.issue(request_, DEVICE, 2)
    first = authority.revocation_list()
    authority.revoke(authority.ledger.entries[issued.serial].name, "key_compromise")
    second = authority.revocation_list()
    assert (authority.folder / "crl.der").read_bytes() == second
    numbers = [
        x509.load_der_x509_crl(der).extensions.get_extension_for_class(x509.CRLNumber).value
        for der in (first, second)
    ]
    assert [n.crl_number for n in numbers] == [1, 2]
    with pytest.raises(AuthenticationError, match="revoked"):
        verify_chain(
            CertificateChain.from_certificates(issued.chain, SHA384),
            authority.anchors,
            purpose=Purpose.DEVICE,
            time=NOW,
            revocation=RevocationData([second]),
        )
    verify_chain(
        CertificateChain.from_certificates(kept.chain, SHA384),
        authority.anchors,
        purpose=Purpose.DEVICE,
        time=NOW,
        revocation=RevocationData([second]),
    )


def test_reasons_are_those_of_the_rfc(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    issued = authority.issue(request_, DEVICE, 1)
    with pytest.raises(ConfigurationError, match="no reason is called 'boredom'"):
        authority.revoke(f"{issued.serial:x}", "boredom")
    assert not authority.ledger.revoked


def test_lists_are_written_in_the_order_of_their_numbers(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes a list holds the ledger: no second one can be numbered meanwhile."""

    def write(path: Path, data: bytes) -> None:
        with (authority.folder / "ledger.jsonl").open("rb") as ledger, pytest.raises(OSError):
            fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.write_bytes(data)

    monkeypatch.setattr("spdmkit.provisioning.authority.write_whole", write)
    authority.revocation_list()
    assert (authority.folder / "crl.der").exists()


def test_only_the_star_is_special_in_identities(
    authority: CertificateAuthority, request_: CertificateRequest
) -> None:
    changed = edit(authority, 'identities = ["*"]', 'identities = ["acme:n[ia]c:000?"]')
    with pytest.raises(AuthenticationError, match="ca-policy"):
        changed.issue(request_, DEVICE, 1)
    literal = Subject("acme:n[ia]c:000?", "CN=x", "ab" * 32)
    assert changed.issue(request_, literal, 1).profile.name == "device"


def test_a_name_with_commas_is_a_name(tmp_path: Path) -> None:
    made = CertificateAuthority.create(tmp_path / "ca", PASSPHRASE, name="Acme, Inc. = x")
    assert made.root.x509.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == (
        "Acme, Inc. = x Root"
    )


def test_the_passphrase_is_kept_before_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash must not leave keys behind whose passphrase nobody knows."""
    written: list[str] = []

    def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        written.append(path.name)
        path.write_bytes(data)
        path.chmod(mode)

    monkeypatch.setattr("spdmkit.provisioning.authority.write_whole", write)
    CertificateAuthority.create(tmp_path / "ca", PASSPHRASE, passphrase_file="secret")
    assert written[0] == "secret"
    assert written[-1] == "ca.toml"

"""The folder of reference values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.attestation.files import read_bounded, write_atomic
from spdmkit.attestation.reference.corim_write import sign_corim, to_corim
from spdmkit.attestation.reference.json_format import to_json
from spdmkit.attestation.reference.loader import Reference
from spdmkit.attestation.reference.model import (
    AppliesTo,
    DeviceClaims,
    Manifest,
    ReferenceMeasurement,
)
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.attestation.reference.store import ReferenceStore, StoreEntry, describe_entry
from spdmkit.errors import AuthenticationError, ConfigurationError
from spdmkit.identity import Purpose

from .pki import NOW, YEAR, make_party

NIC = Manifest(
    "nic",
    (ReferenceMeasurement(1, versions=("1",)),),
    name="ACME NIC",
    publisher="ACME Corporation",
    applies_to=AppliesTo(("ACME",), ("NIC",)),
    not_after=NOW + YEAR,
)
GPU = replace(NIC, manifest_id="gpu", name="ACME GPU", applies_to=AppliesTo(("ACME",), ("GPU",)))
NAMELESS = replace(NIC, manifest_id="any", name="for all", applies_to=AppliesTo())
NIC_DEVICE = DeviceClaims("ACME", "NIC", "1")
OPEN = SignerCheck(None, NOW)


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore(tmp_path / "references")


def test_import_list_show_search_remove(store: ReferenceStore) -> None:
    assert store.entries() == ((), ())
    nic = store.add(to_json(NIC), OPEN, source="nic.json", now=NOW)
    gpu = store.add(to_json(GPU), OPEN, source="gpu.json", now=NOW)
    assert [entry.source for entry in store.entries()[0]] == ["gpu.json", "nic.json"]
    assert store.get(nic.entry_id[:6]) == nic
    assert store.search("gpu") == (gpu,)
    assert store.search("corporation") == (gpu, nic)
    assert store.search("nothing like it") == ()
    assert any("ACME NIC" in line for line in describe_entry(nic))
    assert store.remove(nic.entry_id) == nic
    assert [entry.source for entry in store.entries()[0]] == ["gpu.json"]


def test_importing_twice_keeps_one(store: ReferenceStore) -> None:
    store.add(to_json(NIC), OPEN, source="a.json", now=NOW)
    store.add(to_json(NIC), OPEN, source="b.json", now=NOW + 1)
    (entry,) = store.entries()[0]
    assert (entry.source, entry.imported_at) == ("b.json", NOW + 1)


def test_names_must_be_clear(store: ReferenceStore) -> None:
    store.add(to_json(NIC), OPEN, source="nic.json", now=NOW)
    for name in ("", "zz"):
        with pytest.raises(ConfigurationError, match="begin"):
            store.get(name)


def test_values_are_chosen_by_identity(store: ReferenceStore) -> None:
    for manifest in (NIC, GPU, NAMELESS):
        store.add(to_json(manifest), OPEN, source=manifest.manifest_id, now=NOW)
    selection = store.select(NIC_DEVICE, OPEN)
    assert [reference.source for reference in selection.references] == ["nic"]
    assert selection.rejected == ()
    assert store.select(DeviceClaims("OTHER", "NIC"), OPEN).references == ()


def test_expired_values_are_selected_and_can_be_taken_out(store: ReferenceStore) -> None:
    store.add(to_json(NIC), OPEN, source="nic.json", now=NOW)
    store.add(to_json(replace(GPU, not_after=None)), OPEN, source="gpu.json", now=NOW)
    late = NOW + 2 * YEAR
    (reference,) = store.select(NIC_DEVICE, SignerCheck(None, late)).references
    assert reference.manifest.staleness(late)
    assert [entry.source for entry in store.expire(late)] == ["nic.json"]
    assert [entry.source for entry in store.entries()[0]] == ["gpu.json"]
    assert store.expire(late) == ()


def test_signatures_are_verified_on_import_and_again_on_use(store: ReferenceStore) -> None:
    root = make_party("store root", ca=True)
    signer = make_party("store signer", root)
    data = sign_corim(to_corim([NIC]), signer.key, signer="ACME", certificates=signer.chain)
    trusting = SignerCheck(root.anchors(Purpose.REFERENCE_SIGNER), NOW)
    with pytest.raises(AuthenticationError):
        store.add(data, OPEN, source="nic.corim", now=NOW)
    assert store.entries()[0] == ()
    entry = store.add(data, trusting, source="nic.corim", now=NOW)
    assert entry.signer == "CN=store signer"
    assert len(store.select(NIC_DEVICE, trusting).references) == 1
    for check in (OPEN, SignerCheck(trusting.anchors, NOW + 3 * YEAR)):
        selection = store.select(NIC_DEVICE, check)
        assert selection.references == ()
        (rejected,) = selection.rejected
        assert rejected.source == "nic.corim"
        assert isinstance(rejected.error, AuthenticationError)


def test_an_entry_that_is_no_text_is_reported(store: ReferenceStore) -> None:
    store.add(to_json(NIC), OPEN, source="nic.json", now=NOW)
    (store.folder / "broken.json").write_bytes(b'{"source": "\x9e"}')
    entries, broken = store.entries()
    assert (len(entries), [each.source for each in broken]) == (1, ["broken.json"])


def test_what_was_verified_is_not_verified_again_while_it_holds(
    store: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_party("store root", ca=True)
    signer = make_party("short-lived signer", root, end=NOW + 600)
    data = sign_corim(to_corim([NIC]), signer.key, signer="ACME", certificates=signer.chain)
    anchors = root.anchors(Purpose.REFERENCE_SIGNER)
    entry = store.add(data, SignerCheck(anchors, NOW), source="nic.corim", now=NOW)
    read: list[str] = []
    original = store.references

    def counted(entry: StoreEntry, check: SignerCheck) -> tuple[Reference, ...]:
        read.append(entry.source)
        return original(entry, check)

    monkeypatch.setattr(store, "references", counted)
    for time, verified, usable in (
        (NOW, 1, 1),
        (NOW + 600, 1, 1),
        (NOW + 601, 2, 0),  # its signer has ended, well within the hour
        (NOW - 1, 3, 1),  # a time before the one it was judged at
    ):
        selection = store.select(NIC_DEVICE, SignerCheck(anchors, time))
        assert (len(read), len(selection.references)) == (verified, usable), time
    store.select(NIC_DEVICE, SignerCheck(anchors, NOW, ignore_expiry=True))
    assert len(read) == 4  # other rules
    store.remove(entry.entry_id)
    assert store.select(NIC_DEVICE, SignerCheck(anchors, NOW)).references == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(content="e30="),
        lambda d: d.update(sha256="00" * 32),
        lambda d: d.update(spdm_reference_entry=2),
        lambda d: d.update(manifests=[]),
        lambda d: d.pop("source"),
        lambda d: d.update(verified=True),
    ],
)
def test_a_damaged_entry_is_reported_and_not_used(store: ReferenceStore, damage) -> None:  # type: ignore[no-untyped-def]
    entry = store.add(to_json(NIC), OPEN, source="nic.json", now=NOW)
    path = store.folder / f"{entry.entry_id}.json"
    document = json.loads(path.read_bytes())
    damage(document)
    path.write_text(json.dumps(document))
    entries, broken = store.entries()
    assert entries == ()
    assert [each.source for each in broken] == [path.name]
    selection = store.select(NIC_DEVICE, OPEN)
    assert selection.references == ()
    assert len(selection.rejected) == 1


def test_an_entry_under_a_foreign_name_is_not_used(store: ReferenceStore) -> None:
    entry = store.add(to_json(NIC), OPEN, source="nic.json", now=NOW)
    (store.folder / f"{entry.entry_id}.json").rename(store.folder / "0123456789abcdef.json")
    assert store.entries()[0] == ()


def test_the_summary_decides_nothing(store: ReferenceStore) -> None:
    """A summary that claims another device does not make the values apply to it."""
    entry = store.add(to_json(GPU), OPEN, source="gpu.json", now=NOW)
    path = store.folder / f"{entry.entry_id}.json"
    path.write_bytes(path.read_bytes().replace(b'"GPU"', b'"NIC"'))
    assert store.entries()[0][0].manifests[0].applies_to["product"] == ("NIC",)
    assert store.select(NIC_DEVICE, OPEN).references == ()


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ConfigurationError):
        write_atomic(tmp_path / "no folder" / "file", b"x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigurationError):
        write_atomic(tmp_path / "taken", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(ConfigurationError, match="more than the 4 bytes"):
        read_bounded(path, 4)
    with pytest.raises(ConfigurationError):
        read_bounded(tmp_path / "absent", 4)

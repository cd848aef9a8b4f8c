"""Blocks, how they compare with one index's values, and which values are chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spdmkit.attestation.blocks import (
    Block,
    kind_from_label,
    kind_label,
    version_text,
)
from spdmkit.attestation.comparison import compare, describe_allowed, describe_value
from spdmkit.attestation.measurement_log import check_log, read_log, replay
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AllowedRaw,
    AppliesTo,
    DeviceClaims,
    Manifest,
    ReferenceMeasurement,
    SvnRule,
)
from spdmkit.attestation.resolution import Resolution, resolve
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.messages import MeasurementBlock, MeasurementKind, MeasurementLog, MeasurementLogEntry

from .lab import EXTENDED, LOG, log_bytes, mode, reference

SHA256, SHA384 = BASE_HASH.by_name("sha-256"), BASE_HASH.by_name("sha-384")
K = MeasurementKind


def raw(kind: int, value: bytes, index: int = 1) -> Block:
    return Block(index, kind, True, value, b"")


def digest(kind: int, value: bytes, index: int = 1) -> Block:
    return Block(index, kind, False, value, b"")


def entry(**values: object) -> ReferenceMeasurement:
    return ReferenceMeasurement(1, **values)  # type: ignore[arg-type] # a test's own table


# --- blocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (digest(K.IMMUTABLE_ROM, bytes(32)), ""),
        (digest(K.IMMUTABLE_ROM, bytes(48)), "digest of 48 bytes"),
        (digest(K.IMMUTABLE_ROM, b""), "digest of 0 bytes"),
        (raw(K.MUTABLE_FIRMWARE, b""), ""),
        (raw(K.HASH_EXTEND, bytes(32)), "cannot be a raw bit stream"),
        (digest(K.DEVICE_MODE, bytes(32)), "has to be a raw bit stream"),
        (digest(K.INFORMATIONAL, bytes(32)), "has to be a raw bit stream"),
        (raw(K.DEVICE_MODE, mode()), ""),
        (raw(K.DEVICE_MODE, mode()[:-1]), "DeviceMode"),
        (raw(K.DEVICE_MODE, mode() + b"\0"), "DeviceMode"),
        (raw(K.MUTABLE_FIRMWARE_SVN, bytes(8)), ""),
        (raw(K.MUTABLE_FIRMWARE_SVN, bytes(7)), "SecurityVersionNumber"),
        (raw(K.STRUCTURED_MANIFEST, b"\x00\x02ab-rest"), ""),
        (raw(K.STRUCTURED_MANIFEST, b"\x00\x05ab"), "ManifestMeasurement"),
        (raw(K.STRUCTURED_MANIFEST, b""), "ManifestMeasurement"),
        (raw(0x0B, b"x"), "kind 0x0b is reserved"),
        (raw(K.INFORMATIONAL, b"x", index=0), "index 0"),
        (raw(K.INFORMATIONAL, b"x", index=255), "index 255"),
    ],
)
def test_faults_of_form(block: Block, fault: str) -> None:
    found = block.fault(32)
    assert bool(found) == bool(fault)
    assert fault in found


def test_a_digest_of_unknown_hash_only_must_not_be_empty() -> None:
    assert digest(K.IMMUTABLE_ROM, bytes(7)).fault(0) == ""
    assert digest(K.IMMUTABLE_ROM, b"").fault(0) == "empty digest"


def test_blocks_that_cannot_be_taken_apart() -> None:
    other = Block.read(MeasurementBlock(index=3, measurement_specification=2, measurement=b"x"))
    assert other.fault(0) == "measurement specification 0x02"
    cut = Block.read(
        MeasurementBlock(index=3, measurement_specification=1, measurement=b"\x01\x30\x00abc")
    )
    assert "DMTFMeasurement" in cut.fault(0)
    assert (cut.label, cut.encoded[:4]) == ("unknown", b"\x03\x01\x06\x00")


def test_values_are_read_where_a_kind_has_one() -> None:
    assert raw(K.MUTABLE_FIRMWARE_SVN, (258).to_bytes(8, "little")).security_version == 258
    assert raw(K.MUTABLE_FIRMWARE_VERSION, b"1.2\0\0").version == "1.2"
    assert digest(K.MUTABLE_FIRMWARE_VERSION, bytes(32)).version is None
    assert digest(K.MUTABLE_FIRMWARE_SVN, bytes(8)).security_version is None
    modes = raw(K.DEVICE_MODE, mode(operational=0xFFFFFFFF, debug=0x80000001)).modes
    assert modes is not None
    assert modes.as_dict()["debug"] == ["non-invasive-active"]
    assert len(modes.as_dict()["operational"]) == 6  # reserved bits are left out
    manifest = raw(K.STRUCTURED_MANIFEST, b"\x0a\x02ab-rest").manifest
    assert manifest is not None
    assert (manifest.registry, manifest.vendor_id, manifest.manifest) == (10, b"ab", b"-rest")
    assert raw(K.MEASUREMENT_MANIFEST, b"free form").manifest is None


def test_versions_are_equal_only_when_their_bytes_are() -> None:
    assert version_text(b"7.2\0\0") == "7.2"
    assert version_text(b"\xff") == "0xff"
    assert version_text(b"a\nb") == "0x610a62"
    assert version_text(b"") == ""


def test_labels() -> None:
    for kind in K:
        assert kind_from_label(kind_label(kind)) is kind
    assert kind_label(0x7F) == "reserved-0x7f"
    with pytest.raises(ConfigurationError, match="is called 'x'"):
        kind_from_label("x")


# --- one index ---------------------------------------------------------------------------------

VALUE = b"firmware"
HASHED = SHA256.digest(VALUE)
OF_384 = AllowedDigest("sha-384", SHA384.digest(VALUE))
FIVE = (5).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("block", "values", "matches"),
    [
        (digest(1, HASHED), {"digests": (AllowedDigest("sha-256", HASHED),)}, True),
        (digest(1, HASHED), {"digests": (AllowedDigest("sha-256", bytes(32)),)}, False),
        (digest(1, HASHED), {"digests": (OF_384,)}, None),
        (digest(1, HASHED), {"digests": (AllowedDigest("sha3-256", HASHED),)}, None),
        (digest(1, HASHED), {"raw_values": (AllowedRaw(VALUE),)}, True),
        (digest(1, HASHED), {"raw_values": (AllowedRaw(b"x"),)}, False),
        (digest(1, HASHED), {"raw_values": (AllowedRaw(VALUE, b"\xff" * 8),)}, None),
        (digest(1, HASHED), {"svn": (SvnRule(1),)}, None),
        (digest(8, HASHED), {"raw_values": (AllowedRaw(VALUE),)}, None),
        (raw(1, VALUE), {"digests": (OF_384,)}, True),
        (raw(1, VALUE), {"digests": (AllowedDigest("sha-384", bytes(48)),)}, False),
        (raw(1, VALUE), {"raw_values": (AllowedRaw(b"x"), AllowedRaw(VALUE))}, True),
        (raw(1, VALUE), {"raw_values": (AllowedRaw(b"fxxxxxxx", b"\xff" + bytes(7)),)}, True),
        (raw(1, VALUE), {"raw_values": (AllowedRaw(b"gxxxxxxx", b"\xff" + bytes(7)),)}, False),
        (raw(1, VALUE), {"versions": ("firmware",)}, None),
        (raw(1, VALUE), {"kind": K.IMMUTABLE_ROM, "raw_values": (AllowedRaw(VALUE),)}, False),
        (raw(7, (4).to_bytes(8, "little")), {"svn": (SvnRule(4),)}, True),
        (raw(7, (3).to_bytes(8, "little")), {"svn": (SvnRule(4),)}, False),
        (raw(7, FIVE), {"svn": (SvnRule(4, exact=True),)}, False),
        (raw(7, FIVE), {"svn": (SvnRule(4, exact=True), SvnRule(5, exact=True))}, True),
        (raw(7, FIVE), {"raw_values": (AllowedRaw(FIVE),)}, True),
        (raw(6, b"1.0\0"), {"versions": ("1.0",)}, True),
        (raw(6, b"1.1"), {"versions": ("1.0", "1.2")}, False),
    ],
)  # fmt: skip
def test_comparing(block: Block, values: dict[str, object], matches: bool | None) -> None:
    assert compare(block, entry(**values), SHA256).matches is matches


def test_without_a_known_hash_digests_of_one_length_compare() -> None:
    block = digest(1, HASHED)
    same = entry(digests=(AllowedDigest("sha-256", HASHED),))
    longer = entry(digests=(OF_384,))
    assert compare(block, same, None).matches is True
    assert compare(block, longer, None).matches is None
    assert compare(block, entry(raw_values=(AllowedRaw(VALUE),)), None).matches is None


def test_long_things_are_described_briefly() -> None:
    assert describe_value(raw(1, bytes(100))).endswith("... (100 bytes)")
    digests = tuple(AllowedDigest("sha-256", bytes([n]) * 32) for n in range(20))
    lines = describe_allowed(entry(digests=digests))
    assert (len(lines), lines[-1]) == (9, "and 12 more")
    several = entry(
        raw_values=(AllowedRaw(b"\1", b"\1"), AllowedRaw(bytes(99))),
        svn=(SvnRule(1), SvnRule(2, exact=True)),
        versions=("1",),
    )
    words = " ".join(describe_allowed(several))
    for part in ("(masked)", "...", "1 or higher", "exactly 2", "version 1"):
        assert part in words


# --- choosing values ---------------------------------------------------------------------------

CLAIMS = DeviceClaims("ACME", "NIC")


def manifest(*indexes: int, value: bytes = VALUE, **changes: object) -> Manifest:
    entries = tuple(
        ReferenceMeasurement(index, raw_values=(AllowedRaw(value),)) for index in indexes
    )
    made = Manifest("m", entries, applies_to=AppliesTo(("ACME",)))
    return replace(made, **changes)  # type: ignore[arg-type] # a test's own table


def choose(
    *manifests: Manifest, values: dict[int, bytes] | None = None, time: int = 0
) -> Resolution:
    found = values if values is not None else {1: VALUE, 2: VALUE, 3: VALUE}
    blocks = [raw(1, value, index) for index, value in found.items()]
    return resolve(
        [reference(each) for each in manifests],
        blocks,
        CLAIMS,
        opaque=b"",
        measurement_hash=SHA256,
        time=time,
    )


def test_releases_are_alternatives_and_never_mixed() -> None:
    old = manifest(1, 2, value=b"old", release="1")
    new = manifest(1, 2, release="2")
    assert [each.manifest.release for each in choose(old, new).used] == ["2"]
    mixed = choose(old, new, values={1: b"old", 2: VALUE})
    assert len(mixed.used) == 1
    assert {index: found.reference.manifest.release for index, found in mixed.expected.items()} in (
        {1: "1", 2: "1"},
        {1: "2", 2: "2"},
    )
    assert any("another release fits better" in each for each in mixed.passed_over)


def test_parts_without_a_common_index_are_used_together() -> None:
    both = choose(manifest(1), manifest(2, 3))
    assert set(both.expected) == {1, 2, 3}
    assert len(both.used) == 2


def test_a_part_that_touches_two_others_joins_them() -> None:
    three = choose(manifest(1), manifest(2), manifest(1, 2))
    assert len(three.used) == 1
    assert set(three.expected) == {1, 2}  # the one that matches more


def test_named_parts_do_not_share_an_index() -> None:
    found = choose(manifest(1, component="a"), manifest(1, component="b"))
    assert "both have values for index 1" in found.conflict
    assert found.expected == {}
    assert choose(manifest(1, component="a"), manifest(1)).conflict


def test_the_newest_revision_wins_between_equals() -> None:
    found = choose(manifest(1, revision=1), manifest(1, revision=7), manifest(1, revision=3))
    assert found.used[0].manifest.revision == 7


def test_a_missing_required_index_counts_against_a_release() -> None:
    found = choose(manifest(1, 9, release="with 9"), manifest(1, release="without"))
    assert found.used[0].manifest.release == "without"


def test_stale_values_are_kept_apart() -> None:
    found = choose(manifest(1, not_after=5), manifest(2), time=6)
    assert set(found.expected) == {2}
    assert set(found.stale) == {1}
    assert "its validity has ended" in found.passed_over[0]
    early = choose(manifest(1, not_before=5), time=4)
    assert set(early.stale) == {1}


def test_inactive_indexes_count_only_where_nothing_is_active() -> None:
    found = choose(manifest(1, inactive=frozenset({2, 3})), manifest(2))
    assert found.inactive == {3}


def test_values_for_others_fall_out() -> None:
    found = choose(
        manifest(1, applies_to=AppliesTo(("OTHER",))), manifest(1, applies_to=AppliesTo())
    )
    assert len(found.used) == 1
    assert "is for manufacturer OTHER" in found.passed_over[0]


def test_opaque_data_that_a_profile_cannot_read() -> None:
    blocks = [raw(1, VALUE)]
    found = resolve(
        [reference(manifest(1, profile="nvidia-gpu"))],
        blocks,
        CLAIMS,
        opaque=b"\x03\x00\xff",
        measurement_hash=SHA256,
        time=0,
    )
    assert found.facts == {}
    assert found.facts_fault.startswith("nvidia-gpu")


def test_a_profile_nobody_knows() -> None:
    with pytest.raises(ConfigurationError, match="unknown vendor profile"):
        choose(manifest(1, profile="acme"))


# --- the log -----------------------------------------------------------------------------------


def extended(value: bytes, index: int = EXTENDED) -> Block:
    return digest(K.HASH_EXTEND, value, index)


def test_replaying_by_hand() -> None:
    state = bytes(32)
    for entry_ in (LOG.entries[0], LOG.entries[2]):
        head = entry_.mel_index.to_bytes(4, "little") + bytes([EXTENDED, 0, 0, 0, 0x81])
        state = SHA256.digest(state + head + len(entry_.value).to_bytes(2, "little") + entry_.value)
    assert replay(LOG, SHA256) == {EXTENDED: state}
    found = check_log(log_bytes(), [extended(state)], SHA256)
    assert (found.fault, found.entries, found.indexes) == ("", 3, (EXTENDED,))


def test_logs_that_do_not_lead_there() -> None:
    good = replay(LOG, SHA256)[EXTENDED]
    faults = [
        check_log(log_bytes(), [extended(bytes(32))], SHA256).fault,
        check_log(log_bytes(), [], SHA256).fault,
        check_log(log_bytes(), [extended(good), extended(b"x" * 32, 0x12)], SHA256).fault,
        check_log(log_bytes()[:-1], [extended(good)], SHA256).fault,
        check_log(log_bytes(), [extended(good)], None).fault,
        check_log(log_bytes(), [extended(replay(LOG, SHA384)[EXTENDED])], SHA256).fault,
    ]
    assert all(faults)
    untouched = check_log(log_bytes(), [extended(good), extended(bytes(32), 0x12)], SHA256)
    assert untouched.fault == ""


def test_entries_have_to_ascend() -> None:
    entries = [MeasurementLogEntry(mel_index=1, meas_index=1, kind=1, raw=True, value=b"")] * 2
    with pytest.raises(DecodeError, match="does not ascend"):
        read_log(log_bytes(MeasurementLog(entries=entries)))

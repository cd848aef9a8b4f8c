"""Every recorded conversation, replayed whole: each byte decoded, each value derived again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from spdmkit.capture.events import EventKind, Verdict
from spdmkit.capture.negotiated import Negotiation
from spdmkit.capture.secretfiles import load_secrets
from spdmkit.capture.sessions import _Stream
from spdmkit.capture.sources import open_recording
from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.crypto.keyschedule import bin_concat
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.protocol.records import MCTP, TCP_LIBSPDM, RecordSender

from .support import DATA, checks_of, decode, load_vector, recording_of, vector_names, write_capture

Derived = list[tuple[str, bytes]]
SECRETS = ("dhe_secret", "kem_secret")


def hash_of(digest: bytes) -> HashAlgorithm:
    """The SHA-2 whose digests are as long as this one."""
    return next(entry for entry in BASE_HASH if entry.size == len(digest))


def with_hidden_secrets(derived: Derived, version: int) -> Iterator[tuple[str, bytes]]:
    """Put in the two secrets that the key schedule keeps to itself (DSP0274 12.4, 12.5)."""
    algorithm = hash_of(derived[0][1])
    handshake = b""
    for name, value in derived:
        if name == "request_data_secret":
            info = bin_concat(algorithm.size, version, "derived")
            salt = algorithm.hkdf_expand(handshake, info, algorithm.size)
            yield "master_secret", algorithm.hkdf_extract(salt, bytes(algorithm.size))
        yield name, value
        if name in SECRETS:
            algorithm = hash_of(next(v for n, v in derived if n == "th1_hash"))
            handshake = algorithm.hkdf_extract(bytes(algorithm.size), value)
            yield "handshake_secret", handshake
        elif name == "psk":
            yield name, value  # the reference asks its PSK module twice


@pytest.mark.parametrize("name", vector_names())
def test_every_value_is_derived_again_in_order(name: str) -> None:
    document = load_vector(name)
    found: Derived = []
    decode(recording_of(document), sink=lambda label, value: found.append((label, value)))
    version = int(name[1]) << 4 | int(name[2])
    expected = [(label, bytes.fromhex(value)) for label, value in document["derived"]]
    assert list(with_hidden_secrets(found, version)) == expected


@pytest.mark.parametrize("name", vector_names())
def test_everything_decodes_and_every_proof_holds(name: str) -> None:
    document = load_vector(name)
    events, summary = decode(recording_of(document))
    assert len(events) == len(document["messages"])
    assert summary.undecoded == 0
    assert summary.records == summary.records_decrypted
    assert summary.records == sum(is_record(document, m["frame"]) for m in document["messages"])
    assert not [note for event in events for note in event.notes if "MCTP" not in note]
    assert {check.verdict for check in checks_of(events)} == {Verdict.VERIFIED}
    text = summary.to_json()
    derived = [label for label, _ in document["derived"]]
    hashes = sum(label.endswith("_hash") for label in derived)
    assert text["hashes"]["verified"] >= hashes > 0
    sessions = derived.count("th1_hash")
    assert summary.sessions == sessions
    assert text["macs"]["verified"] == 2 * sessions
    signed = sum(label in ("m1m2_hash", "l1l2_hash", "th_curr_hash") for label in derived)
    assert text["signatures"]["verified"] >= signed
    anchors = bool(document["trust_anchors"])
    assert (text["chains"]["verified"] > 0) is anchors


def is_record(document: dict[str, Any], frame: str) -> bool:
    return bytes.fromhex(frame)[0 if document["transport"] == "mctp" else 3] == 6


@pytest.mark.parametrize("name", vector_names())
def test_every_message_encodes_back_to_its_bytes(name: str) -> None:
    events, _ = decode(recording_of(load_vector(name)))
    for event in chain.from_iterable(event.walk() for event in events):
        if event.kind is EventKind.MESSAGE:
            assert event.message is not None
            assert event.context is not None
            assert event.message.encode(event.context) == event.raw
            tree = event.tree()
            assert tree is not None
            assert tree.length == len(event.raw)


@pytest.mark.parametrize("name", vector_names())
def test_every_record_encrypts_back_to_its_bytes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = load_vector(name)
    opened: list[tuple[_Stream, bytes, bytes, bytes]] = []
    original = _Stream.open

    def watch(self: _Stream, sequence: int, sealed: bytes, associated_data: bytes) -> bytes | None:
        body = original(self, sequence, sealed, associated_data)
        if body is not None:
            opened.append((self, sealed, associated_data, body))
        return body

    negotiations: list[Negotiation] = []
    begin = Negotiation.begin

    def note(self: Negotiation, request: bytes, response: bytes) -> None:
        negotiations.append(self)
        begin(self, request, response)

    monkeypatch.setattr(_Stream, "open", watch)
    monkeypatch.setattr(Negotiation, "begin", note)
    _, summary = decode(recording_of(document))
    assert len(opened) == summary.records_decrypted
    (negotiation,) = negotiations
    profile = MCTP if document["transport"] == "mctp" else TCP_LIBSPDM
    senders: dict[int, RecordSender] = {}
    draws: list[bytes] = []
    for stream, sealed, associated_data, body in opened:
        sender = senders.get(id(stream))
        if sender is None:
            assert negotiation.selection is not None
            assert negotiation.selection.aead is not None
            sender = senders[id(stream)] = RecordSender(
                negotiation.selection.aead,
                int.from_bytes(associated_data[:4], "little"),
                profile,
                encrypt=negotiation.encrypts,
                random=lambda _count: draws.pop(0),
            )
            sender.rekey(*stream.secret.key_and_iv())
        if negotiation.encrypts:
            size = int.from_bytes(body[:2], "little")
            plaintext, padding = body[2 : 2 + size], body[2 + size :]
            draws[:] = [bytes((len(padding),)), padding]
        else:
            plaintext = associated_data[6:]
        assert sender.seal(plaintext) == associated_data + sealed


@pytest.mark.parametrize("name", vector_names())
def test_the_same_as_a_capture(name: str, tmp_path: Path) -> None:
    """Decoded from packets it comes to the same, but for what only the recording tells."""
    document = load_vector(name)
    expected, whole = decode(recording_of(document))
    path = tmp_path / "c.pcapng"
    write_capture(document, path)
    log = tmp_path / "secrets"
    log.write_text("".join(f"{n} {v}\n" for n, v in document["derived"] if n in (*SECRETS, "psk")))
    anchors = [bytes.fromhex(der) for der in document["trust_anchors"].values()]
    found, summary = decode(open_recording(str(path)), secrets=load_secrets(log), anchors=anchors)
    found = [event for event in found if event.kind is not EventKind.CLOSED]
    assert [(e.sender, e.kind, e.name, e.raw, e.summary) for e in found] == [
        (e.sender, e.kind, e.name, e.raw, e.summary) for e in expected
    ]
    for key in ("messages", "inside", "records", "records_decrypted", "signatures", "macs"):
        assert summary.to_json()[key] == whole.to_json()[key]
    assert {check.verdict for check in checks_of(found)} <= {Verdict.VERIFIED}
    assert all(event.elapsed_ns for event in found if event.answers)


@pytest.mark.parametrize(("name", "version"), [("mctp", "1.2"), ("doe", "1.4")])
def test_captures_of_spdm_emu_decrypt_with_its_debug_log(name: str, version: str) -> None:
    """They do not tell directions; the log does not tell which secret is whose."""
    path = DATA / "captures" / f"spdm-emu-{name}.pcap"
    events, summary = decode(
        open_recording(str(path)), secrets=load_secrets(path.with_suffix(".log"))
    )
    assert summary.to_json()["records_decrypted"] == summary.records == 32
    assert (summary.messages, summary.undecoded, summary.sessions) == (72, 0, 3)
    assert {check.verdict for check in checks_of(events)} == {Verdict.VERIFIED}
    assert [summary.to_json()[key]["verified"] for key in ("signatures", "macs")] == [8, 6]
    names = [event.name for event in events if event.kind is EventKind.MESSAGE]
    assert names.count("PSK_FINISH_RSP") == 1
    get_capabilities = next(event for event in events if event.name == "GET_CAPABILITIES")
    tree = get_capabilities.tree()
    assert tree is not None
    assert tree.children[0].display == version

"""Conversations that are bent, cut or only partly there: what is still said, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.capture.events import CheckKind, ConversationEvent, EventKind, Party, Verdict
from spdmkit.capture.keylog import KeyLog
from spdmkit.capture.secretfiles import Secrets, load_secrets, read_secrets
from spdmkit.capture.sources import read_recording
from spdmkit.crypto.registry import BASE_ASYM, BASE_HASH
from spdmkit.errors import DecodeError
from spdmkit.messages import V12, ChunkSend, ChunkSendAck, Context
from spdmkit.protocol.algorithms import Selection

from .support import DATA, checks_of, decode, load_vector, recording_of

SESSION = "v12_session_p384"
ATTEST = "v12_attest_p384"
PQC = "v14_pqc_mldsa44_mlkem512"


def by_name(events: list[ConversationEvent], name: str) -> list[ConversationEvent]:
    return [each for event in events for each in event.walk() if each.name == name]


def index_of(document: dict[str, Any], name: str, which: int = 0) -> int:
    """Position of the frame that holds a message."""
    events, _ = decode(recording_of(document))
    positions = [
        position
        for position, event in enumerate(events)
        if any(each.name == name for each in event.walk())
    ]
    return positions[which]


def bend(document: dict[str, Any], position: int, offset: int) -> None:
    """Flip a bit of a frame; a negative offset counts from its end."""
    frame = bytearray.fromhex(document["messages"][position]["frame"])
    frame[offset] ^= 1
    document["messages"][position]["frame"] = frame.hex()


def verdicts(events: list[ConversationEvent], kind: CheckKind) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in checks_of(events) if check.kind is kind}


def failed(events: list[ConversationEvent]) -> set[str]:
    return {check.name for check in checks_of(events) if check.verdict is Verdict.FAILED}


# --- what is bent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message", "offset", "wrong"),
    [
        (ATTEST, "CHALLENGE_AUTH", -1, {"responder-challenge_auth"}),
        (ATTEST, "CHALLENGE", -1, {"responder-challenge_auth", "m1m2_hash"}),
        (ATTEST, "DIGESTS", -1, {"responder-challenge_auth", "m1m2_hash", "digest of slot 1"}),
        (ATTEST, "MEASUREMENTS", -1, {"responder-measurements"}),
        (
            ATTEST,
            "CHALLENGE_AUTH",
            12,
            {"CertChainHash", "responder-challenge_auth", "m1m2_hash"},
        ),
        (SESSION, "KEY_EXCHANGE_RSP", -1, {"responder-key_exchange_rsp", "th1_hash"}),
        ("v12_session_hs_encrypted", "KEY_EXCHANGE_RSP", -1, {"th2_hash"}),
        (SESSION, "FINISH_RSP", -1, {"ResponderVerifyData", "th2_hash"}),
        ("v12_mutual_encap", "FINISH", 20, {"requester-finish", "th2_hash"}),
    ],
)
def test_a_flipped_bit_fails_the_right_checks(
    name: str, message: str, offset: int, wrong: set[str]
) -> None:
    document = load_vector(name)
    bend(document, index_of(document, message), offset)
    events, summary = decode(recording_of(document))
    assert wrong <= failed(events)
    assert summary.failed
    assert len(events) == len(document["messages"])


def test_a_flipped_bit_in_a_certificate_fails_its_hashes_and_its_chain() -> None:
    document = load_vector(ATTEST)
    bend(document, index_of(document, "CERTIFICATE"), -60)
    events, _ = decode(recording_of(document))
    assert {"digest of slot 0", "certificate chain", "CertChainHash"} <= failed(events)
    bent = load_vector(ATTEST)
    bend(bent, index_of(bent, "CERTIFICATE"), 16 + 3)
    assert "RootHash" in failed(decode(recording_of(bent))[0])


def test_a_flipped_bit_in_a_record_loses_that_record_alone() -> None:
    document = load_vector(SESSION)
    position = index_of(document, "HEARTBEAT")
    bend(document, position, -1)
    events, summary = decode(recording_of(document))
    bad = events[position]
    assert bad.kind is EventKind.RECORD
    assert "tag does not match" in bad.error
    assert bad.failed
    assert summary.records_decrypted == summary.records - 1
    after = events[position + 2]
    assert after.notes == ["1 records before it are not in the capture"]
    assert events[position + 1].answers == position + 1


def test_a_wrong_trust_anchor_fails_the_chain_and_nothing_else() -> None:
    document = load_vector(ATTEST)
    document["trust_anchors"] = load_vector("v10_attest_p256")["trust_anchors"]
    events, _ = decode(recording_of(document))
    assert failed(events) == {"certificate chain"}


def test_without_trust_anchors_chains_are_not_judged() -> None:
    document = load_vector(ATTEST)
    document["trust_anchors"] = {}
    events, summary = decode(recording_of(document))
    assert not verdicts(events, CheckKind.CHAIN)
    assert not summary.failed


def test_a_malformed_message_shows_where_it_broke_and_the_rest_goes_on() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "CHALLENGE_AUTH")
    frame = bytes.fromhex(document["messages"][position]["frame"])[4:-40]
    document["messages"][position]["frame"] = (
        (len(frame) + 2).to_bytes(2, "little") + b"\x01\x05" + frame
    ).hex()
    events, summary = decode(recording_of(document))
    bad = events[position]
    assert bad.name == "CHALLENGE_AUTH"
    assert bad.error.startswith("CHALLENGE_AUTH.Signature at byte ")
    assert bad.summary.startswith("malformed")
    assert bad.message is None
    assert bad.tree() is None
    assert summary.undecoded == 1
    assert verdicts(events[position + 1 :], CheckKind.SIGNATURE)["responder-measurements"] is (
        Verdict.VERIFIED
    )


@pytest.mark.parametrize("frame", ["0500010510", "0600010510990000", "0600010519840000", "ffff"])
def test_junk_in_between_is_one_event(frame: str) -> None:
    document = load_vector(ATTEST)
    document["messages"].insert(6, {"from": "requester", "frame": frame})
    events, summary = decode(recording_of(document))
    assert len(events) == len(document["messages"])
    assert summary.undecoded == 1
    assert events[6].failed
    assert summary.to_json()["signatures"]["verified"] == 3


def test_trailing_bytes_are_told_and_not_hashed() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "CHALLENGE_AUTH")
    frame = bytes.fromhex(document["messages"][position]["frame"])
    longer = (len(frame) - 4 + 2 + 3).to_bytes(2, "little") + frame[2:] + bytes(3)
    document["messages"][position]["frame"] = longer.hex()
    events, summary = decode(recording_of(document))
    assert events[position].notes == ["3 zero bytes follow the message"]
    assert not summary.failed


# --- what is missing --------------------------------------------------------------------------


def test_without_its_negotiation_signatures_are_unverifiable() -> None:
    document = load_vector(ATTEST)
    document["messages"] = document["messages"][6:]
    events, summary = decode(recording_of(document))
    assert summary.undecoded > 0  # sizes are not known either
    assert not summary.failed
    assert by_name(events, "GET_DIGESTS")[0].message is not None


def test_algorithms_may_be_told_for_a_capture_that_begins_later() -> None:
    """A real device's signed measurements of 1.1, which do not cover the negotiation."""
    folder = DATA / "nvidia-h100"
    assert folder.is_dir()
    document = load_vector("v11_session_p256_aes128")
    position = index_of(document, "GET_DIGESTS")
    document["messages"] = document["messages"][position:]
    document["derived"] = []
    selection = Selection(
        BASE_HASH.by_name("sha-256"),
        signature=BASE_ASYM.by_name("ecdsa-p256"),
        measurement_hash=BASE_HASH.by_name("sha-256"),
    )
    events, _ = decode(recording_of(document), assume=selection)
    assert verdicts(events, CheckKind.SIGNATURE)["responder-measurements"] is Verdict.VERIFIED
    auth = by_name(events, "CHALLENGE_AUTH")[0]
    assert [(c.name, c.verdict) for c in auth.checks][-1] == (
        "responder-challenge_auth",
        Verdict.UNVERIFIABLE,
    )


def test_without_its_chain_a_signature_is_unverifiable_and_says_why() -> None:
    document = load_vector(ATTEST)
    start = index_of(document, "GET_CERTIFICATE")
    del document["messages"][start : start + 4]
    events, _ = decode(recording_of(document))
    auth = by_name(events, "CHALLENGE_AUTH")[0]
    check = next(c for c in auth.checks if c.kind is CheckKind.SIGNATURE)
    assert check.verdict is Verdict.UNVERIFIABLE
    assert check.reason == "the certificate chain of slot 0 is not in the capture"
    digest = next(c for c in auth.checks if c.name == "CertChainHash")
    assert digest.verdict is Verdict.VERIFIED  # DIGESTS told it


def test_a_chain_may_be_given_instead() -> None:
    document = load_vector(SESSION)
    events, _ = decode(recording_of(document))
    certificate = by_name(events, "CERTIFICATE")[0]
    message: Any = certificate.message
    start = index_of(document, "GET_DIGESTS")
    stop = index_of(document, "KEY_EXCHANGE")
    del document["messages"][index_of(document, "END_SESSION_ACK") + 1 :]
    del document["messages"][start:stop]
    document["derived"] = [pair for pair in document["derived"] if pair[0] == "dhe_secret"]
    without, summary = decode(recording_of(document))
    assert summary.records_decrypted == 0
    assert (
        "its handshake is not all in the capture" in by_name(without, "secured message")[0].notes[0]
    )
    from spdmkit.identity.chain import split_certificates

    chain = split_certificates(message.cert_chain, 4 + 48)
    found, summary = decode(recording_of(document), chains=[chain])
    assert summary.records_decrypted == summary.records
    assert set(verdicts(found, CheckKind.SIGNATURE).values()) == {Verdict.VERIFIED}


def test_without_secrets_records_are_shown_as_such() -> None:
    document = load_vector(SESSION)
    document["derived"] = []
    events, summary = decode(recording_of(document))
    records = [event for event in events if event.kind is EventKind.RECORD]
    assert len(records) == summary.records == 20
    assert summary.records_decrypted == summary.undecoded == 0
    assert records[0].notes == ["not decrypted: there are no secrets: give a key log"]
    assert {event.session_id for event in records} == {0xFFFFFFFF}
    assert records[1].answers == records[0].number
    assert set(verdicts(events, CheckKind.MAC).values()) == {Verdict.UNVERIFIABLE}
    assert verdicts(events, CheckKind.SIGNATURE)["responder-key_exchange_rsp"] is Verdict.VERIFIED


def test_secrets_of_other_sessions_do_not_fit() -> None:
    document = load_vector(SESSION)
    document["derived"] = [
        pair for pair in load_vector("v12_session_short")["derived"] if pair[0] == "dhe_secret"
    ]
    events, summary = decode(recording_of(document))
    assert summary.records_decrypted == 0
    record = next(event for event in events if event.kind is EventKind.RECORD)
    assert record.notes == ["not decrypted: no secret there is fits this session"]
    assert not summary.failed


def test_a_record_whose_session_was_not_seen_to_begin() -> None:
    document = load_vector(SESSION)
    document["messages"] = document["messages"][22:30]
    events, _ = decode(recording_of(document))
    assert {event.kind for event in events} == {EventKind.RECORD}
    assert "beginning of this session" in events[0].notes[0]


def test_lost_records_are_stepped_over() -> None:
    document = load_vector(SESSION)
    start = index_of(document, "HEARTBEAT")
    del document["messages"][start : start + 2]
    _, summary = decode(recording_of(document))
    assert summary.records_decrypted == summary.records == 18


def test_a_lost_key_update_is_noticed() -> None:
    document = load_vector(SESSION)
    start = index_of(document, "KEY_UPDATE")
    del document["messages"][start : start + 2]  # UPDATE_ALL_KEYS and its answer
    events, summary = decode(recording_of(document))
    assert summary.records_decrypted == 18
    acknowledgement = events[start + 1]
    assert (acknowledgement.name, acknowledgement.notes) == (
        "KEY_UPDATE_ACK",
        ["1 records before it are not in the capture"],
    )


# --- key logs ---------------------------------------------------------------------------------


def key_log(document: dict[str, Any], path: Path) -> dict[str, bytes]:
    """Write the key log that an endpoint of this conversation would have written."""
    events, _ = decode(recording_of(document))
    derived = iter([(n, bytes.fromhex(v)) for n, v in document["derived"]])
    log = KeyLog(path)
    randoms: dict[str, bytes] = {}
    for event in events:
        message: Any = event.message
        if event.name == "KEY_EXCHANGE":
            randoms["request"] = message.random_data
        elif event.name == "KEY_EXCHANGE_RSP":
            session = (randoms["request"], message.random_data)
            labels = {
                "request_handshake_secret": "REQUEST_HANDSHAKE_SECRET",
                "response_handshake_secret": "RESPONSE_HANDSHAKE_SECRET",
                "request_data_secret": "REQUEST_DATA_SECRET",
                "response_data_secret": "RESPONSE_DATA_SECRET",
                "request_data_secret_update": "REQUEST_DATA_SECRET",
                "response_data_secret_update": "RESPONSE_DATA_SECRET",
            }
            seen_export = False
            for name, value in derived:
                if name in labels:
                    log.record(labels[name], session, value)
                seen_export |= name == "export_master_secret"
                if seen_export and name == "request_data_secret_update":
                    break
    log.close()
    return randoms


def test_a_key_log_of_several_sessions_with_key_updates(tmp_path: Path) -> None:
    document = load_vector(SESSION)
    path = tmp_path / "keys.log"
    key_log(document, path)
    names = [line.split()[0] for line in path.read_text().splitlines()]
    assert names.count("REQUEST_DATA_SECRET_1") == 2
    document["derived"] = []
    events, summary = decode(recording_of(document), secrets=load_secrets(path))
    assert summary.records_decrypted == summary.records == 20
    assert set(verdicts(events, CheckKind.MAC).values()) == {Verdict.VERIFIED}


@pytest.mark.parametrize(
    ("keep", "decrypted"),
    [
        ("DATA_SECRET", 20),
        ("HANDSHAKE_SECRET", 0),  # they lead nowhere from here
        ("_SECRET_1", 14),  # what follows the key updates
    ],
)
def test_parts_of_a_key_log(tmp_path: Path, keep: str, decrypted: int) -> None:
    document = load_vector(SESSION)
    path = tmp_path / "keys.log"
    key_log(document, path)
    lines = [line for line in path.read_text().splitlines() if keep in line]
    document["derived"] = []
    _, summary = decode(recording_of(document), secrets=read_secrets(lines))
    assert summary.records_decrypted == decrypted


def test_a_wrong_key_log_fails_the_verify_data(tmp_path: Path) -> None:
    document = load_vector(SESSION)
    path = tmp_path / "keys.log"
    key_log(document, path)
    lines = [
        line[:-2] + ("00" if line[-2:] != "00" else "01") for line in path.read_text().splitlines()
    ]
    document["derived"] = []
    events, summary = decode(recording_of(document), secrets=read_secrets(lines))
    assert failed(events) == {"RequesterVerifyData", "ResponderVerifyData"}
    assert summary.records_decrypted == 0


# --- what carries what ------------------------------------------------------------------------


def test_messages_are_linked_to_their_requests() -> None:
    events, _ = decode(recording_of(load_vector(ATTEST)))
    for position, event in enumerate(events):
        asks = position % 2 == 0
        assert event.sender is (Party.REQUESTER if asks else Party.RESPONDER)
        assert event.answers == (0 if asks else position)


def test_encapsulated_messages_are_inside_the_ones_that_carry_them() -> None:
    events, summary = decode(recording_of(load_vector(ATTEST)))
    inside = [(event.name, each.sender, each.name) for event in events for each in event.inside]
    assert inside == [
        ("ENCAPSULATED_REQUEST", Party.RESPONDER, "GET_DIGESTS"),
        ("DELIVER_ENCAPSULATED_RESPONSE", Party.REQUESTER, "DIGESTS"),
        ("ENCAPSULATED_RESPONSE_ACK", Party.RESPONDER, "GET_CERTIFICATE"),
        ("DELIVER_ENCAPSULATED_RESPONSE", Party.REQUESTER, "CERTIFICATE"),
        ("ENCAPSULATED_RESPONSE_ACK", Party.RESPONDER, "CHALLENGE"),
        ("DELIVER_ENCAPSULATED_RESPONSE", Party.REQUESTER, "CHALLENGE_AUTH"),
    ]
    assert summary.inside == 6


def test_large_messages_are_inside_their_last_chunk() -> None:
    document = load_vector(PQC)
    events, _ = decode(recording_of(document))
    last = next(event for event in events if event.inside)
    assert last.name == "CHUNK_RESPONSE"
    assert "the last" in last.summary
    assert last.inside[0].name == "CERTIFICATE"
    assert len(last.inside[0].raw) > 4096


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda frame: frame[:6] + bytes((frame[6],)) + bytes((frame[7] ^ 1,)) + frame[8:],
            "handle",
        ),
        (lambda frame: frame[:8] + b"\x05" + frame[9:], "chunk 5 instead of 1"),
        (lambda frame: frame[:6] + b"\x01" + frame[7:], ""),
    ],
)
def test_chunks_that_do_not_fit(change: Any, message: str) -> None:
    document = load_vector(PQC)
    position = index_of(document, "CHUNK_RESPONSE", 1)
    frame = bytes.fromhex(document["messages"][position]["frame"])
    document["messages"][position]["frame"] = change(frame).hex()
    events, summary = decode(recording_of(document))
    assert len(events) == len(document["messages"])
    if message:
        assert message in events[position].error
        assert summary.undecoded >= 1


def test_padding_behind_an_acknowledged_chunk_is_no_response() -> None:
    context = Context(version=V12)
    send = ChunkSend(handle=1, large_message_size=99, chunk=bytes(50)).encode(context)
    padded = ChunkSendAck(handle=1).encode(context) + bytes(2)  # PCI DOE, to four bytes
    document = {
        "name": "padding",
        "transport": "mctp",
        "messages": [
            {"from": who, "frame": f"05{frame.hex()}"}
            for who, frame in (
                ("requester", bytes.fromhex("10840000")),
                ("responder", bytes.fromhex("1004000000010012")),
                ("requester", send),
                ("responder", padded),
            )
        ],
    }
    events, summary = decode(recording_of(document))
    assert (events[-1].name, events[-1].inside, summary.undecoded) == ("CHUNK_SEND_ACK", [], 0)


def test_a_lost_first_chunk_is_noticed() -> None:
    document = load_vector(PQC)
    position = index_of(document, "CHUNK_RESPONSE")
    del document["messages"][position - 1 : position + 1]
    events, _ = decode(recording_of(document))
    assert events[position].notes == ["the first chunk is not in the capture"]


def test_a_request_sent_again_is_not_a_new_one() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "CHALLENGE")
    document["messages"].insert(position, document["messages"][position])
    events, summary = decode(recording_of(document))
    assert events[position + 1].notes == ["sent again"]
    assert not summary.failed


def test_a_response_that_answers_nothing() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "DIGESTS")
    document["messages"].insert(position, document["messages"][position])
    events, _ = decode(recording_of(document))
    assert "answers no request that was seen" in events[position + 1].notes


def test_a_refused_request_is_not_hashed() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "CHALLENGE")
    busy = {"from": "responder", "frame": "06000105127f0300"}
    document["messages"][position:position] = [document["messages"][position], busy]
    events, summary = decode(recording_of(document))
    assert events[position + 1].summary == "Busy"
    assert summary.errors == {"Busy": 1}
    assert not summary.failed


def test_response_not_ready_keeps_the_request() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "CHALLENGE_AUTH")
    not_ready = {"from": "responder", "frame": "0a000105127f420001830102"}
    again = {"from": "requester", "frame": "0600010512ff8301"}
    document["messages"][position:position] = [not_ready, again]
    events, summary = decode(recording_of(document))
    assert not summary.failed
    assert events[position + 1].summary == "CHALLENGE, token 1"
    assert events[position + 2].answers == position + 2


def test_another_version_is_noted() -> None:
    document = load_vector(ATTEST)
    position = index_of(document, "GET_DIGESTS")
    document["messages"][position]["frame"] = "0600010511810000"
    events, _ = decode(recording_of(document))
    assert events[position].notes == ["SPDMVersion 1.1 on a connection of 1.2"]


def test_get_version_voids_everything() -> None:
    document = load_vector(SESSION)
    whole = document["messages"]
    document["messages"] = whole[:24] + whole
    events, summary = decode(recording_of(document))
    assert summary.sessions == 3
    assert summary.records_decrypted == summary.records
    assert [event.error for event in events if event.error] == []


def test_an_error_ends_the_session_that_it_is_about() -> None:
    document = load_vector(SESSION)
    position = index_of(document, "FINISH_RSP")
    document["messages"][position]["frame"] = "06000105127f0600"
    events, summary = decode(recording_of(document))
    lost = [event for event in events if event.kind is EventKind.RECORD]
    assert len(lost) == 10
    assert summary.records_decrypted == 10


# --- nothing stops it -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_conversation_stops_the_decoder(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([SESSION, ATTEST, "v12_mctp_session", "v12_psk"]))
    document = load_vector(name)
    messages = document["messages"]
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(messages) - 1))
        frame = bytearray.fromhex(messages[position]["frame"])
        action = data.draw(st.sampled_from(["flip", "cut", "drop", "double", "swap", "junk"]))
        if action == "flip" and frame:
            frame[data.draw(st.integers(0, min(len(frame) - 1, 60)))] ^= data.draw(
                st.integers(1, 255)
            )
        elif action == "cut":
            del frame[data.draw(st.integers(0, len(frame))) :]
        elif action == "junk":
            frame[4:] = data.draw(st.binary(max_size=40))
        messages[position]["frame"] = frame.hex()
        if action == "drop" and len(messages) > 1:
            del messages[position]
        elif action == "double":
            messages.insert(position, messages[position])
        elif action == "swap":
            other = {"requester": "responder", "responder": "requester"}
            messages[position]["from"] = other[messages[position]["from"]]
    events, summary = decode(recording_of(document))
    for event in events:
        assert event.to_json()
    assert summary.to_json()
    assert summary.messages + summary.undecoded >= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20))
def test_no_messages_stop_the_decoder(messages: list[bytes]) -> None:
    document = {
        "transport": "none",
        "messages": [
            {"from": "requester" if m[0] & 1 else "responder", "frame": m.hex()} for m in messages
        ],
    }
    events, _ = decode(recording_of(document))
    assert b"".join(event.raw for event in events) == b"".join(messages)


def test_a_bare_request_and_response_in_one_piece() -> None:
    import io

    recording = read_recording(io.BytesIO(bytes.fromhex("10840000 1004000000010012")))
    events, summary = decode(recording)
    assert [(e.sender, e.name, e.summary, e.answers) for e in events] == [
        (Party.REQUESTER, "GET_VERSION", "", 0),
        (Party.RESPONDER, "VERSION", "1.2", 1),
    ]
    assert summary.messages == 2


def test_what_is_no_recording_is_an_error() -> None:
    import io

    with pytest.raises(DecodeError):
        read_recording(io.BytesIO(b"nothing of the kind"))
    assert not Secrets()

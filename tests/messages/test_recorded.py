"""Every plain message of every recorded conversation: decoded whole, encoded back alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spdmkit.messages import (
    V12,
    Algorithms,
    AlgType,
    Capabilities,
    Certificate,
    ChunkGet,
    ChunkResponse,
    Context,
    DeliverEncapsulatedResponse,
    DmtfMeasurement,
    EncapsulatedPayload,
    EncapsulatedRequest,
    EncapsulatedResponseAck,
    Error,
    ErrorCode,
    GetCapabilities,
    GetVersion,
    KeyExchange,
    KeyExchangeRsp,
    Measurements,
    Message,
    RequesterFlags,
    ResponderFlags,
    SecuredMessageParameters,
    Version,
    message_tree,
    message_type,
    parse_message,
)
from spdmkit.messages.sizing import Unsized, message_size

VECTORS = Path(__file__).parent.parent / "data" / "vectors"
FILES = sorted(VECTORS.glob("*.json"))

HASHES = {1: 32, 2: 48, 4: 64}
SIGNATURES = {
    0: 0,
    1: 256,
    2: 256,
    4: 384,
    8: 384,
    0x10: 64,
    0x20: 512,
    0x40: 512,
    0x80: 96,
    0x100: 132,
}
PQC_SIGNATURES = {0: 0, 1: 2420, 2: 3309, 4: 4627}
EXCHANGES = {0: 0, 1: 256, 2: 384, 4: 512, 8: 64, 16: 96, 32: 132}
KEMS = {0: (0, 0), 1: (800, 768), 2: (1184, 1088), 4: (1568, 1568)}


def plain_messages(path: Path) -> list[tuple[str, bytes]]:
    """(sender, message) of all frames that are not secured."""
    conversation = json.loads(path.read_text())
    found = []
    for entry in conversation["messages"]:
        frame = bytes.fromhex(entry["frame"])
        if conversation["transport"] == "tcp":
            kind, body = frame[3], frame[4:]
            assert int.from_bytes(frame[:2], "little") == len(body) + 2
        else:
            kind, body = frame[0], frame[1:]
        if kind == 5:
            found.append((entry["from"], body))
    return found


class Follower:
    """Follows a conversation just far enough to know the context of each message."""

    def __init__(self) -> None:
        self.ctx = Context()
        self.flags = (0, 0)
        self.request: Message | None = None
        self.embedded: Message | None = None
        self.chunks = b""
        self.messages: list[Message] = []

    def take(self, body: bytes) -> None:
        ctx = self.ctx
        if isinstance(self.request, GetVersion) and body[1] & 0x80:
            ctx.version = body[0]
        current = replace(ctx, request=None if body[1] & 0x80 else self.request)
        message = self.check(body, current)
        if body[1] & 0x80:
            if not isinstance(message, ChunkGet):
                self.request = message
            if isinstance(message, DeliverEncapsulatedResponse):
                inside = replace(ctx, request=self.embedded, requester_side=True)
                self.check(message.encapsulated_response, inside)
        self.learn(message)

    def check(self, body: bytes, ctx: Context) -> Message:
        message, consumed = parse_message(body, ctx)
        assert consumed == len(body)
        assert message.encode(ctx) == body
        tree = message_tree(body, ctx)
        assert tree.length == len(body)
        assert message_size(body) in (len(body), Unsized.NEVER)
        self.messages.append(message)
        return message

    def learn(self, message: Message) -> None:
        ctx = self.ctx
        match message:
            case GetCapabilities():
                self.flags = (message.flags, 0)
            case Capabilities():
                self.flags = (self.flags[0], message.flags)
            case Algorithms():
                self.negotiated(message)
            case EncapsulatedRequest():
                self.embedded = self.check(message.encapsulated_request, ctx)
            case EncapsulatedResponseAck(payload_type=EncapsulatedPayload.PRESENT):
                self.embedded = self.check(message.payload, ctx)
            case ChunkResponse():
                self.chunks += message.chunk
                if message.last_chunk:
                    self.check(self.chunks, replace(ctx, request=self.request))
                    self.chunks = b""

    def negotiated(self, algorithms: Algorithms) -> None:
        ctx = self.ctx
        ctx.hash_size = HASHES[algorithms.base_hash_sel]
        ctx.signature_size = (
            SIGNATURES[algorithms.base_asym_sel] + PQC_SIGNATURES[algorithms.pqc_asym_sel]
        )
        ctx.req_signature_size = (
            SIGNATURES[algorithms.mask(AlgType.REQ_BASE_ASYM_ALG)]
            + PQC_SIGNATURES[algorithms.mask(AlgType.REQ_PQC_ASYM_ALG)]
        )
        exchange = EXCHANGES[algorithms.mask(AlgType.DHE)]
        key, ciphertext = KEMS[algorithms.mask(AlgType.KEM_ALG)]
        ctx.exchange_request_size = exchange + key
        ctx.exchange_response_size = exchange + ciphertext
        ctx.opaque_format = algorithms.opaque_data_format
        clear = RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP
        ctx.handshake_in_the_clear = bool(self.flags[0] & self.flags[1] & clear)
        ctx.multi_key_conn_req = algorithms.requester_multi_key_conn_sel or (
            self.flags[0] & RequesterFlags.MULTI_KEY_CAP_MASK == RequesterFlags.MULTI_KEY_CAP_ONLY
        )
        ctx.multi_key_conn_rsp = bool(self.flags[1] & ResponderFlags.MULTI_KEY_CAP_MASK) and (
            getattr(self.request, "responder_multi_key_conn", False)
        )


@pytest.fixture(scope="module")
def conversations() -> dict[str, Follower]:
    followed = {}
    for path in FILES:
        follower = followed[path.stem] = Follower()
        for _, body in plain_messages(path):
            follower.take(body)
    return followed


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_decodes_and_encodes_back(path: Path) -> None:
    follower = Follower()
    for _, body in plain_messages(path):
        follower.take(body)
    assert len(follower.messages) > 5


def of(follower: Follower, cls: type[Any]) -> list[Any]:
    return [message for message in follower.messages if isinstance(message, cls)]


def test_nothing_is_left_out(conversations: dict[str, Follower]) -> None:
    """The conversations are all there, and exercise what their names say."""
    assert len(conversations) == 21
    assert {name[:3] for name in conversations} == {"v10", "v11", "v12", "v13", "v14"}
    seen = {
        type(message).name for follower in conversations.values() for message in follower.messages
    }
    assert {
        "VERSION",
        "CAPABILITIES",
        "ALGORITHMS",
        "DIGESTS",
        "CERTIFICATE",
        "CHALLENGE_AUTH",
        "MEASUREMENTS",
        "KEY_EXCHANGE_RSP",
        "PSK_EXCHANGE_RSP",
        "FINISH",
        "FINISH_RSP",
        "ENCAPSULATED_REQUEST",
        "CHUNK_RESPONSE",
        "ERROR",
        "ENDPOINT_INFO",
        "KEY_PAIR_INFO",
        "MEASUREMENT_EXTENSION_LOG",
    } <= seen


def test_versions(conversations: dict[str, Follower]) -> None:
    version = of(conversations["v12_psk"], Version)[0]
    assert version.version_number_entries == [0x1200]
    assert version.spdm_version == 0x10


def test_measurements_are_blocks(conversations: dict[str, Follower]) -> None:
    follower = conversations["v12_session_p384"]
    ctx = follower.ctx
    for name, one in conversations.items():
        for response in of(one, Measurements):
            for block in response.measurement_record:
                assert 1 <= block.index <= 0xFE, name
                assert block.measurement_specification == 1
                measurement = DmtfMeasurement.decode(block.measurement, ctx)
                assert measurement.encode(ctx) == block.measurement


def test_sessions_say_their_record_versions(conversations: dict[str, Follower]) -> None:
    for name in ("v11_session_p256_aes128", "v12_session_p384", "v14_session_p384"):
        follower = conversations[name]
        for request in of(follower, KeyExchange):
            offered = SecuredMessageParameters.decode(request.opaque_data, follower.ctx)
            assert offered.supported == (0x1000, 0x1100, 0x1200)
            assert offered.encode(follower.ctx) == request.opaque_data
        for response in of(follower, KeyExchangeRsp):
            chosen = SecuredMessageParameters.decode(response.opaque_data, follower.ctx)
            assert chosen.selected == 0x1200
            assert chosen.encode(follower.ctx) == response.opaque_data


def test_large_responses_come_in_chunks(conversations: dict[str, Follower]) -> None:
    follower = conversations["v14_pqc_mldsa65_mlkem768"]
    errors = [e for e in of(follower, Error) if e.error_code == ErrorCode.LARGE_RESPONSE]
    assert errors
    handles = {chunk.handle for chunk in of(follower, ChunkResponse)}
    assert {error.handle() for error in errors} == handles
    assert any(chain.large for chain in of(follower, Certificate))


def test_where_signatures_begin() -> None:
    """What a signature covers ends where `signature_offset` says, and can be encoded alone."""
    ctx = Context(version=V12, hash_size=48, signature_size=96, exchange_response_size=96)
    response = KeyExchangeRsp(
        random_data=bytes(32), exchange_data=bytes(96), signature=b"s" * 96, verify_data=b"v" * 48
    )
    data = response.encode(ctx)
    decoded, consumed = KeyExchangeRsp.parse(data, ctx)
    assert data[decoded.signature_offset(consumed) :] == b"s" * 96 + b"v" * 48
    assert data[decoded.verify_data_offset(consumed) :] == b"v" * 48
    unsigned = replace(response, signature=b"", verify_data=b"")
    assert unsigned.encode_before("signature", ctx) == data[: -96 - 48]
    assert replace(response, verify_data=b"").encode_before("verify_data", ctx) == data[:-48]
    assert message_type(data) is KeyExchangeRsp

"""The chains of recorded conversations verify against the anchors recorded with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_HASH
from spdmkit.identity import (
    CertificateChain,
    CertificateModel,
    ChainError,
    ChainPolicy,
    Outcome,
    Purpose,
    TrustAnchors,
)

from .helpers import verify

VECTORS = Path(__file__).parents[1] / "data/vectors"
CERTIFICATE, CHUNK_RESPONSE, DELIVER_ENCAPSULATED_RESPONSE = 0x02, 0x06, 0xEB
LARGE = 0x80
HEADER = {"tcp": 4, "mctp": 1}
HASHES = [BASE_HASH.by_name(name) for name in ("sha-256", "sha-384", "sha-512")]


class Recorded(NamedTuple):
    """A chain as one conversation carried it."""

    file: str
    version: int
    slot: int
    model: int
    large: bool
    raw: bytes


def portions(messages: list[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    """Each CERTIFICATE response: its header, its portion, and how many bytes remain."""
    for message in messages:
        if len(message) < 8 or message[1] != CERTIFICATE or message[0] not in range(0x10, 0x15):
            continue
        if message[2] & LARGE:
            length, remaining = (int.from_bytes(message[at : at + 4], "little") for at in (8, 12))
            yield message[:4], message[16 : 16 + length], remaining
        else:
            length, remaining = (int.from_bytes(message[at : at + 2], "little") for at in (4, 6))
            yield message[:4], message[8 : 8 + length], remaining


def unwrapped(messages: list[bytes]) -> Iterator[bytes]:
    """Messages as they are, those put together from CHUNK_RESPONSE, and encapsulated ones."""
    large, size = b"", 0
    for message in messages:
        if len(message) > 12 and message[1] == CHUNK_RESPONSE and message[0] in range(0x12, 0x15):
            body = message[12:]
            if int.from_bytes(message[4:8], "little") == 0:
                size, body, large = int.from_bytes(body[:4], "little"), body[4:], b""
            large += body[: int.from_bytes(message[8:12], "little")]
            if message[2] & 0x01:  # LastChunk
                assert len(large) == size
                yield large
        elif len(message) > 4 and message[1] == DELIVER_ENCAPSULATED_RESPONSE:
            yield message[4:]
        else:
            yield message


def chains(path: Path) -> Iterator[Recorded]:
    recording = json.loads(path.read_text())
    offset = HEADER[recording["transport"]]
    messages = [bytes.fromhex(item["frame"])[offset:] for item in recording["messages"]]
    collected = b""
    for header, portion, remaining in portions(list(unwrapped(messages))):
        collected += portion
        if remaining or not collected:
            continue
        slot, model = header[2] & 0x0F, header[3] & 0x07
        yield Recorded(path.stem, header[0], slot, model, bool(header[2] & LARGE), collected)
        collected = b""


FILES = sorted(VECTORS.glob("*.json"))
CHAINS = list(dict.fromkeys(chain for path in FILES for chain in chains(path)))


def parse(recorded: Recorded) -> CertificateChain:
    """The base hash is the one whose size leaves a certificate behind it."""
    algorithm = next(item for item in HASHES if recorded.raw[4 + item.size] == 0x30)
    return CertificateChain.parse(recorded.raw, algorithm, recorded.large)


def anchors(recorded: Recorded, purpose: Purpose = Purpose.DEVICE) -> TrustAnchors:
    recording = json.loads((VECTORS / f"{recorded.file}.json").read_text())
    ders = [bytes.fromhex(value) for value in recording["trust_anchors"].values()]
    return TrustAnchors(ders, purpose)


def test_the_recordings_are_here() -> None:
    assert len(FILES) >= 20
    assert {path.stem[:3] for path in FILES} == {"v10", "v11", "v12", "v13", "v14"}
    kinds = {parse(chain).leaf.key_type for chain in CHAINS}
    assert {"ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "rsa-4096"} <= kinds
    assert {"ml-dsa-44", "ml-dsa-65"} <= kinds
    assert any(chain.large for chain in CHAINS)


@pytest.mark.parametrize(
    "recorded", CHAINS, ids=[f"{item.file}-slot{item.slot}" for item in CHAINS]
)
def test_verifies_against_its_own_anchors(recorded: Recorded) -> None:
    chain = parse(recorded)
    model = CertificateModel(recorded.model)
    policy = ChainPolicy.for_version(recorded.version, model)
    algorithm = PublicKey.from_spki(chain.leaf.spki).algorithms[0]
    verified = verify(chain, anchors(recorded), policy=policy, algorithm=algorithm)
    assert {step.outcome for step in verified.steps} == {Outcome.PASSED, Outcome.NOT_CHECKED}
    assert verified.identity.device_name is not None
    assert chain.encode() == recorded.raw
    # their leaves are for both roles
    verify(chain, anchors(recorded, Purpose.REQUESTER), policy=policy, purpose=Purpose.REQUESTER)


@pytest.mark.parametrize(
    "recorded", CHAINS[:4], ids=[f"{item.file}-slot{item.slot}" for item in CHAINS[:4]]
)
def test_is_refused_by_anchors_of_another_conversation(recorded: Recorded) -> None:
    other = next(item for item in CHAINS if item.file.startswith("v12_session_p521"))
    with pytest.raises(ChainError) as caught:
        verify(parse(recorded), anchors(other), policy=ChainPolicy.for_version(recorded.version))
    assert caught.value.check == "anchor"

"""Evidence cut out of recorded conversations with DMTF's reference endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spdmkit.attestation.evidence import Evidence, ExchangeKind, SignedExchange
from spdmkit.identity import Purpose, TrustAnchors
from spdmkit.messages import ErrorCode, RequestCode, ResponseCode

VECTORS = Path(__file__).parent.parent / "data" / "vectors"
_HEADER = {"tcp": 4, "mctp": 1}
_KIND_AT = {"tcp": 3, "mctp": 0}
_VCA = {
    RequestCode.GET_VERSION,
    ResponseCode.VERSION,
    RequestCode.GET_CAPABILITIES,
    ResponseCode.CAPABILITIES,
    RequestCode.NEGOTIATE_ALGORITHMS,
    ResponseCode.ALGORITHMS,
}
_CERTIFICATES = {
    RequestCode.GET_DIGESTS,
    ResponseCode.DIGESTS,
    RequestCode.GET_CERTIFICATE,
    ResponseCode.CERTIFICATE,
}
_LARGE = 0x80


def load(name: str) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return recording


def anchors(recording: dict[str, Any]) -> TrustAnchors:
    ders = [bytes.fromhex(value) for value in recording["trust_anchors"].values()]
    return TrustAnchors(ders, Purpose.DEVICE)


def _clear_messages(recording: dict[str, Any]) -> Iterator[bytes]:
    """Messages outside sessions; large ones put together, without what carried the pieces."""
    transport = recording["transport"]
    large = b""
    for item in recording["messages"]:
        frame = bytes.fromhex(item["frame"])
        if frame[_KIND_AT[transport]] != 5:
            continue
        message = frame[_HEADER[transport] :]
        large_response = message[1:3] == bytes([ResponseCode.ERROR, ErrorCode.LARGE_RESPONSE])
        if message[1] == RequestCode.CHUNK_GET or large_response:
            continue
        if message[1] != ResponseCode.CHUNK_RESPONSE:
            yield message
            continue
        body = message[12:]
        if message[4:8] == bytes(4):
            body = body[4:]
        large += body
        if message[2] & 0x01:
            yield large
            large = b""


@dataclass
class _Cutter:
    vca: list[bytes] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    measurements: list[bytes] = field(default_factory=list)
    chains: dict[int, bytes] = field(default_factory=dict)
    slot: int = 0
    found: list[tuple[int, SignedExchange]] = field(default_factory=list)

    def take(self, message: bytes) -> None:
        code = message[1]
        if code not in (RequestCode.GET_MEASUREMENTS, ResponseCode.MEASUREMENTS):
            self.measurements.clear()
        if code in _VCA:
            if code == RequestCode.GET_VERSION:
                self.vca.clear()
            self.vca.append(message)
        elif code in _CERTIFICATES:
            if code == RequestCode.GET_DIGESTS:
                self.certificates.clear()
            self.certificates.append(message)
            self._chain(message)
        elif code in (RequestCode.CHALLENGE, ResponseCode.CHALLENGE_AUTH):
            self.certificates.append(message)
            if code == RequestCode.CHALLENGE:
                self.slot = message[2]
            else:
                self._exchange(ExchangeKind.CHALLENGE, self.certificates)
                self.certificates.clear()
        elif code in (RequestCode.GET_MEASUREMENTS, ResponseCode.MEASUREMENTS):
            self.measurements.append(message)
            signed = self.measurements[-2][2] & 1 if code == ResponseCode.MEASUREMENTS else 0
            if signed:
                request = self.measurements[-2]
                self.slot = request[36] & 0xF if request[0] > 0x10 else 0
                self._exchange(ExchangeKind.MEASUREMENTS, self.measurements)
                self.measurements.clear()

    def _exchange(self, kind: ExchangeKind, messages: list[bytes]) -> None:
        self.found.append((self.slot, SignedExchange(kind, tuple(messages))))

    def _chain(self, message: bytes) -> None:
        if message[1] == RequestCode.GET_CERTIFICATE:
            start = message[8:12] if message[2] & _LARGE else message[4:6]
            if not any(start):
                self.chains[message[2] & 0xF] = b""
        elif message[1] == ResponseCode.CERTIFICATE:
            portion = message[16:] if message[2] & _LARGE else message[8:]
            self.chains[message[2] & 0xF] += portion


def evidence_of(recording: dict[str, Any]) -> list[Evidence]:
    """One piece of evidence for each signed answer outside a session, in order."""
    cutter = _Cutter()
    for message in _clear_messages(recording):
        cutter.take(message)
    return [
        Evidence((exchange,), slot=slot, vca=tuple(cutter.vca), chain=cutter.chains.get(slot, b""))
        for slot, exchange in cutter.found
    ]

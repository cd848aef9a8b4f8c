#!/usr/bin/env python3
"""Replay recorded conversations of SPDM over TCP, and say what in them does not hold.

    tools/check_vectors.py FILE.json ...

This is written from DSP0274, DSP0277 and DSP0287 alone and imports nothing of spdmkit: hashes and
HMACs are those of Python, signatures, certificates and AES-GCM those of pyca/cryptography. It knows
one algorithm of each kind (SHA-384, ECDSA P-384, secp384r1, AES-256-GCM), which is what the vectors
in vectors/ negotiate, and SPDM 1.2 to 1.4.

What is checked of each conversation:

  - the frames: PayloadLen by the dialect, BindingVer, MessageType, who may send what first
  - the signatures of CHALLENGE_AUTH, MEASUREMENTS, KEY_EXCHANGE_RSP and FINISH, with the keys of
    chains that lead to the trust anchors, over transcripts put together from the frames
  - the verify data of both sides, every record's tag, every value in `derived`, in its order
  - the payloads of the services of DSP0287 clause 7, and the error messages of clause 6.3
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384

H = 48  # bytes of SHA-384
SIG = 96  # bytes of an ECDSA P-384 signature: r and s
EXTRA = {"strict": 0, "libspdm": 2}
ERRORS = {0xC0: "too large", 0xC1: "version", 0xC2: "not a requester", 0xC3: "not a responder"}

SHA_384, P_384, SECP384R1, AES_256_GCM = 1 << 1, 1 << 7, 1 << 4, 1 << 1


class Wrong(Exception):
    """Something does not hold."""


def need(condition: object, what: str) -> None:
    """Say what does not hold, unless it does."""
    if not condition:
        raise Wrong(what)


def u16(data: bytes, at: int) -> int:
    """Two bytes, the low one first."""
    return int.from_bytes(data[at : at + 2], "little")


def u24(data: bytes, at: int) -> int:
    """Three bytes, the low one first."""
    return int.from_bytes(data[at : at + 3], "little")


def sha(data: bytes) -> bytes:
    """The digest."""
    return hashlib.sha384(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """The HMAC."""
    return hmac.digest(key, data, "sha384")


# --- key schedule (DSP0274 clause 12) -------------------------------------------------------------


def expand(secret: bytes, version: int, label: str, size: int, context: bytes = b"") -> bytes:
    """HKDF-Expand with BinConcat as info."""
    info = struct.pack("<H", size) + f"spdm1.{version & 15} {label}".encode() + context
    out, block, count = b"", b"", 0
    while len(out) < size:
        count += 1
        block = mac(secret, block + info + bytes((count,)))
        out += block
    return out[:size]


class Stream:
    """The records of one direction under one key."""

    def __init__(self, secret: bytes, version: int) -> None:
        self.secret, self.version, self.sequence = secret, version, 0
        self.key = expand(secret, version, "key", 32)
        self.iv = expand(secret, version, "iv", 12)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt the next record."""
        number = int.from_bytes(self.iv, "little") ^ self.sequence
        plain = AESGCM(self.key).decrypt(number.to_bytes(12, "little"), sealed, associated)
        self.sequence += 1
        return plain

    def updated(self) -> Stream:
        """The stream after KEY_UPDATE (12.10)."""
        return Stream(expand(self.secret, self.version, "traffic upd", H), self.version)


# --- signatures (DSP0274 clause 15) ---------------------------------------------------------------


def verify(
    key: ec.EllipticCurvePublicKey, version: int, context: str, digest: bytes, sig: bytes
) -> None:
    """A signature over a digest, with the prefix of SPDM 1.2 and later (15.1)."""
    prefix = f"dmtf-spdm-v1.{version & 15}.*".encode() * 4
    padding = bytes(100 - len(prefix) - len(context))
    signed = prefix + padding + context.encode() + digest
    r, s = int.from_bytes(sig[: SIG // 2], "big"), int.from_bytes(sig[SIG // 2 :], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA384()))
    except InvalidSignature:
        raise Wrong(f"the signature of {context} does not verify") from None


def leaf_key(chain: bytes, anchors: list[bytes]) -> ec.EllipticCurvePublicKey:
    """The key at the end of a certificate chain (DSP0274 table 39) that leads to an anchor."""
    need(u16(chain, 0) == len(chain), "the Length of the certificate chain")
    parts, rest = [], chain[4 + H :]
    while rest:
        need(rest[:2] == b"\x30\x82", "a certificate in DER")
        size = 4 + int.from_bytes(rest[2:4], "big")
        parts.append(rest[:size])
        rest = rest[size:]
    need(parts and parts[0] in anchors, "the chain begins with a trust anchor")
    need(chain[4 : 4 + H] == sha(parts[0]), "RootHash is the digest of the root certificate")
    certificates = [x509.load_der_x509_certificate(part) for part in parts]
    for issuer, subject in itertools.pairwise(certificates):
        try:
            subject.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError):
            raise Wrong("a link of the certificate chain does not hold") from None
    key = certificates[-1].public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Wrong("the key of the leaf")
    return key


# --- one conversation -----------------------------------------------------------------------------


class Session:
    """What is known of a session."""

    def __init__(self, version: int, th: bytes, *, psk: bool = False) -> None:
        self.version, self.th, self.psk = version, th, psk
        self.handshake = b""
        self.streams: dict[str, Stream] = {}
        self.pending: dict[str, Stream] = {}
        self.l1 = b""
        self.chain = b""  # of the requester


class Conversation:
    """Replays the frames of one vector."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.vector = vector
        self.dialect = vector["dialect"]
        self.derived = [(name, bytes.fromhex(value)) for name, value in vector["derived"]]
        self.anchors = [bytes.fromhex(value) for value in vector["trust_anchors"].values()]
        self.version = 0x10
        self.vca = b""
        self.chains: dict[tuple[str, int], bytes] = {}
        self.m1 = b""
        self.l1 = b""
        self.request = b""
        self.encapsulated = b""
        self.sessions: dict[int, Session] = {}
        self.done: set[str] = set()
        self.closed = False
        self.bad = 0
        self.slots: dict[int, bytes] = {}
        self.finished: list[bytes] = []

    # -- values that must be those of `derived`, in its order --

    def expect(self, name: str, value: bytes) -> None:
        """The next value of `derived` must be this one."""
        need(self.derived, f"`derived` ends before {name}")
        told_name, told = self.derived.pop(0)
        need(told_name == name, f"`derived` has {told_name} where {name} comes")
        need(told == value, f"{name} is another value")

    def given(self, name: str) -> bytes:
        """The next value of `derived`, which nothing else tells."""
        need(self.derived and self.derived[0][0] == name, f"`derived` does not give {name}")
        return self.derived.pop(0)[1]

    # -- frames (DSP0287 clause 6) --

    def run(self) -> set[str]:
        """Replay everything; gives what was shown."""
        initiator = self.vector["initiator"]
        for number, message in enumerate(self.vector["messages"]):
            sender, frame = message["from"], bytes.fromhex(message["frame"])
            try:
                need(not self.closed, "a frame after the connection was closed")
                if number == 0:
                    need(sender == initiator, "the initiator speaks first, or the roles are told")
                self.frame(sender, frame, first=number == 0)
            except (Wrong, IndexError, struct.error, ValueError, InvalidTag) as error:
                raise Wrong(f"frame {number}: {type(error).__name__}: {error}") from error
        need(not self.derived, f"`derived` has {len(self.derived)} values too many")
        return self.done

    def frame(self, sender: str, frame: bytes, *, first: bool) -> None:
        """One frame."""
        length, binding, kind = struct.unpack_from("<HBB", frame)
        if kind >= 0xC0:
            need(kind in ERRORS, "an error message that DSP0287 does not know")
            need(frame == bytes((0, 0, 1, kind)), "the form of an error message")
            self.error(kind)
            return
        if binding != 1:
            self.bad = 0xC1
            return
        if kind == 0xBF:
            need(first and sender == "responder", "Role-Inquiry is what a dialling responder sends")
            need(frame == b"\x00\x00\x01\xbf", "the form of Role-Inquiry")
            self.bad = 0xC2
            self.done.add("role inquiry")
            return
        if length > len(frame) - 4 + 2:
            self.bad = 0xC0  # a header whose payload was never sent
            return
        need(length == len(frame) - 4 + EXTRA[self.dialect], f"PayloadLen {length}")
        self.bad = 0xC3
        if kind == 5:
            self.message(sender, frame[4:], None)
        elif kind == 6:
            self.record(sender, frame[4:])
        else:
            raise Wrong(f"MessageType {kind:#x}")

    def error(self, kind: int) -> None:
        """An error message must be the answer to what came before."""
        need(kind == self.bad, f"{kind:#x} answers what should give {self.bad:#x}")
        self.done.add(f"error: {ERRORS[kind]}")
        self.closed = True

    # -- records (DSP0277) --

    def record(self, sender: str, record: bytes) -> None:
        """One secured message."""
        identifier, length = struct.unpack_from("<IH", record)
        need(length == len(record) - 6, "Length of the record")
        session = self.sessions.get(identifier)
        if session is None:
            raise Wrong("a record of an unknown session")
        stream = session.streams[sender]
        try:
            body = stream.open(record[6:], record[:6])
        except InvalidTag:
            need(sender in session.pending, "the tag of the record")
            stream = session.streams[sender] = session.pending.pop(sender)
            body = stream.open(record[6:], record[:6])
            side = "request" if sender == "requester" else "response"
            self.expect(f"{side}_data_secret_update", stream.secret)
            self.expect("key", stream.key)
            self.expect("iv", stream.iv)
            self.done.add(f"{sender}'s keys updated")
        size = u16(body, 0)
        need(2 + size == len(body), "records over TCP have no random data")
        plain = body[2:]
        if self.dialect == "libspdm":
            if plain[2:4] != b"\x01\x05" or u16(plain, 0) != size - 4 + 2:
                self.done.add("application data")
                return
            plain = plain[4:]
        elif plain[0] == 0:
            self.done.add("application data")  # a zero byte where SPDM has its version
            return
        self.done.add("records")
        self.message(sender, plain, session, identifier)

    # -- messages (DSP0274 clause 10) --

    def message(
        self, sender: str, message: bytes, session: Session | None, identifier: int = 0
    ) -> None:
        """One SPDM message, in a session or not."""
        code = message[1]
        need((code >= 0x80) == (sender == "requester"), "who sends requests")
        need(code in (0x84, 0x04) or message[0] == self.version or self.version == 0x10, "version")
        if code >= 0x80:
            self.asked(message, session)
            return
        request, self.request = self.request, b""
        need(code == 0x7F or request[1] & 0x7F == code, "a response answers its request")
        handler = self.RESPONSES.get(code)
        if handler is not None:
            handler(self, request, message, session)
        if code == 0x6C and session is not None:
            del self.sessions[identifier]
            self.done.add("session ended")

    def asked(self, message: bytes, session: Session | None) -> None:
        """A request."""
        code = message[1]
        self.request = message
        if code != 0xE0:
            if session is None:
                self.l1 = b""
            else:
                session.l1 = b""
        if session is None and code not in (0x82, 0x83):
            self.m1 = b""
        if code == 0xE5 and session is not None:
            self.finish(message, session)
        elif code == 0xE7 and session is not None:
            self.psk_finish(message, session)
        elif code == 0xEB and session is not None:
            self.delivered(message[4:], session)
        elif code == 0xE9 and session is not None:
            self.key_update(message, session)
        elif code == 0xFE:
            self.service(message, request=True)

    def negotiated(self, request: bytes, response: bytes, _session: Session | None) -> None:
        """VERSION, CAPABILITIES or ALGORITHMS: they make up VCA."""
        if response[1] == 0x04:
            self.vca, self.version = b"", 0x10
        elif self.version == 0x10:
            self.version = response[0]
            need(self.version in (0x12, 0x13, 0x14), "SPDM 1.2 to 1.4")
        self.vca += request + response
        if response[1] == 0x63:
            self.algorithms(response)

    def algorithms(self, message: bytes) -> None:
        """ALGORITHMS must select what this program knows."""
        need(u16(message, 4) == len(message), "Length of ALGORITHMS")
        need(struct.unpack_from("<II", message, 12) == (P_384, SHA_384), "P-384 and SHA-384")
        at, found = 36, {}
        for _ in range(message[2]):
            found[message[at]] = u16(message, at + 2)
            at += 4
        need(at == len(message), "ALGORITHMS ends with its structures")
        need(found.get(2, SECP384R1) in (0, SECP384R1), "secp384r1")
        need(found.get(3, AES_256_GCM) in (0, AES_256_GCM), "AES-256-GCM")
        need(found.get(4, P_384) in (0, P_384), "P-384 of the requester")

    # -- who they are --

    def digests(self, request: bytes, response: bytes, session: Session | None) -> None:
        """DIGESTS: one digest for each slot in the mask."""
        if session is None:
            self.m1 += request + response
        slots = [slot for slot in range(8) if response[3] >> slot & 1]
        parts = [response[at : at + H] for at in range(4, 4 + H * len(slots), H)]
        self.slots = dict(zip(slots, parts, strict=True))

    def certificate(self, request: bytes, response: bytes, session: Session | None) -> None:
        """CERTIFICATE, until the chain is whole."""
        if session is None:
            self.m1 += request + response
        chain = self.portion("responder", request, response)
        if not u16(response, 6):
            slot = response[2] & 15
            if slot in self.slots:
                need(sha(chain) == self.slots[slot], "DIGESTS has this chain's digest")
            leaf_key(chain, self.anchors)
            self.done.add("responder's chain" if slot == 0 else "a chain in another slot")

    def portion(self, side: str, request: bytes, response: bytes) -> bytes:
        """What is known of a chain with one more portion."""
        need(not response[2] & 0x80, "the small form of CERTIFICATE")
        place = side, response[2] & 15
        offset = u16(request, 4)
        part = response[8:]
        need(u16(response, 4) == len(part), "PortionLength")
        known = self.chains.get(place, b"")[:offset] if offset else b""
        need(len(known) == offset, "portions without gaps")
        self.chains[place] = known + part
        return known + part

    def chain(self, side: str, slot: int) -> bytes:
        """The chain in a slot, which was read before."""
        need((side, slot) in self.chains, f"the chain in slot {slot} of the {side} was read")
        return self.chains[side, slot]

    def key(self, side: str, slot: int) -> ec.EllipticCurvePublicKey:
        """The key that a side has proven to hold, or is about to."""
        return leaf_key(self.chain(side, slot), self.anchors)

    def challenge_auth(self, request: bytes, response: bytes, _session: Session | None) -> None:
        """CHALLENGE_AUTH, over M1."""
        slot = request[2]
        need(response[4 : 4 + H] == sha(self.chain("responder", slot)), "CertChainHash")
        digest = sha(self.vca + self.m1 + request + response[:-SIG])
        self.expect("m1m2_hash", digest)
        context = "responder-challenge_auth signing"
        verify(self.key("responder", slot), self.version, context, digest, response[-SIG:])
        self.m1 = b""
        self.done.add("CHALLENGE_AUTH")

    def measurements(self, request: bytes, response: bytes, session: Session | None) -> None:
        """MEASUREMENTS, over L1 when signed."""
        before = self.l1 if session is None else session.l1
        self.blocks(response)
        if request[2] & 1:
            digest = sha(self.vca + before + request + response[:-SIG])
            self.expect("l1l2_hash", digest)
            context = "responder-measurements signing"
            key = self.key("responder", request[36] & 15)
            verify(key, self.version, context, digest, response[-SIG:])
            before = b""
            self.done.add("MEASUREMENTS" + ("" if session is None else " in a session"))
        else:
            before += request + response
        if session is None:
            self.l1 = before
        else:
            session.l1 = before

    @staticmethod
    def blocks(response: bytes) -> None:
        """Each block has the length that it says, and together they are the record."""
        at, end = 8, 8 + u24(response, 5)
        for _ in range(response[4]):
            need(u16(response, at + 5) + 3 == u16(response, at + 2), "a measurement block")
            at += 4 + u16(response, at + 2)
        need(at == end, "MeasurementRecordLength")

    # -- sessions --

    def key_exchange(self, request: bytes, response: bytes, _session: Session | None) -> None:
        """KEY_EXCHANGE_RSP, over TH, and what follows from it."""
        signed = response[: -SIG - H]
        slot = request[3]
        th = self.vca + sha(self.chain("responder", slot)) + request + signed
        self.expect("th_curr_hash", sha(th))
        signature, verify_data = response[-SIG - H : -H], response[-H:]
        context = "responder-key_exchange_rsp signing"
        verify(self.key("responder", slot), self.version, context, sha(th), signature)
        if response[6] == 4:  # MutAuthRequested bit 2: GET_DIGESTS goes without saying
            self.encapsulated = bytes((self.version, 0x81, 0, 0))
        session = Session(self.version, th + signature)
        self.sessions[u16(request, 4) | u16(response, 4) << 16] = session
        self.expect("th1_hash", sha(session.th))
        self.begin(session, self.given("dhe_secret"), bytes(H))
        self.responder_proves(session, verify_data)
        self.done.add("KEY_EXCHANGE")

    def psk_exchange(self, request: bytes, response: bytes, _session: Session | None) -> None:
        """PSK_EXCHANGE_RSP."""
        session = Session(self.version, self.vca + request + response[:-H], psk=True)
        self.sessions[u16(request, 4) | u16(response, 4) << 16] = session
        self.expect("th1_hash", sha(session.th))
        salt = (b"\xff" if self.version >= 0x13 else b"\x00") * H
        self.begin(session, self.given("psk"), salt)
        self.responder_proves(session, response[-H:])
        self.done.add("PSK_EXCHANGE")

    def begin(self, session: Session, secret: bytes, salt: bytes) -> None:
        """Handshake-Secret, S0 and S1 (12.6)."""
        session.handshake = mac(salt, secret)
        th1 = sha(session.th)
        pair = [
            expand(session.handshake, self.version, label, H, th1)
            for label in ("req hs data", "rsp hs data")
        ]
        if not session.psk:
            self.expect("request_handshake_secret", pair[0])
            self.expect("response_handshake_secret", pair[1])
        self.finished = [expand(secret, self.version, "finished", H) for secret in pair]
        for each in self.finished:
            self.expect("finished_key", each)
        self.start(session, pair)

    def start(self, session: Session, pair: list[bytes]) -> None:
        """Both directions go on under new secrets."""
        requester, responder = (Stream(secret, self.version) for secret in pair)
        session.streams = {"requester": requester, "responder": responder}
        for stream in (requester, responder):
            self.expect("key", stream.key)
            self.expect("iv", stream.iv)

    def responder_proves(self, session: Session, verify_data: bytes) -> None:
        """ResponderVerifyData, which then joins TH."""
        need(mac(self.finished[1], sha(session.th)) == verify_data, "ResponderVerifyData")
        session.th += verify_data

    def requester_proves(self, session: Session, verify_data: bytes) -> None:
        """RequesterVerifyData, which then joins TH."""
        need(mac(self.finished[0], sha(session.th)) == verify_data, "RequesterVerifyData")
        session.th += verify_data

    def finish(self, message: bytes, session: Session) -> None:
        """FINISH, signed in mutual authentication."""
        if message[2] & 1:
            slot = message[3]
            session.th += sha(self.chain("requester", slot)) + message[: -SIG - H]
            digest = sha(session.th)
            signature = message[-SIG - H : -H]
            context = "requester-finish signing"
            verify(self.key("requester", slot), self.version, context, digest, signature)
            session.th += signature
            self.requester_proves(session, message[-H:])
            self.expect("th_curr_hash", digest)
            self.done.add("FINISH signed")
        else:
            session.th += message[:-H]
            self.requester_proves(session, message[-H:])

    def psk_finish(self, message: bytes, session: Session) -> None:
        """PSK_FINISH."""
        session.th += message[:-H]
        self.requester_proves(session, message[-H:])

    def finished_rsp(self, _request: bytes, response: bytes, session: Session | None) -> None:
        """The handshake is over: Master-Secret, S2 and S3."""
        if session is None:
            raise Wrong("a handshake in the clear, which these vectors do not have")
        session.th += response
        th2 = sha(session.th)
        self.expect("th2_hash", th2)
        salt = expand(session.handshake, self.version, "derived", H)
        master = mac(salt, bytes(H))
        pair = [
            expand(master, self.version, label, H, th2)
            for label in ("req app data", "rsp app data")
        ]
        if not session.psk:
            self.expect("request_data_secret", pair[0])
            self.expect("response_data_secret", pair[1])
            export = expand(master, self.version, "exp master", H, th2)
            self.expect("export_master_secret", export)
        self.start(session, pair)
        self.done.add("handshake")

    def key_update(self, message: bytes, session: Session) -> None:
        """Operation 1 moves the requester's keys, 2 those of both; each shows when it is used."""
        if message[2] in (1, 2):
            session.pending["requester"] = session.streams["requester"].updated()
        if message[2] == 2:
            session.pending["responder"] = session.streams["responder"].updated()

    # -- encapsulated requests --

    def encapsulates(self, _request: bytes, response: bytes, _session: Session | None) -> None:
        """ENCAPSULATED_REQUEST, or an ACK that brings the next one."""
        self.encapsulated = response[4:] if response[1] == 0x6A else b""
        if response[1] == 0x6B and response[3] == 1:
            self.encapsulated = response[8:]

    def delivered(self, response: bytes, _session: Session) -> None:
        """DELIVER_ENCAPSULATED_RESPONSE."""
        request, self.encapsulated = self.encapsulated, b""
        need(request[1] & 0x7F == response[1], "an encapsulated response answers its request")
        if response[1] == 0x02:
            chain = self.portion("requester", request, response)
            if not u16(response, 6):
                leaf_key(chain, self.anchors)
                self.done.add("requester's chain")

    # -- certificates that are put in place --

    def csr(self, _request: bytes, response: bytes, _session: Session | None) -> None:
        """CSR: signed with the key that it is about."""
        need(u16(response, 4) == len(response) - 8, "CSRLength")
        need(x509.load_der_x509_csr(response[8:]).is_signature_valid, "the signature of the CSR")
        self.done.add("CSR")

    def set_certificate(self, request: bytes, _response: bytes, _session: Session | None) -> None:
        """SET_CERTIFICATE, with a chain that leads to a trust anchor."""
        leaf_key(request[4:], self.anchors)
        self.done.add("SET_CERTIFICATE")

    # -- services (DSP0287 clause 7) --

    def vendor_response(self, _request: bytes, response: bytes, _session: Session | None) -> None:
        """VENDOR_DEFINED_RESPONSE."""
        self.service(response, request=False)

    def service(self, message: bytes, *, request: bool) -> None:
        """The payload of a service message."""
        need(u16(message, 4) == 0 and message[6] == 0, "StandardID 0, no VendorID")
        need(not message[2] & 0x80, "the small form of VENDOR_DEFINED")
        payload = message[9:]
        need(u16(message, 7) == len(payload), "ReqLength or RespLength")
        number, version, sub, length = struct.unpack_from("<HHBH", payload)
        need((number, version >> 12) == (287, 1), "TCP_DSPNumber and TCP_DSPVersion")
        need((sub < 0x80) == request, "SubRequestID and SubResponseID")
        content = payload[8:]
        need(length == len(content), "the length of the service's payload")
        check = self.SERVICES.get(sub)
        if check is None:
            raise Wrong(f"service {sub:#x}")
        check(content)
        self.done.add(f"service {sub:#04x}")

    @staticmethod
    def get_service_request(content: bytes) -> None:
        """GET_SERVICE_REQUEST (7.1)."""
        need(len(content) == 36 and content[0] & 1, "AvailableDMTFServices has ANY_REQUEST")
        need(content[35] in range(6), "State")

    @staticmethod
    def service_request(content: bytes) -> None:
        """SERVICE_REQUEST (7.1)."""
        need(content[2:4] == b"\0\0" and len(content) == 12, "a service of DMTF")
        need(content[0] & 7 in (0, 4, 6, 7), "SessionMethod")
        need(content[4] in (*range(8), 0xFF), "ServiceID")

    @staticmethod
    def verification_results(content: bytes) -> None:
        """VERIFICATION_RESULTS (7.2)."""
        need(len(content) == 128, "four bits for each of 256 indices")

    @staticmethod
    def opaque(content: bytes) -> None:
        """General opaque data behind its length (DSP0274 clause 14)."""
        need(u16(content, 0) == len(content) - 4, "ReferenceLen or PolicyLen")
        data, at = content[4:], 4
        for _ in range(data[0]):
            at += 2 + data[at + 1]
            at += 2 + u16(data, at)
            at += -at % 4
        need(at == len(data), "the elements of the opaque data")

    @staticmethod
    def nothing(content: bytes) -> None:
        """An acknowledgement."""
        need(not content, "an acknowledgement holds nothing")

    SERVICES: ClassVar[dict[int, Callable[[bytes], None]]] = {
        0x00: get_service_request,
        0x02: verification_results,
        0x05: opaque,
        0x06: opaque,
        0x80: service_request,
        0x82: nothing,
        0x85: nothing,
        0x86: nothing,
    }
    RESPONSES: ClassVar[dict[int, Callable[..., None]]] = {
        0x04: negotiated,
        0x61: negotiated,
        0x63: negotiated,
        0x01: digests,
        0x02: certificate,
        0x03: challenge_auth,
        0x60: measurements,
        0x64: key_exchange,
        0x65: finished_rsp,
        0x66: psk_exchange,
        0x67: finished_rsp,
        0x6D: csr,
        0x6E: set_certificate,
        0x6A: encapsulates,
        0x6B: encapsulates,
        0x7E: vendor_response,
    }


def check(path: Path) -> set[str]:
    """Replay one vector; gives what it has shown.

    Raises:
        Wrong: something in it does not hold.
    """
    return Conversation(json.loads(path.read_text())).run()


def main(arguments: list[str]) -> int:
    """Check the files; 1 when something in them does not hold."""
    wrong = 0
    for name in arguments:
        try:
            shown = check(Path(name))
        except Wrong as error:
            wrong += 1
            print(f"{name}: WRONG: {error}")
        else:
            print(f"{name}: holds: {', '.join(sorted(shown)) or 'nothing'}")
    return 1 if wrong or not arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

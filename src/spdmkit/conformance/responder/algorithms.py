"""NEGOTIATE_ALGORITHMS and ALGORITHMS (DSP0274 10.4)."""

from __future__ import annotations

from dataclasses import replace

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import (
    Bend,
    Misbehaviour,
    Scene,
    answering,
    putting,
)
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V11,
    V12,
    V14,
    Algorithms,
    AlgType,
    ErrorCode,
    NegotiateAlgorithms,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.messages.negotiation import ExtendedAlgorithm
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.algorithms import for_version, write_offer
from spdmkit.protocol.connection import Connection

CASES = Cases("algorithms", "DSP0274 10.4")
R = RequestCode
E = ErrorCode
F = ResponderFlags
ALGORITHMS = ResponseCode.ALGORITHMS
LENGTH, BASE_ASYM, BASE_HASH = 4, 8, 12
"""Offsets in NEGOTIATE_ALGORITHMS."""
SELECTED_HASH, SELECTED_ASYM = 16, 12
"""Offsets in ALGORITHMS."""


def offer(talk: Talk) -> NegotiateAlgorithms:
    """Everything that we have, offered as the library offers it."""
    return _offer(talk.connection, talk.version)


def _offer(own: Connection, version: int) -> NegotiateAlgorithms:
    return write_offer(for_version(own.settings.algorithms, version), version, multi_key=False)


def raw(talk: Talk) -> bytes:
    """The same in bytes."""
    return offer(talk).encode(talk.connection.context)


def patched(talk: Talk, offset: int, *values: int) -> bytes:
    """The offer with bytes written over."""
    data = bytearray(raw(talk))
    data[offset : offset + len(values)] = bytes(values)
    return bytes(data)


def _sane(sent: bytearray, scene: Scene) -> bytes | bytearray:
    """A request whose lengths, counts and masks are right again."""
    if sent[1:2] != bytes((R.NEGOTIATE_ALGORITHMS,)):
        return sent
    return _offer(scene.connection, scene.connection.version).encode(scene.connection.context)


@CASES.case(
    "layout",
    "ALGORITHMS is well formed, and its Length is its length",
    stage=Stage.CAPABILITIES,
    breaks=answering(ALGORITHMS, putting(LENGTH, 0xFF, 0xFF)),
)
def layout(talk: Talk) -> Exchange[None]:
    yield from talk.expect(offer(talk), Algorithms)


CASES.ends(Algorithms, offer, stage=Stage.CAPABILITIES)


def _two_bits(offset: int) -> Bend:
    return putting(offset, 0xFF)


@CASES.case(
    "one-hash",
    "exactly one base hash is selected, of those offered",
    stage=Stage.CAPABILITIES,
    breaks=answering(ALGORITHMS, _two_bits(SELECTED_HASH)),
)
def one_hash(talk: Talk) -> Exchange[None]:
    asked = offer(talk)
    message = yield from talk.expect(asked, Algorithms)
    chosen = message.base_hash_sel
    talk.equal(chosen.bit_count(), 1, "the number of base hashes")
    talk.equal(chosen & ~asked.base_hash_algo, 0, "what was selected and not offered")


@CASES.case(
    "one-signature",
    "at most one signature algorithm is selected, of those offered",
    stage=Stage.CAPABILITIES,
    breaks=answering(ALGORITHMS, _two_bits(SELECTED_ASYM)),
)
def one_signature(talk: Talk) -> Exchange[None]:
    asked = offer(talk)
    message = yield from talk.expect(asked, Algorithms)
    chosen = message.base_asym_sel.bit_count() + message.pqc_asym_sel.bit_count()
    talk.check(chosen <= 1, f"at most one signature algorithm is selected; {chosen} were")
    talk.equal(message.base_asym_sel & ~asked.base_asym_algo, 0, "BaseAsymSel beyond the offer")
    talk.equal(message.pqc_asym_sel & ~asked.pqc_asym_algo, 0, "PqcAsymSel beyond the offer")


@CASES.case(
    "signature-needed",
    "a responder that signs selects a signature algorithm",
    stage=Stage.CAPABILITIES,
    any_of=F.CHAL_CAP | F.KEY_EX_CAP | F.MEAS_CAP_SIG,
    breaks=answering(ALGORITHMS, putting(SELECTED_ASYM, 0, 0, 0, 0, *(0, 0, 0, 0))),
)
def signature_needed(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(offer(talk), Algorithms)
    chosen = message.base_asym_sel | message.pqc_asym_sel
    talk.check(chosen != 0, "a signature algorithm is selected")


@CASES.case(
    "measurement-hash",
    "exactly one measurement hash goes with measurements, none without",
    stage=Stage.CAPABILITIES,
    breaks=answering(ALGORITHMS, putting(8, 0xFF, 0, 0, 0)),
)
def measurement_hash(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(offer(talk), Algorithms)
    measures = bool(talk.connection.peer.flags & F.MEAS_CAP_MASK)
    wanted = 1 if measures and message.measurement_specification_sel else 0
    talk.equal(
        message.measurement_hash_algo.bit_count(), wanted, "the number of measurement hashes"
    )


def _many(sent: bytearray, _request: bytes, _scene: Scene) -> bytearray:
    """Several algorithms in the last structure, where there is one."""
    if sent[2]:
        sent[-2] = 0xFF
    return sent


@CASES.case(
    "tables",
    "each algorithm structure has one algorithm of those offered, its type once, in order",
    stage=Stage.CAPABILITIES,
    since=V11,
    any_of=F.KEY_EX_CAP | F.PSK_CAP_NO_CONTEXT | F.PSK_CAP_CONTEXT,
    breaks=answering(ALGORITHMS, _many),
)
def tables(talk: Talk) -> Exchange[None]:
    asked = offer(talk)
    message = yield from talk.expect(asked, Algorithms)
    types = [entry.alg_type for entry in message.algorithm_structures]
    talk.equal(types, sorted(set(types)), "the types of the structures")
    for entry in message.algorithm_structures:
        name = AlgType(entry.alg_type).name if entry.alg_type in set(AlgType) else entry.alg_type
        talk.check(entry.mask.bit_count() <= 1, f"at most one algorithm is selected for {name}")
        beyond = entry.mask & ~asked.mask(AlgType(entry.alg_type))
        talk.equal(beyond, 0, f"what was selected for {name} and not offered")


@CASES.case(
    "no-hybrid",
    "a Diffie-Hellman group and a KEM are never selected both",
    stage=Stage.CAPABILITIES,
    since=V14,
    needs=F.KEY_EX_CAP,
    breaks=answering(ALGORITHMS, lambda sent, _r, scene: _both(sent, scene)),
)
def no_hybrid(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(offer(talk), Algorithms)
    both = message.mask(AlgType.DHE) and message.mask(AlgType.KEM_ALG)
    talk.check(not both, "DHE and KEM are not selected both")


def _both(sent: bytearray, scene: Scene) -> bytes:
    """ALGORITHMS with a selection in each table."""
    message, _ = Algorithms.parse(bytes(sent), scene.connection.context)
    message.algorithm_structures = [
        replace(entry, alg_supported=b"\x01\x00") if not entry.mask else entry
        for entry in message.algorithm_structures
    ]
    present = {entry.alg_type for entry in message.algorithm_structures}
    for missing in {AlgType.DHE, AlgType.KEM_ALG} - present:
        made = type(message.algorithm_structures[0]).of(missing, 1)
        message.algorithm_structures.append(made)
    message.algorithm_structures.sort(key=lambda entry: entry.alg_type)
    return message.encode(scene.connection.context)


@CASES.case(
    "opaque-format",
    "at most one opaque data format is selected, of those offered",
    stage=Stage.CAPABILITIES,
    since=V12,
    breaks=answering(ALGORITHMS, putting(7, 0x0F)),
)
def opaque_format(talk: Talk) -> Exchange[None]:
    asked = offer(talk)
    message = yield from talk.expect(asked, Algorithms)
    chosen = int(message.opaque_data_format)
    talk.check(chosen.bit_count() <= 1, f"at most one format is selected; it was {chosen:#x}")
    talk.equal(chosen & ~int(asked.opaque_data_formats), 0, "a format beyond the offer")


@CASES.case(
    "external",
    "no external algorithm is selected when none was offered",
    stage=Stage.CAPABILITIES,
    breaks=answering(ALGORITHMS, lambda sent, _r, scene: _external(sent, scene)),
)
def external(talk: Talk) -> Exchange[None]:
    message = yield from talk.expect(offer(talk), Algorithms)
    talk.equal(len(message.ext_asym_sel), 0, "ExtAsymSelCount")
    talk.equal(len(message.ext_hash_sel), 0, "ExtHashSelCount")


def _external(sent: bytearray, scene: Scene) -> bytes:
    message, _ = Algorithms.parse(bytes(sent), scene.connection.context)
    message.ext_hash_sel = [ExtendedAlgorithm(registry=1, algorithm_id=1)]
    return message.encode(scene.connection.context)


def _forgetful(sent: bytearray, request: bytes, scene: Scene) -> bytes | bytearray:
    """Another offer is taken as if it were the first."""
    if request[1] != R.NEGOTIATE_ALGORITHMS or scene.count < 2:
        return sent
    return bytes((request[0], ALGORITHMS, 0, 0, 36, 0)) + bytes(30)


@CASES.case(
    "again",
    "an identical NEGOTIATE_ALGORITHMS is a retry, another one is refused",
    stage=Stage.NEGOTIATED,
    breaks=Misbehaviour(response=_forgetful),
)
def again(talk: Talk) -> Exchange[None]:
    other = bytearray(raw(talk))
    other[BASE_HASH : BASE_HASH + 4] = b"\x01\x00\x00\x00"
    answer = yield from talk.ask(bytes(other))
    talk.refused(answer, E.UNEXPECTED_REQUEST, E.INVALID_REQUEST)


for _name, _offset, _values, _since in (
    ("length-short", LENGTH, (31, 0), V11),
    ("length-long", LENGTH, (129, 0), V11),
    ("length-beyond", LENGTH, (0xFF, 0xFF), V11),
    ("tables-beyond", 2, (200,), V11),
    ("ext-asym-beyond", 28, (255,), V11),
    ("ext-hash-beyond", 29, (255,), V11),
):
    CASES.refuses(
        _name,
        f"lengths and counts that do not fit are refused ({_name})",
        lambda talk, offset=_offset, values=_values: patched(talk, offset, *values),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        mend=_sane,
        stage=Stage.CAPABILITIES,
        since=_since,
    )
for _cut in (1, 2, 5):
    CASES.refuses(
        f"cut-{_cut}",
        f"NEGOTIATE_ALGORITHMS without its last {_cut} bytes is refused",
        lambda talk, cut=_cut: raw(talk)[:-cut],  # type: ignore[misc] # likewise
        E.INVALID_REQUEST,
        mend=_sane,
        stage=Stage.CAPABILITIES,
    )


def _reversed(talk: Talk) -> bytes:
    asked = offer(talk)
    asked.algorithm_structures = list(reversed(asked.algorithm_structures))
    return asked.encode(talk.connection.context)


CASES.refuses(
    "tables-unordered",
    "algorithm structures out of order are refused",
    _reversed,
    E.INVALID_REQUEST,
    mend=_sane,
    stage=Stage.CAPABILITIES,
    since=V11,
)

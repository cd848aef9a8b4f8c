"""GET_KEY_PAIR_INFO (DSP0274 10.28.1): nothing here changes a key."""

from __future__ import annotations

from spdmkit.conformance.case import Cases
from spdmkit.conformance.misbehaviour import Scene, answering, putting
from spdmkit.conformance.talk import Talk
from spdmkit.messages import (
    V13,
    ErrorCode,
    GetKeyPairInfo,
    KeyPairInfo,
    RequestCode,
    ResponderFlags,
    ResponseCode,
)
from spdmkit.protocol.actions import Exchange

CASES = Cases("key-pairs", "DSP0274 10.28.1")
R = RequestCode
E = ErrorCode
CAP = ResponderFlags.GET_KEY_PAIR_INFO_CAP
INFO = ResponseCode.KEY_PAIR_INFO


@CASES.case(
    "layout",
    "KEY_PAIR_INFO is well formed for each key pair, and for the one asked for",
    needs=CAP,
    since=V13,
    breaks=answering(INFO, putting(5, 0xEE)),
)
def layout(talk: Talk) -> Exchange[None]:
    first = yield from talk.expect(GetKeyPairInfo(key_pair_id=1), KeyPairInfo)
    total = first.total_key_pairs
    talk.check(total >= 1, "there is a key pair")
    for number in range(1, total + 1):
        message = yield from talk.expect(GetKeyPairInfo(key_pair_id=number), KeyPairInfo)
        talk.equal(message.key_pair_id, number, "KeyPairID")
        talk.equal(message.total_key_pairs, total, "TotalKeyPairs")
        beyond = message.current_key_usage & ~message.key_usage_capabilities
        talk.equal(beyond, 0, f"uses of key pair {number} beyond its capabilities")


CASES.ends(KeyPairInfo, lambda _talk: GetKeyPairInfo(key_pair_id=1), needs=CAP, since=V13)


def _mended(raw: bytearray, _scene: Scene) -> bytes | bytearray:
    known = raw[1] == R.GET_KEY_PAIR_INFO
    return bytes((raw[0], R.GET_KEY_PAIR_INFO, 0, 0, 1)) if known else raw


for _number in (0, 255):
    CASES.refuses(
        f"id-{_number}",
        f"key pair {_number}, which does not exist, is refused",
        lambda talk, number=_number: talk.header(R.GET_KEY_PAIR_INFO) + bytes((number,)),  # type: ignore[misc] # default argument binds the loop variable
        E.INVALID_REQUEST,
        needs=CAP,
        since=V13,
        mend=_mended,
    )
CASES.refuses(
    "cut-1",
    "GET_KEY_PAIR_INFO without a KeyPairID is refused",
    lambda talk: talk.header(R.GET_KEY_PAIR_INFO),
    E.INVALID_REQUEST,
    needs=CAP,
    since=V13,
    mend=_mended,
)

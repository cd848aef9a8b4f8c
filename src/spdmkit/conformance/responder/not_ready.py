"""RESPOND_IF_READY (DSP0274 10.13)."""

from __future__ import annotations

from spdmkit.conformance.case import Cases, Stage
from spdmkit.conformance.misbehaviour import Scene
from spdmkit.messages import ErrorCode, RequestCode, ResponderFlags

CASES = Cases("not-ready", "DSP0274 10.13")
R = RequestCode
E = ErrorCode


def _mended(raw: bytearray, scene: Scene) -> bytes | bytearray:
    """Answer as if the request had been kept all the while."""
    if raw[1] != R.RESPOND_IF_READY:
        return raw
    return bytes((scene.connection.version, R.GET_DIGESTS, 0, 0))


for _name, _original, _token in (
    ("nothing-waits", R.GET_DIGESTS, 0x42),
    ("itself", R.RESPOND_IF_READY, 1),
    ("no-request", 0x01, 1),
):
    CASES.refuses(
        _name,
        f"RESPOND_IF_READY when nothing waits is refused ({_name})",
        lambda talk, original=_original, token=_token: talk.header(  # type: ignore[misc] # default argument binds the loop variable
            R.RESPOND_IF_READY, original, token
        ),
        E.UNEXPECTED_REQUEST,
        E.INVALID_REQUEST,
        stage=Stage.NEGOTIATED,
        needs=ResponderFlags.CERT_CAP,
        mend=_mended,
    )

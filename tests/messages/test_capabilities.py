"""Which combinations of capability flags DSP0274 10.3 allows."""

from __future__ import annotations

import pytest

from spdmkit.messages import (
    V10,
    V11,
    V12,
    V13,
    V14,
    VERSIONS,
    Capabilities,
    GetCapabilities,
    RequesterFlags,
    ResponderExtendedFlags,
    ResponderFlags,
    invalid_capabilities,
)

Q = RequesterFlags
R = ResponderFlags

SESSION_Q = Q.KEY_EX_CAP | Q.ENCRYPT_CAP | Q.MAC_CAP
SESSION_R = R.KEY_EX_CAP | R.ENCRYPT_CAP | R.MAC_CAP

LEGAL: list[tuple[int, type[Q] | type[R], int]] = [
    (0, Q, V10),
    (0, R, V10),
    (0, Q, V14),
    (0, R, V14),
    (SESSION_Q | Q.HANDSHAKE_IN_THE_CLEAR_CAP | Q.CERT_CAP | Q.MUT_AUTH_CAP, Q, V12),
    (Q.PSK_CAP | Q.MAC_CAP, Q, V11),
    (Q.MAC_CAP, Q, V12),
    (Q.PUB_KEY_ID_CAP, Q, V13),
    (Q.EP_INFO_CAP_SIG | Q.MULTI_KEY_CAP_NEG, Q, V13),
    (SESSION_R | R.HANDSHAKE_IN_THE_CLEAR_CAP | R.PSK_CAP_CONTEXT, R, V12),
    (R.PSK_CAP_NO_CONTEXT | R.ENCRYPT_CAP, R, V11),
    (R.CERT_CAP | R.CHAL_CAP | R.MEAS_CAP_SIG | R.MEAS_FRESH_CAP | R.CACHE_CAP, R, V10),
    (R.SET_CERT_CAP | R.CSR_CAP | R.CERT_INSTALL_RESET_CAP, R, V13),
    (R.MULTI_KEY_CAP_ONLY | R.GET_KEY_PAIR_INFO_CAP, R, V13),
    (R.SET_KEY_PAIR_RESET_CAP | R.SET_KEY_PAIR_INFO_CAP, R, V14),
]

ILLEGAL: list[tuple[int, type[Q] | type[R], int, str]] = [
    (Q.KEY_EX_CAP, Q, V11, "KEY_EX_CAP needs ENCRYPT_CAP or MAC_CAP"),
    (Q.PSK_CAP, Q, V11, "PSK_CAP needs"),
    (Q.ENCRYPT_CAP, Q, V11, "ENCRYPT_CAP needs KEY_EX_CAP or PSK_CAP"),
    (Q.HANDSHAKE_IN_THE_CLEAR_CAP, Q, V12, "HANDSHAKE_IN_THE_CLEAR_CAP needs"),
    (Q.HANDSHAKE_IN_THE_CLEAR_CAP | Q.PSK_CAP | Q.MAC_CAP, Q, V12, "needs KEY_EX_CAP"),
    (Q.PUB_KEY_ID_CAP | Q.CERT_CAP, Q, V11, "does not go with CERT_CAP"),
    (Q.PUB_KEY_ID_CAP | Q.MULTI_KEY_CAP_NEG, Q, V13, "does not go with MULTI_KEY_CAP_NEG"),
    (2 << 10 | Q.MAC_CAP, Q, V11, "PSK_CAP has a reserved value"),
    (3 << 10 | Q.MAC_CAP, Q, V11, "PSK_CAP has a reserved value"),
    (3 << 22, Q, V13, "EP_INFO_CAP has a reserved value"),
    (3 << 26, Q, V13, "MULTI_KEY_CAP has a reserved value"),
    (3 << 3, R, V10, "MEAS_CAP has a reserved value"),
    (3 << 10 | R.MAC_CAP, R, V11, "PSK_CAP has a reserved value"),
    (3 << 22, R, V13, "EP_INFO_CAP has a reserved value"),
    (3 << 26, R, V14, "MULTI_KEY_CAP has a reserved value"),
    (R.KEY_EX_CAP, R, V11, "KEY_EX_CAP needs"),
    (R.PSK_CAP_NO_CONTEXT, R, V11, "PSK_CAP_NO_CONTEXT needs"),
    (R.PSK_CAP_CONTEXT, R, V11, "PSK_CAP_CONTEXT needs"),
    (R.ENCRYPT_CAP, R, V11, "ENCRYPT_CAP needs"),
    (R.MAC_CAP, R, V11, "MAC_CAP needs"),
    (R.HANDSHAKE_IN_THE_CLEAR_CAP | R.PSK_CAP_CONTEXT | R.MAC_CAP, R, V12, "needs KEY_EX_CAP"),
    (R.PUB_KEY_ID_CAP | R.CERT_CAP, R, V11, "does not go with CERT_CAP"),
    (R.PUB_KEY_ID_CAP | R.ALIAS_CERT_CAP, R, V12, "does not go with ALIAS_CERT_CAP"),
    (
        R.PUB_KEY_ID_CAP | R.MULTI_KEY_CAP_ONLY | R.GET_KEY_PAIR_INFO_CAP,
        R,
        V13,
        "does not go with MULTI_KEY_CAP_ONLY",
    ),
    (R.CSR_CAP, R, V12, "CSR_CAP needs SET_CERT_CAP"),
    (R.CERT_INSTALL_RESET_CAP, R, V12, "CERT_INSTALL_RESET_CAP needs SET_CERT_CAP"),
    (R.MULTI_KEY_CAP_ONLY, R, V13, "needs GET_KEY_PAIR_INFO_CAP"),
    (R.MULTI_KEY_CAP_NEG, R, V13, "needs GET_KEY_PAIR_INFO_CAP"),
    (R.SET_KEY_PAIR_RESET_CAP, R, V14, "needs SET_KEY_PAIR_INFO_CAP"),
]


@pytest.mark.parametrize(("flags", "role", "version"), LEGAL)
def test_legal(flags: int, role: type[Q] | type[R], version: int) -> None:
    assert invalid_capabilities(flags, role, version) is None


@pytest.mark.parametrize(("flags", "role", "version", "reason"), ILLEGAL)
def test_illegal(flags: int, role: type[Q] | type[R], version: int, reason: str) -> None:
    found = invalid_capabilities(flags, role, version)
    assert found is not None
    assert reason in found


@pytest.mark.parametrize(("flags", "role", "version", "_reason"), ILLEGAL)
def test_versions_that_reserve_the_bits_ignore_them(
    flags: int, role: type[Q] | type[R], version: int, _reason: str
) -> None:
    """In 1.0 a Requester has no flags at all, and a Responder six bits."""
    if role is Q or not flags & 0x3F:
        assert invalid_capabilities(flags, role, V10) is None


def test_bits_of_every_version() -> None:
    """What the first version with a flag defines, all later ones do."""
    for role in (Q, R):
        for flag in role:
            known = [
                version
                for version in VERSIONS
                if invalid_capabilities(flag, role, version) is not None
            ]
            assert known == [version for version in VERSIONS if known and version >= known[0]]


def test_named_flags_of_messages() -> None:
    assert GetCapabilities(flags=1 << 17).capabilities == Q.CHUNK_CAP
    assert Capabilities(flags=2 << 3).capabilities == R.MEAS_CAP_SIG
    assert ResponderExtendedFlags(1) is ResponderExtendedFlags.SLOT_MGMT_CAP
    # Bits that nobody defined stay visible.
    assert int(R(1 << 31 | 1)) == 1 << 31 | 1
    assert int(Q(1)) == 1

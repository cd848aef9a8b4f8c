"""Capability flags and the rules that make a combination legal (DSP0274 10.3)."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import TypeAlias

from spdmkit.messages.context import V10, V11, V12, V13, V14

__all__ = [
    "Capability",
    "RequesterFlags",
    "ResponderExtendedFlags",
    "ResponderFlags",
    "invalid_capabilities",
]


class RequesterFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of GET_CAPABILITIES (DSP0274 table 13)."""

    CERT_CAP = 1 << 1
    CHAL_CAP = 1 << 2
    ENCRYPT_CAP = 1 << 6
    MAC_CAP = 1 << 7
    MUT_AUTH_CAP = 1 << 8
    KEY_EX_CAP = 1 << 9
    PSK_CAP = 1 << 10
    ENCAP_CAP = 1 << 12
    HBEAT_CAP = 1 << 13
    KEY_UPD_CAP = 1 << 14
    HANDSHAKE_IN_THE_CLEAR_CAP = 1 << 15
    PUB_KEY_ID_CAP = 1 << 16
    CHUNK_CAP = 1 << 17
    EP_INFO_CAP_NO_SIG = 1 << 22
    EP_INFO_CAP_SIG = 2 << 22
    EVENT_CAP = 1 << 25
    MULTI_KEY_CAP_ONLY = 1 << 26
    MULTI_KEY_CAP_NEG = 2 << 26
    LARGE_RESP_CAP = 1 << 31

    PSK_CAP_MASK = 3 << 10
    EP_INFO_CAP_MASK = 3 << 22
    MULTI_KEY_CAP_MASK = 3 << 26


class ResponderFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of CAPABILITIES (DSP0274 table 15)."""

    CACHE_CAP = 1 << 0
    CERT_CAP = 1 << 1
    CHAL_CAP = 1 << 2
    MEAS_CAP_NO_SIG = 1 << 3
    MEAS_CAP_SIG = 2 << 3
    MEAS_FRESH_CAP = 1 << 5
    ENCRYPT_CAP = 1 << 6
    MAC_CAP = 1 << 7
    MUT_AUTH_CAP = 1 << 8
    KEY_EX_CAP = 1 << 9
    PSK_CAP_NO_CONTEXT = 1 << 10
    PSK_CAP_CONTEXT = 2 << 10
    ENCAP_CAP = 1 << 12
    HBEAT_CAP = 1 << 13
    KEY_UPD_CAP = 1 << 14
    HANDSHAKE_IN_THE_CLEAR_CAP = 1 << 15
    PUB_KEY_ID_CAP = 1 << 16
    CHUNK_CAP = 1 << 17
    ALIAS_CERT_CAP = 1 << 18
    SET_CERT_CAP = 1 << 19
    CSR_CAP = 1 << 20
    CERT_INSTALL_RESET_CAP = 1 << 21
    EP_INFO_CAP_NO_SIG = 1 << 22
    EP_INFO_CAP_SIG = 2 << 22
    MEL_CAP = 1 << 24
    EVENT_CAP = 1 << 25
    MULTI_KEY_CAP_ONLY = 1 << 26
    MULTI_KEY_CAP_NEG = 2 << 26
    GET_KEY_PAIR_INFO_CAP = 1 << 28
    SET_KEY_PAIR_INFO_CAP = 1 << 29
    SET_KEY_PAIR_RESET_CAP = 1 << 30
    LARGE_RESP_CAP = 1 << 31

    MEAS_CAP_MASK = 3 << 3
    PSK_CAP_MASK = 3 << 10
    EP_INFO_CAP_MASK = 3 << 22
    MULTI_KEY_CAP_MASK = 3 << 26


class ResponderExtendedFlags(enum.IntFlag, boundary=enum.KEEP):
    """ExtFlags of CAPABILITIES (DSP0274 table 16); those of the Requester are all reserved."""

    SLOT_MGMT_CAP = 1 << 0


Capability: TypeAlias = RequesterFlags | ResponderFlags

Q = RequesterFlags
R = ResponderFlags


@dataclass(frozen=True, slots=True)
class Rule:
    """One "shall" about flags: if all of `given` are set, one of `needs` and none of `forbids`.

    Attributes:
        given: flags that must all be set, or values of a two-bit field.
        needs: at least one of these must be set too; 0 when nothing is needed.
        forbids: none of these may be set.
    """

    given: int
    needs: int = 0
    forbids: int = 0


REQUESTER_RULES = (
    Rule(Q.KEY_EX_CAP, needs=Q.ENCRYPT_CAP | Q.MAC_CAP),
    Rule(Q.PSK_CAP, needs=Q.ENCRYPT_CAP | Q.MAC_CAP),
    Rule(Q.ENCRYPT_CAP, needs=Q.KEY_EX_CAP | Q.PSK_CAP),
    Rule(Q.HANDSHAKE_IN_THE_CLEAR_CAP, needs=Q.ENCRYPT_CAP | Q.MAC_CAP),
    Rule(Q.HANDSHAKE_IN_THE_CLEAR_CAP | Q.PSK_CAP, needs=Q.KEY_EX_CAP),
    Rule(Q.PUB_KEY_ID_CAP, forbids=Q.CERT_CAP | Q.MULTI_KEY_CAP_MASK),
)
"""Rules for the Requester (DSP0274 table 13; ENCRYPT_CAP without a key exchange: 10.3)."""

RESPONDER_RULES = (
    Rule(R.KEY_EX_CAP, needs=R.ENCRYPT_CAP | R.MAC_CAP),
    Rule(R.PSK_CAP_NO_CONTEXT, needs=R.ENCRYPT_CAP | R.MAC_CAP),
    Rule(R.PSK_CAP_CONTEXT, needs=R.ENCRYPT_CAP | R.MAC_CAP),
    Rule(R.ENCRYPT_CAP, needs=R.KEY_EX_CAP | R.PSK_CAP_MASK),
    Rule(R.MAC_CAP, needs=R.KEY_EX_CAP | R.PSK_CAP_MASK),
    Rule(R.HANDSHAKE_IN_THE_CLEAR_CAP, needs=R.KEY_EX_CAP),
    Rule(
        R.PUB_KEY_ID_CAP,
        forbids=R.CERT_CAP | R.ALIAS_CERT_CAP | R.MULTI_KEY_CAP_MASK,
    ),
    Rule(R.CSR_CAP, needs=R.SET_CERT_CAP),
    Rule(R.CERT_INSTALL_RESET_CAP, needs=R.SET_CERT_CAP),
    Rule(R.MULTI_KEY_CAP_ONLY, needs=R.GET_KEY_PAIR_INFO_CAP),
    Rule(R.MULTI_KEY_CAP_NEG, needs=R.GET_KEY_PAIR_INFO_CAP),
    Rule(R.SET_KEY_PAIR_RESET_CAP, needs=R.SET_KEY_PAIR_INFO_CAP),
)
"""Rules for the Responder (DSP0274 table 15)."""

RESERVED_VALUES = {
    Q: (2 << 10, 3 << 10, 3 << 22, 3 << 26),
    R: (3 << 3, 3 << 10, 3 << 22, 3 << 26),
}
"""Values of the two-bit fields that mean nothing."""

FIELDS = (3 << 3, 3 << 10, 3 << 22, 3 << 26)
"""The two-bit fields: MEAS_CAP, PSK_CAP, EP_INFO_CAP, MULTI_KEY_CAP."""

DEFINED = {
    Q: {V10: 0, V11: 0x0001_F7C6, V12: 0x0003_F7C6, V13: 0x0EC3_F7C6, V14: 0x8EC3_F7C6},
    R: {V10: 0x0000_003F, V11: 0x0001_FFFF, V12: 0x003F_FFFF, V13: 0x3FFF_FFFF, V14: 0xFFFF_FFFF},
}
"""Bits that mean something, by role and version; the others are ignored on reading.

Bit 11 of the Requester is reserved, but part of a field whose values are checked.
"""


@functools.lru_cache(maxsize=64)
def invalid_capabilities(
    flags: int, role: type[RequesterFlags] | type[ResponderFlags], version: int
) -> str | None:
    """Why a combination of flags is illegal, or None when it is legal.

    These are the specification's own rules, no more: the reference implementation refuses
    further combinations (for example CERT_CAP without anything that uses a certificate).

    Args:
        flags: the Flags field.
        role: `RequesterFlags` for GET_CAPABILITIES, `ResponderFlags` for CAPABILITIES.
        version: the SPDM version; bits it reserves are not looked at.
    """
    seen = flags & (DEFINED[role][version] | (1 << 11 if role is Q and version >= V11 else 0))
    for value in RESERVED_VALUES[role]:
        field = next(field for field in FIELDS if field & value == value)
        if seen & field == value:
            return f"{_names(role, field)} has a reserved value"
    for rule in REQUESTER_RULES if role is Q else RESPONDER_RULES:
        if seen & rule.given != rule.given:
            continue
        if rule.needs and not seen & rule.needs:
            return f"{_names(role, rule.given)} needs {_names(role, rule.needs, ' or ')}"
        if seen & rule.forbids:
            both = _names(role, seen & rule.forbids)
            return f"{_names(role, rule.given)} does not go with {both}"
    return None


def _names(role: type[Capability], flags: int, between: str = " and ") -> str:
    """The names of flags; of a whole two-bit field its own."""
    for name, member in role.__members__.items():
        if member == flags:
            return name.removesuffix("_MASK")
    return between.join(str(flag.name) for flag in role(flags))

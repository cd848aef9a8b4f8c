"""What the runtime looks things up in: algorithms, codes, rules, and the constants of hashes."""

from __future__ import annotations

from typing import Any

from spdmkit.capture.wireshark.lua import Raw
from spdmkit.crypto import registry
from spdmkit.messages import (
    VERSIONS,
    AlgType,
    ErrorCode,
    RequesterFlags,
    ResponderFlags,
    error_name,
)
from spdmkit.messages.capabilities import DEFINED, REQUESTER_RULES, RESPONDER_RULES, Rule
from spdmkit.messages.dsp0287 import DSP_NUMBER, SubId
from spdmkit.transports.emu import EmuCommand, EmuTransport
from spdmkit.transports.tcp import BINDING_VERSION, FIRST_ERROR, MessageType

__all__ = ["constants"]

_SHA2_ROUNDS = 80

_MASKS = {
    "base_asym_algo": "base_asym",
    "base_asym_sel": "base_asym",
    "base_hash_algo": "base_hash",
    "base_hash_sel": "base_hash",
    "measurement_hash_algo": "measurement_hash",
    "pqc_asym_algo": "pqc_asym",
    "pqc_asym_sel": "pqc_asym",
}
"""Attributes that are masks of algorithms."""

_STRUCTURES = {
    AlgType.DHE: "dhe",
    AlgType.AEAD: "aead",
    AlgType.REQ_BASE_ASYM_ALG: "base_asym",
    AlgType.KEY_SCHEDULE: "key_schedule",
    AlgType.REQ_PQC_ASYM_ALG: "pqc_asym",
    AlgType.KEM_ALG: "kem",
}
"""What the mask in an algorithm structure is one of."""


def constants() -> dict[str, Any]:
    """Name below `S` -> value."""
    return {
        "versions": dict.fromkeys(VERSIONS, True),
        "binding_version": BINDING_VERSION,
        "first_binding_error": FIRST_ERROR,
        "binding_types": {int(kind): kind.name for kind in MessageType},
        "error_names": {int(code): error_name(code) for code in ErrorCode},
        "dsp_number": DSP_NUMBER,
        "services": {int(sub_id): sub_id.name for sub_id in SubId},
        "emu_commands": {int(command): command.name for command in EmuCommand},
        "emu_transports": {int(kind): kind.name for kind in EmuTransport},
        "algorithms": _algorithms(),
        "algorithm_masks": _MASKS,
        "algorithm_structures": {int(alg_type): kind for alg_type, kind in _STRUCTURES.items()},
        "capability_flags": {
            "encrypt": int(RequesterFlags.ENCRYPT_CAP),
            "clear": int(RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP),
            "multi_key": int(RequesterFlags.MULTI_KEY_CAP_MASK),
            "multi_key_negotiated": int(RequesterFlags.MULTI_KEY_CAP_NEG),
            "multi_key_only": int(RequesterFlags.MULTI_KEY_CAP_ONLY),
        },
        "capability_rules": {
            "requester": _rules(REQUESTER_RULES, RequesterFlags),
            "responder": _rules(RESPONDER_RULES, ResponderFlags),
        },
        "capability_bits": {
            "requester": DEFINED[RequesterFlags],
            "responder": DEFINED[ResponderFlags],
        },
        **_sha2(),
        **_keccak(),
    }


def _algorithms() -> dict[str, dict[int, dict[str, Any]]]:
    """By kind and bit: the name, and the sizes that messages depend on."""
    return {
        "base_hash": {e.bit: {"name": e.short, "size": e.size} for e in registry.BASE_HASH},
        "measurement_hash": {
            e.bit: {"name": e.short, "size": e.size} for e in registry.MEASUREMENT_HASH
        },
        "base_asym": {
            e.bit: {"name": e.short, "size": e.signature_size} for e in registry.BASE_ASYM
        },
        "pqc_asym": {e.bit: {"name": e.short, "size": e.signature_size} for e in registry.PQC_ASYM},
        "dhe": {
            e.bit: {"name": e.short, "request": e.exchange_size, "response": e.exchange_size}
            for e in registry.DHE
        },
        "kem": {
            e.bit: {
                "name": e.short,
                "request": e.encapsulation_key_size,
                "response": e.ciphertext_size,
            }
            for e in registry.KEM
        },
        "aead": {e.bit: {"name": e.short} for e in registry.AEAD},
        "key_schedule": {e.bit: {"name": e.short} for e in registry.KEY_SCHEDULE},
    }


def _rules(rules: tuple[Rule, ...], names: type[Any]) -> list[dict[str, Any]]:
    def named(flags: int) -> str:
        for name, member in names.__members__.items():
            if member == flags:
                return str(name).removesuffix("_MASK")
        return ", ".join(str(flag.name) for flag in names(flags))

    return [
        {
            "given": int(rule.given),
            "needs": int(rule.needs) or None,
            "forbids": int(rule.forbids) or None,
            "text": f"{named(rule.given)} needs one of {named(rule.needs)}"
            if rule.needs
            else f"{named(rule.given)} does not go with any of {named(rule.forbids)}",
        }
        for rule in rules
    ]


def _sha2() -> dict[str, Any]:
    """The constants of FIPS 180-4: fractions of the roots of the first primes, in 32-bit halves."""
    primes = _primes(_SHA2_ROUNDS)
    words = [_root(prime << 3 * 64, 3) & (1 << 64) - 1 for prime in primes]
    start = [_root(prime << 2 * 64, 2) & (1 << 64) - 1 for prime in primes[:16]]
    return {
        "sha2_words": _halves(words),
        "sha512_start": _halves(start[:8]),
        "sha384_start": _halves(start[8:]),
        "sha256_start": [word >> 32 for word in start[:8]],
    }


def _keccak() -> dict[str, Any]:
    """The constants of FIPS 202: rotations of the lanes, and what each round adds to the first."""
    rotations = [0] * 25
    x, y = 1, 0
    for step in range(24):
        rotations[x + 5 * y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    rounds, register = [], 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            constant |= (register & 1) << (1 << power) - 1
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        rounds.append(constant)
    return {"keccak_rotations": rotations, "keccak_rounds": _halves(rounds)}


def _halves(words: list[int]) -> list[Any]:
    return [Raw(f"0x{half:08x}") for word in words for half in (word >> 32, word & 0xFFFFFFFF)]


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _root(value: int, degree: int) -> int:
    """The largest integer whose power is not above `value`."""
    low, high = 0, 1 << value.bit_length() // degree + 1
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= value:
            low = middle
        else:
            high = middle - 1
    return low

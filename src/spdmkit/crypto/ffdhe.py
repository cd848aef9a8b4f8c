"""Finite-field Diffie-Hellman in the groups of RFC 7919.

Written here because cryptography deprecated its DH in release 50. gmpy2 is used when it is
installed (extra `ffdhe`): it is some four times as quick and its exponentiation takes the same time
for every exponent. Python's own `pow` does not; an ephemeral exponent serves one exchange, so an
observer of its timing sees it once.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass
from typing import Any

from spdmkit.crypto.availability import Package

__all__ = ["Group", "group", "power"]

_GMPY2 = Package("gmpy2", "gmpy2", "ffdhe")


@dataclass(frozen=True, slots=True)
class Group:
    """A group of RFC 7919; its generator is 2.

    Attributes:
        prime: the safe prime p.
        size: length of p in bytes.
        exponent_bits: length of a secret exponent, by RFC 7919 5.2 and appendix A.
    """

    prime: int
    size: int
    exponent_bits: int

    def random_exponent(self) -> int:
        """A fresh secret exponent of full length."""
        top = 1 << (self.exponent_bits - 1)
        return top | secrets.randbits(self.exponent_bits - 1)

    def contains(self, value: int) -> bool:
        """Whether a number is in the subgroup of prime order that 2 generates, and is not 1.

        RFC 7919 5.1 demands 1 < value < p - 1. For a safe prime the subgroup is the squares, which
        the Jacobi symbol tells at a fraction of an exponentiation's cost.
        """
        return 1 < value < self.prime - 1 and jacobi(value, self.prime) == 1


#: Bits of the prime: the constant X of RFC 7919 appendix A, and bits of a secret exponent there.
_PARAMETERS = {2048: (560316, 225), 3072: (2625351, 275), 4096: (5736041, 325)}


@functools.cache
def group(bits: int) -> Group:
    """The group with a prime of 2048, 3072 or 4096 bits.

    p = 2^b - 2^(b-64) + (floor(2^(b-130) e) + X) 2^64 - 1 (RFC 7919 appendix A).
    """
    offset, exponent_bits = _PARAMETERS[bits]
    fraction = _scaled_e(bits - 130) + offset
    prime = (1 << bits) - (1 << (bits - 64)) + (fraction << 64) - 1
    return Group(prime, bits // 8, exponent_bits)


def _scaled_e(bits: int) -> int:
    """The floor of 2^bits times Euler's number, by its series with 64 bits to spare."""
    guard = 64
    term = total = 1 << (bits + guard)
    divisor = 1
    while term:
        term //= divisor
        total += term
        divisor += 1
    return total >> guard


def power(base: int, exponent: int, modulus: int) -> int:
    """Modular exponentiation with a secret exponent."""
    library = _gmpy2()
    if library is not None:
        return int(library.powmod_sec(base, exponent, modulus))
    return pow(base, exponent, modulus)


def jacobi(value: int, modulus: int) -> int:
    """The Jacobi symbol of a public number, for an odd modulus: 1, -1 or 0."""
    value %= modulus
    sign = 1
    while value:
        twos = (value & -value).bit_length() - 1
        value >>= twos
        if twos & 1 and modulus & 7 in {3, 5}:
            sign = -sign
        if value & 3 == 3 and modulus & 3 == 3:
            sign = -sign
        value, modulus = modulus % value, value
    return sign if modulus == 1 else 0


@functools.cache
def _gmpy2() -> Any:
    return None if _GMPY2.missing() else _GMPY2.load()

"""Damaged certificates: whatever the damage, only our own errors, and never a pass."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from spdmkit.errors import DecodeError, SpdmError
from spdmkit.identity import (
    Certificate,
    CertificateChain,
    ChainPolicy,
    TimePolicy,
    load_certificates,
    read_tcb_infos,
)
from spdmkit.identity.claims import read_device_names

from .helpers import ALIAS_LEAF, DEVICE_CA, ISSUER, LEAF, ROOT, SHA384, anchors, forge_all, verify

MUTATIONS = 2000
SAMPLE = Path(__file__).parents[1] / "data/nvidia-h100/certificate_chain.pem"
DICE = LEAF.also("2.23.133.5.4.1", False, bytes.fromhex("3003830107"))
POLICY = ChainPolicy.for_version(0x10)
PROPERTIES = (
    "version",
    "serial_number",
    "signature_name",
    "signature_hash",
    "key_type",
    "subject",
    "issuer",
    "not_before",
    "not_after",
    "extensions",
    "basic_constraints",
    "key_usage",
    "extended_key_usage",
    "subject_key_identifier",
    "authority_key_identifier",
    "other_names",
    "spdm_oids",
    "public_key",
    "spki_sha256",
    "key_bits",
)


def seeds() -> list[tuple[bytes, ...]]:
    sample = tuple(reversed([item.der for item in load_certificates(SAMPLE.read_bytes())]))
    return [forge_all(ROOT, ISSUER, DICE), forge_all(ROOT, DEVICE_CA, ALIAS_LEAF), sample]


def mutate(der: bytes, rng: random.Random) -> bytes:
    """Flip, set, insert, cut or repeat a few bytes."""
    data = bytearray(der)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0x00, 0x01, 0x30, 0x31, 0x7F, 0x80, 0x84, 0xFF))
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif kind == 3:
            del data[at : at + rng.randrange(1, 5)]
        elif kind == 4:
            end = at + rng.randrange(1, 40)
            data[at:at] = data[at:end]
        else:
            data[at : at + 4] = rng.randbytes(4)
        if not data:
            return b"\x30\x00"
    return bytes(data)


def mutated(count: int) -> Iterator[tuple[tuple[bytes, ...], int, bytes]]:
    rng = random.Random(274)
    chains = seeds()
    for number in range(count):
        ders = chains[number % len(chains)]
        position = rng.randrange(1, len(ders))
        yield ders, position, mutate(ders[position], rng)


def test_reading_raises_our_errors_alone() -> None:
    readable = 0
    for _, _, der in mutated(MUTATIONS):
        certificate = Certificate(der)
        for name in PROPERTIES:
            try:
                getattr(certificate, name)
            except DecodeError:
                continue
            readable += 1
        for read in (read_tcb_infos, read_device_names):
            try:
                read(certificate)
            except DecodeError:
                continue
    assert readable > MUTATIONS  # the damage was not so great that nothing was read


@pytest.mark.parametrize("fix_lengths", [False, True])
def test_verifying_raises_our_errors_alone(fix_lengths: bool) -> None:
    checks: set[str] = set()
    for ders, position, der in mutated(MUTATIONS):
        if der == ders[position]:
            continue
        changed = (*ders[:position], der, *ders[position + 1 :])
        body = SHA384.digest(ders[0]) + b"".join(changed)
        length = 4 + len(body)
        try:
            if fix_lengths:  # past the cutting, as if the certificate had been cut so
                raw = length.to_bytes(4, "little") + body
                chain = CertificateChain(raw, changed, body[: SHA384.size], SHA384)
            else:
                chain = CertificateChain.parse(length.to_bytes(4, "little") + body, SHA384)
            verify(
                chain,
                anchors(ders[0]),
                policy=POLICY,
                time=TimePolicy.ignoring_validity(),
            )
        except SpdmError as error:
            checks.add(getattr(error, "check", "decode"))
            continue
        pytest.fail(f"believed a damaged certificate: {der.hex()}")
    assert {"structure", "signatures"} <= checks

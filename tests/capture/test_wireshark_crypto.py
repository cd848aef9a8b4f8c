"""The hashes and ciphers of the dissector, beside those of Python and pyca."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from spdmkit.capture.wireshark.lua import literal
from spdmkit.capture.wireshark.tables import constants

from .support import TSHARK, needs_tshark

HASHES = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}
CIPHERS: dict[str, tuple[type[AESGCM] | type[ChaCha20Poly1305], int]] = {
    "aes-128-gcm": (AESGCM, 16),
    "aes-256-gcm": (AESGCM, 32),
    "chacha20-poly1305": (ChaCha20Poly1305, 32),
}

LENGTHS = (0, 1, 16, 55, 56, 64, 71, 72, 103, 104, 111, 112, 128, 135, 136, 300)
"""Around the blocks of all hashes."""


def text(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


def check(name: str, expression: str, expected: bytes | None) -> str:
    value = "nil" if expected is None else text(expected)
    wrong = f"print('WRONG', {literal(name)})"
    return f"if {expression} ~= {value} then {wrong} else right = right + 1 end"


def digests(source: random.Random) -> Iterator[str]:
    for name in HASHES:
        for length in LENGTHS:
            data = source.randbytes(length)
            python = name.replace("-", "") if name.startswith("sha-") else name.replace("-", "_")
            expected = hashlib.new(python, data).digest()
            yield check(f"{name} {length}", f"S.hashes['{name}'].digest({text(data)})", expected)


def derivations(source: random.Random) -> Iterator[str]:
    for name, algorithm in HASHES.items():
        secret = source.randbytes(algorithm.digest_size)
        for label, length in (("key", 32), ("iv", 12), ("traffic upd", algorithm.digest_size)):
            info = length.to_bytes(2, "little") + b"spdm1.3 " + label.encode()
            expected = HKDFExpand(algorithm, length, info).derive(secret)
            call = f"S.derive(S.hashes['{name}'], {text(secret)}, 0x13, '{label}', {length})"
            yield check(f"{name} {label}", call, expected)


def openings(source: random.Random) -> Iterator[str]:
    for name, (cipher, key_size) in CIPHERS.items():
        for length in (0, 1, 15, 16, 17, 63, 64, 65, 300):
            key, nonce = source.randbytes(key_size), source.randbytes(12)
            plain, associated = source.randbytes(length), source.randbytes(length % 23)
            sealed = cipher(key).encrypt(nonce, plain, associated)
            for bent, expected in ((sealed, plain), (bytes((sealed[0] ^ 1,)) + sealed[1:], None)):
                arguments = ", ".join(map(text, (key, nonce, bent, associated)))
                call = f"S.ciphers['{name}'].open({arguments})"
                yield check(f"{name} {length}", call, expected)


@needs_tshark
@pytest.mark.parametrize("checks", [digests, derivations, openings], ids=lambda f: f.__name__)
def test_they_agree(checks: object, tmp_path: Path) -> None:
    assert callable(checks)
    lines = list(checks(random.Random(4194)))
    runtime = resources.files("spdmkit.capture.wireshark") / "runtime" / "crypto.lua"
    script = tmp_path / "checks.lua"
    script.write_text(
        "\n".join(
            [
                "local S, right = {}, 0",
                *(f"S.{name} = {literal(value)}" for name, value in constants().items()),
                f"do\n{runtime.read_text(encoding='utf-8')}\nend",
                *lines,
                "print('RIGHT', right)",
            ]
        )
    )
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    done = subprocess.run(
        [TSHARK, "-X", f"lua_script:{script}", "-r", str(empty)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "WRONG" not in done.stdout
    assert f"RIGHT\t{len(lines)}" in done.stdout, done.stderr

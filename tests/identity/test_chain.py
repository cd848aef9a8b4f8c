"""The certificate chain structure: cut strictly, kept as received, built from files."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spdmkit.crypto.registry import BASE_HASH
from spdmkit.errors import ConfigurationError, DecodeError
from spdmkit.identity import (
    Certificate,
    CertificateChain,
    known_chain,
    load_certificates,
    moment_text,
    order_certificates,
)
from spdmkit.identity.chain import MAX_CERTIFICATES, MAX_LARGE_CHAIN

from .helpers import (
    ALIAS_LEAF,
    DEVICE_CA,
    ISSUER,
    LEAF,
    ROOT,
    SHA384,
    Spec,
    forge_all,
    forge_chain,
)

DERS = forge_all(ROOT, ISSUER, LEAF)
CHAIN = CertificateChain.from_certificates(DERS, SHA384)
PREFIX = 4 + SHA384.size


def pem(*ders: bytes) -> bytes:
    return b"".join(Certificate(der).x509.public_bytes(Encoding.PEM) for der in ders)


def raw(body: bytes, length: int | None = None) -> bytes:
    """The structure around `body`, with a Length of one's choice."""
    total = PREFIX + len(body) if length is None else length
    return total.to_bytes(4, "little") + bytes(SHA384.size) + body


@pytest.mark.parametrize("large", [False, True])
def test_round_trip(large: bool) -> None:
    again = CertificateChain.parse(memoryview(CHAIN.raw), SHA384, large)
    assert again == CHAIN
    assert again.encode() == CHAIN.raw
    assert again.certificates == DERS
    assert again.root_hash == SHA384.digest(DERS[0])
    assert again.digest() == SHA384.digest(CHAIN.raw)
    assert again.digest(BASE_HASH.by_name("sha-256")) == BASE_HASH.by_name("sha-256").digest(
        CHAIN.raw
    )
    assert again.leaf.der == DERS[2]
    assert len(again) == 3
    assert not again.needs_large_form


def test_layout_byte_by_byte() -> None:
    assert int.from_bytes(CHAIN.raw[:2], "little") == len(CHAIN.raw)
    assert CHAIN.raw[2:4] == b"\0\0"
    assert CHAIN.raw[4:PREFIX] == SHA384.digest(DERS[0])
    assert CHAIN.raw[PREFIX:] == b"".join(DERS)


@pytest.mark.parametrize("name", ["sha-256", "sha-512", "sha3-384"])
def test_every_hash_size(name: str) -> None:
    algorithm = BASE_HASH.by_name(name)
    chain = CertificateChain.from_certificates(DERS, algorithm)
    assert CertificateChain.parse(chain.raw, algorithm).root_hash == algorithm.digest(DERS[0])


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        (b"", "RootHash", "too few"),
        (CHAIN.raw[:3], "RootHash", "too few"),
        (CHAIN.raw[: PREFIX - 1], "RootHash", "too few"),
        (raw(b""), "Certificates", "no certificate"),
        (CHAIN.raw[:-1], "Length", "there are"),
        (CHAIN.raw + b"\0", "Length", "there are"),
        (raw(DERS[0], PREFIX + len(DERS[0]) + 1), "Length", "says"),
        (CHAIN.raw[:2] + b"\1\0" + CHAIN.raw[4:], "Length", "says"),
        (raw(DERS[0] + b"\0"), "Certificates[1]", "does not begin"),
        (raw(b"\x04\x01\x00"), "Certificates[0]", "does not begin"),
        (raw(DERS[0] + DERS[1][:-1]), "Certificates[1]", "announced"),
        (raw(b"\x30\x80\x00\x00"), "Certificates[0]", "indefinite"),
        (raw(b"\x30\x84\xff\xff\xff\xff"), "Certificates[0]", "announced"),
        (raw(b"\x30\x81\x01\x00"), "Certificates[0]", "shortest"),
        (raw(b"\x30\x00" * (MAX_CERTIFICATES + 1)), "Certificates[16]", "more than 16"),
    ],
)
def test_refused(data: bytes, field: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as caught:
        CertificateChain.parse(data, SHA384)
    assert caught.value.field == field
    assert caught.value.message == "CertificateChain"


def test_the_number_of_certificates_can_be_limited_further() -> None:
    CertificateChain.parse(CHAIN.raw, SHA384, max_certificates=3)
    with pytest.raises(DecodeError, match="more than 2"):
        CertificateChain.parse(CHAIN.raw, SHA384, max_certificates=2)


def test_the_small_form_ends_at_64_kib() -> None:
    big = b"\x30\x83\x01\x00\x00" + bytes(0x10000)
    data = raw(big)
    assert CertificateChain.parse(data, SHA384, large=True).needs_large_form
    with pytest.raises(DecodeError, match="the limit is 65535"):
        CertificateChain.parse(data, SHA384)


def test_the_large_form_has_a_limit_too() -> None:
    with pytest.raises(DecodeError, match="the limit is"):
        CertificateChain.parse(bytes(MAX_LARGE_CHAIN + 1), SHA384, large=True)


class TestBuilding:
    def test_root_left_out(self) -> None:
        chain = CertificateChain.from_certificates(DERS[1:], SHA384, root=DERS[0])
        assert chain.root_hash == SHA384.digest(DERS[0])
        assert chain.certificates == DERS[1:]

    @pytest.mark.parametrize(
        "ders",
        [
            (),
            (DERS[0],) * (MAX_CERTIFICATES + 1),
            (DERS[0] + DERS[1],),
            (DERS[0][:-1],),
            (b"",),
            (b"\x04\x00",),
        ],
        ids=["none", "too many", "two in one", "cut", "empty", "no certificate"],
    )
    def test_refused(self, ders: tuple[bytes, ...]) -> None:
        with pytest.raises(ConfigurationError):
            CertificateChain.from_certificates(ders, SHA384)

    def test_too_long(self) -> None:
        with pytest.raises(ConfigurationError, match="limit"):
            CertificateChain.from_certificates(
                [b"\x30\x83\x0f\xff\xf0" + bytes(0x0FFFF0)] * 2, SHA384
            )


class TestFiles:
    def test_pem_in_any_order(self) -> None:
        ders = forge_all(ROOT, ISSUER, DEVICE_CA, ALIAS_LEAF)
        rng = random.Random(1)
        for _ in range(10):
            shuffled = rng.sample(ders, len(ders))
            chain = CertificateChain.from_file_bytes(pem(*shuffled), SHA384)
            assert chain.certificates == ders

    def test_pem_with_text_between(self) -> None:
        data = b"subject=leaf\n" + pem(DERS[2]) + b"\nissuer\n" + pem(*DERS[:2])
        assert CertificateChain.from_file_bytes(data, SHA384) == CHAIN

    def test_concatenated_der(self) -> None:
        assert CertificateChain.from_file_bytes(b"".join(reversed(DERS)), SHA384) == CHAIN

    def test_repeated_certificates_count_once(self) -> None:
        assert CertificateChain.from_file_bytes(pem(*DERS, DERS[0]), SHA384) == CHAIN

    def test_root_left_out(self) -> None:
        ordered = order_certificates(load_certificates(pem(DERS[2], DERS[1])))
        assert [item.der for item in ordered] == list(DERS[1:])

    def test_cross_signed_names_are_told_apart_by_key_identifiers(self) -> None:
        # two issuers of one name: only the key identifier says which one issued the leaf
        first, second = (with_key_identifiers(name) for name in ("issuer", "another issuer"))
        leaf = LEAF.also("2.5.29.35", False, bytes.fromhex("30168014") + b"a" * 20)
        root, chosen, der = forge_all(ROOT, first, leaf)
        other = forge_all(ROOT, second)[1]
        for files in ([other, chosen], [chosen, other]):
            found = order_certificates(Certificate(item) for item in (der, chosen, root))
            assert [item.der for item in found] == [root, chosen, der]
            with pytest.raises(ConfigurationError, match="no single chain"):
                order_certificates(Certificate(item) for item in (der, *files, root))

    @pytest.mark.parametrize(
        "ders",
        [
            (DERS[0], DERS[2]),
            (*DERS, forge_all(ROOT, ISSUER, ALIAS_LEAF)[2]),
            (*DERS, forge_all(Spec("x", "CN=X", {}))[0]),
        ],
        ids=["gap", "two leaves", "stranger"],
    )
    def test_no_single_chain(self, ders: tuple[bytes, ...]) -> None:
        with pytest.raises(ConfigurationError, match="no single chain") as caught:
            CertificateChain.from_file_bytes(pem(*ders), SHA384, source="chain.pem")
        assert "chain.pem" in str(caught.value)

    def test_a_loop_ends(self) -> None:
        one = Spec("a", "CN=A", {}, issuer="CN=B", signer="b")
        two = Spec("b", "CN=B", {}, issuer="CN=A", signer="a")
        ders = forge_all(one)[0], forge_all(two)[0]
        with pytest.raises(ConfigurationError, match="no single chain"):
            order_certificates(map(Certificate, ders))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"garbage",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            b"\x30\x03\x02\x01\x00",
            DERS[0][:-1],
        ],
        ids=["empty", "garbage", "PEM garbage", "key", "DER garbage", "cut"],
    )
    def test_unreadable(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match=r"x\.pem"):
            load_certificates(data, source="x.pem")


def with_key_identifiers(name: str) -> Spec:
    identifier = b"a" * 20 if name == "issuer" else b"b" * 20
    return Spec(name, ISSUER.subject, ISSUER.extensions).also(
        "2.5.29.14", False, b"\x04\x14" + identifier
    )


def test_a_certificate_is_parsed_once() -> None:
    chain = CertificateChain.parse(forge_chain(ROOT, ISSUER, LEAF).raw, SHA384)
    assert chain.parsed is chain.parsed
    assert chain.leaf.x509 is chain.leaf.x509


def test_a_chain_with_a_certificate_that_cannot_be_read_is_still_cut() -> None:
    chain = CertificateChain.parse(raw(DERS[0] + b"\x30\x00"), SHA384)
    with pytest.raises(DecodeError):
        _ = chain.leaf.x509


def test_the_sample_of_a_real_device_runs_leaf_first() -> None:
    data = (Path(__file__).parents[1] / "data/nvidia-h100/certificate_chain.pem").read_bytes()
    loaded = load_certificates(data)
    chain = CertificateChain.from_file_bytes(data, SHA384)
    assert [item.der for item in reversed(loaded)] == list(chain.certificates)


def test_a_chain_that_is_known_is_not_parsed_again() -> None:
    chain = known_chain(CHAIN.raw, SHA384)
    assert chain == CHAIN
    assert known_chain(bytes(bytearray(CHAIN.raw)), SHA384) is chain
    assert known_chain(CHAIN.raw, SHA384, True) is not chain
    with pytest.raises(DecodeError):  # its RootHash has the size of another hash
        known_chain(CHAIN.raw, BASE_HASH.by_name("sha-256"))
    with pytest.raises(DecodeError):
        known_chain(CHAIN.raw[:-1], SHA384)


def test_chains_of_some_size_are_parsed_each_time() -> None:
    many = CertificateChain.from_certificates((*DERS[:1], *[DERS[1]] * 14, DERS[2]), SHA384)
    assert len(many.raw) < 0x4000
    assert known_chain(many.raw, SHA384) is known_chain(many.raw, SHA384)
    padded = raw(DERS[0] + b"\x30\x82\x40\x00" + bytes(0x4000))
    assert known_chain(padded, SHA384) is not known_chain(padded, SHA384)


def test_texts_of_moments_are_those_of_their_zones() -> None:
    moment = dt.datetime(2026, 11, 26, 10, 0, 5, tzinfo=dt.UTC)
    elsewhere = moment.astimezone(dt.timezone(dt.timedelta(hours=2)))
    assert moment == elsewhere
    assert moment_text(moment) == "2026-11-26 10:00:05"
    assert moment_text(elsewhere) == "2026-11-26 12:00:05"
    assert moment_text(moment) == "2026-11-26 10:00:05"

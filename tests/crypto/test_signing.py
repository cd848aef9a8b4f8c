"""SPDM signatures: recorded ones, OpenSSL's, our own, and every way to be wrong."""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from spdmkit.crypto import signing
from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.crypto.keys import LocalSigner, PrivateKey, PublicKey, Signer
from spdmkit.crypto.rawkeys import RawPrivate, RawPublic
from spdmkit.crypto.registry import (
    BASE_ASYM,
    BASE_HASH,
    PQC_ASYM,
    SignatureAlgorithm,
    signature_algorithm,
)
from spdmkit.crypto.signing import (
    SigningContext,
    combined_prefix,
    sign,
    sign_certificate,
    verify,
    verify_certificate,
)
from spdmkit.errors import AuthenticationError, SpdmError, UnsupportedAlgorithm

from .support import SHA256, SHA384, SHA512, SM3, flip, need, recorded

V10, V11, V12, V13, V14 = 0x10, 0x11, 0x12, 0x13, 0x14
MEASUREMENTS = SigningContext.RESPONDER_MEASUREMENTS
DIGEST = SHA384.digest(b"a transcript")

#: One algorithm of each kind; the small-and-slow SLH-DSA sets and big RSA keys take seconds.
QUICK = [
    "rsassa-2048",
    "rsapss-2048",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "sm2-p256",
    "ed25519",
    "ed448",
    "ml-dsa-44",
    "ml-dsa-65",
    "ml-dsa-87",
    "slh-dsa-sha2-128f",
    "slh-dsa-shake-128f",
    "slh-dsa-sha2-192f",
    "slh-dsa-sha2-256f",
]


@functools.cache
def key_for(key_type: str) -> PrivateKey:
    entry = next(e for t in (BASE_ASYM, PQC_ASYM) for e in t if e.key_type == key_type)
    return PrivateKey.generate(entry)


@functools.cache
def signed(name: str) -> tuple[SignatureAlgorithm, PrivateKey, bytes]:
    """An algorithm, a key and a 1.4 MEASUREMENTS signature over DIGEST."""
    entry = signature_algorithm(name)
    key = key_for(entry.key_type)
    return (
        entry,
        key,
        sign(entry, key, version=V14, context=MEASUREMENTS, hash=SHA384, digest=DIGEST),
    )


def check(name: str, **changes: Any) -> None:
    """Verify what `signed` made, with some arguments replaced."""
    entry, key, signature = signed(name)
    arguments: dict[str, Any] = {
        "algorithm": entry,
        "public_key": key.public_key,
        "signature": signature,
        "version": V14,
        "context": MEASUREMENTS,
        "hash": SHA384,
        "digest": DIGEST,
    }
    arguments.update(changes)
    verify(**arguments)


def rejected(name: str, reason: str = "does not hold", **changes: Any) -> None:
    with pytest.raises(AuthenticationError, match=reason) as caught:
        check(name, **changes)
    assert caught.value.step == "signature"
    assert caught.value.exit_code == 1


# --- the prefix ----------------------------------------------------------------------------------


def test_prefix_of_challenge_auth_in_spdm_1_2() -> None:
    assert combined_prefix(V12, SigningContext.RESPONDER_CHALLENGE_AUTH).hex() == (
        "646d74662d7370646d2d76312e322e2a" * 4
        + "00000000726573706f6e6465722d6368616c6c656e67655f61757468207369676e696e67"
    )


@pytest.mark.parametrize("context", list(SigningContext), ids=lambda c: c.name)
@pytest.mark.parametrize("version", [V12, V13, V14])
def test_prefix_has_100_bytes_and_ends_with_the_context(
    version: int, context: SigningContext
) -> None:
    prefix = combined_prefix(version, context)
    assert len(prefix) == 100
    assert prefix.endswith(b"\x00" + context.value.encode())
    assert prefix.startswith(b"dmtf-spdm-v1.%d.*" % (version & 0xF))
    assert context.name.split("_")[0].lower() == context.value.split("-")[0]
    assert combined_prefix(version, context) is prefix


@pytest.mark.parametrize("version", [0x10, 0x11, 0x1A, 0x20, 0x00])
def test_versions_without_prefix(version: int) -> None:
    with pytest.raises(ValueError, match="no signing prefix"):
        combined_prefix(version, MEASUREMENTS)


# --- witnesses -----------------------------------------------------------------------------------

RECORDED: list[dict[str, Any]] = recorded("recorded_signatures.json")
OPENSSL: list[dict[str, Any]] = recorded("openssl_signatures.json")


def arguments_of(vector: dict[str, Any]) -> dict[str, Any]:
    pqc = vector["algorithm"].startswith(("ML-", "SLH-"))
    return {
        "algorithm": (PQC_ASYM if pqc else BASE_ASYM).by_name(vector["algorithm"]),
        "public_key": PublicKey.from_spki(bytes.fromhex(vector["spki"])),
        "signature": bytes.fromhex(vector["signature"]),
        "version": vector["version"],
        "context": SigningContext[vector["context"]],
        "hash": BASE_HASH.by_name(vector["hash"]),
        "digest": bytes.fromhex(vector["digest"]),
    }


def vector_id(vector: dict[str, Any]) -> str:
    return f"{vector.get('conversation', 'openssl')}-{vector['algorithm']}-{vector['context']}"


@pytest.mark.parametrize("vector", RECORDED + OPENSSL, ids=vector_id)
def test_signatures_of_other_implementations(vector: dict[str, Any]) -> None:
    arguments = arguments_of(vector)
    need(arguments["algorithm"])
    verify(**arguments)
    changes: list[dict[str, Any]] = [
        {"signature": flip(arguments["signature"], len(arguments["signature"]) // 2)},
        {"digest": flip(arguments["digest"])},
    ]
    if arguments["version"] >= V12:
        changes.append({"context": SigningContext.REQUESTER_FINISH})
    if arguments["version"] >= V12 and arguments["algorithm"].since < V14:
        changes.append({"version": V13 if arguments["version"] != V13 else V12})
    for change in changes:
        with pytest.raises(AuthenticationError):
            verify(**{**arguments, **change})


def test_ed448_context_of_rfc8032() -> None:
    """RFC 8032 7.4, "1 octet (with context)"."""
    need(BASE_ASYM.by_name("ed448"))
    secret = bytes.fromhex(
        "c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463a"
        "fbea67c5e8d2877c5e3bc397a659949ef8021e954e0a12274e"
    )
    expected = bytes.fromhex(
        "d4f8f6131770dd46f40867d6fd5d5055de43541f8c5e35abbcd001b32a89f7d2"
        "151f7647f11d8ca2ae279fb842d607217fce6e042f6815ea000c85741de5c8da"
        "1144a6a1aba7f96de42505d7a7298524fda538fccbbb754f578c1cad10d54d0d"
        "5428407e85dcbc98a49155c13764e66c3c00"
    )
    key = PrivateKey.from_pyca(ed448.Ed448PrivateKey.from_private_bytes(secret))
    whole = signing._Input(b"\x03", False, b"foo", SHA384)
    assert signing._sign_eddsa(key, whole) == expected
    signing._verify_eddsa(key.public_key, expected, whole)


# --- our own -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_signature_holds_and_every_change_is_rejected(name: str) -> None:
    need(signature_algorithm(name))
    entry, key, signature = signed(name)
    assert len(signature) == entry.signature_size
    check(name)
    check(name, signature=memoryview(signature), digest=bytearray(DIGEST))
    middle = len(signature) // 2
    for position in (0, middle, len(signature) - 1):
        with pytest.raises(AuthenticationError):
            check(name, signature=flip(signature, position, 2))
    rejected(name, digest=flip(DIGEST))
    rejected(name, context=SigningContext.RESPONDER_CHALLENGE_AUTH)
    if entry.since <= V13:
        rejected(name, version=V13)
    rejected(name, reason="bytes, .* has", signature=signature[:-1])
    rejected(name, reason="bytes, .* has", signature=signature + b"\x00")
    rejected(name, reason="bytes, .* has", signature=b"")
    stranger = PrivateKey.generate(entry)
    rejected(name, public_key=stranger.public_key)
    assert key.public_key != stranger.public_key


@pytest.mark.parametrize("name", ["ecdsa-p384", "ed25519", "ml-dsa-65", "rsapss-2048"])
def test_role_is_part_of_what_is_signed(name: str) -> None:
    """A requester's signature is not a responder's, all else being equal."""
    entry, key, _ = signed(name)
    for one, other in (
        ("RESPONDER_CHALLENGE_AUTH", "REQUESTER_CHALLENGE_AUTH"),
        ("RESPONDER_ENDPOINT_INFO", "REQUESTER_ENDPOINT_INFO"),
    ):
        signature = sign(
            entry, key, version=V14, context=SigningContext[one], hash=SHA384, digest=DIGEST
        )
        check(name, signature=signature, context=SigningContext[one])
        rejected(name, signature=signature, context=SigningContext[other])


@pytest.mark.parametrize("name", ["rsassa-2048", "rsapss-2048", "ecdsa-p256", "ecdsa-p384"])
@pytest.mark.parametrize("hash_name", [e.short for e in BASE_HASH if e.short != "sm3-256"])
@pytest.mark.parametrize("version", [V10, V11, V12])
def test_every_hash_goes_with_rsa_and_ecdsa(name: str, hash_name: str, version: int) -> None:
    algorithm, base_hash = signature_algorithm(name), BASE_HASH.by_name(hash_name)
    key = key_for(algorithm.key_type)
    digest = base_hash.digest(b"a transcript")
    signature = sign(
        algorithm, key, version=version, context=MEASUREMENTS, hash=base_hash, digest=digest
    )
    change: dict[str, Any] = {
        "algorithm": algorithm,
        "hash": base_hash,
        "digest": digest,
        "signature": signature,
    }
    check(name, **change, version=version)
    rejected(name, **{**change, "digest": flip(digest)}, version=version)
    # Without a prefix nothing tells versions and contexts apart; with one, everything does.
    if version < V12:
        check(name, **change, version=V10, context=SigningContext.REQUESTER_FINISH)
    rejected(name, **change, version=V12 if version < V12 else V11)


def test_spdm_1_0_signs_the_transcript_itself() -> None:
    """1.0 and 1.1: a plain signature over the transcript, as any library makes it."""
    key = key_for("ec-p256")
    handle = key.handle
    assert isinstance(handle, ec.EllipticCurvePrivateKey)
    transcript = b"VCA and the rest"
    encoded = handle.sign(transcript, ec.ECDSA(hashes.SHA256()))
    verify(
        BASE_ASYM.by_name("ecdsa-p256"),
        key.public_key,
        signing._join(encoded, 32),
        version=V11,
        context=MEASUREMENTS,
        hash=SHA256,
        digest=SHA256.digest(transcript),
    )


@pytest.mark.parametrize(
    ("salt", "holds"), [(48, True), (0, False), (32, False), (padding.PSS.MAX_LENGTH, False)]
)
@pytest.mark.parametrize("version", [V11, V12])
def test_pss_salt_is_as_long_as_the_hash(salt: Any, holds: bool, version: int) -> None:
    key = key_for("rsa-2048")
    handle = key.handle
    assert isinstance(handle, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt)
    if version < V12:
        transcript = b"a transcript"
        signature = handle.sign(transcript, pss, hashes.SHA384())
    else:
        signature = handle.sign(
            combined_prefix(version, MEASUREMENTS) + DIGEST, pss, hashes.SHA384()
        )
    change: dict[str, Any] = {"signature": signature, "version": version}
    if holds:
        check("rsapss-2048", **change)
    else:
        rejected("rsapss-2048", **change)


def test_rsassa_and_rsapss_do_not_pass_for_each_other() -> None:
    for name, other in (("rsassa-2048", "rsapss-2048"), ("rsapss-2048", "rsassa-2048")):
        rejected(name, algorithm=signature_algorithm(other))


@pytest.mark.parametrize("name", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "sm2-p256"])
def test_r_and_s_out_of_range(name: str) -> None:
    entry = signature_algorithm(name)
    need(entry)
    signature = signed(name)[2]
    size = len(signature) // 2
    order = signing._ORDERS[entry.key_type]
    r, s = signature[:size], signature[size:]
    zero, top = bytes(size), order.to_bytes(size, "big")
    for wrong in (zero + s, r + zero, zero + zero, top + s, r + top, b"\xff" * (2 * size)):
        rejected(name, reason="not between 1 and the curve's order", signature=wrong)


def test_ecdsa_in_der_is_not_an_spdm_signature() -> None:
    signature = signed("ecdsa-p256")[2]
    encoded = encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )
    rejected("ecdsa-p256", reason="bytes, TPM_ALG_ECDSA_ECC_NIST_P256 has 64", signature=encoded)


def test_halves_are_padded_on_the_left() -> None:
    """P-521's r and s are 521 bits in 66 bytes; a short one keeps its leading zeros."""
    entry, key, _ = signed("ecdsa-p256")
    for _ in range(2000):
        signature = sign(entry, key, version=V12, context=MEASUREMENTS, hash=SHA384, digest=DIGEST)
        if signature[0] == 0 or signature[32] == 0:
            break
    else:
        pytest.fail("no short half in 2,000 signatures")
    assert len(signature) == 64
    check("ecdsa-p256", signature=signature, version=V12)


@pytest.mark.parametrize(
    ("name", "key_type"),
    [
        ("ecdsa-p384", "ec-p256"),
        ("ecdsa-p256", "ec-p384"),
        ("ecdsa-p256", "rsa-2048"),
        ("rsapss-3072", "rsa-2048"),
        ("ed25519", "ec-p256"),
        ("ml-dsa-65", "ml-dsa-44"),
        ("ecdsa-p256", "ml-dsa-44"),
    ],
)
def test_key_of_another_type(name: str, key_type: str) -> None:
    entry, key = signature_algorithm(name), key_for(key_type)
    with pytest.raises(AuthenticationError, match=f"the key is {key_type}"):
        verify(
            entry,
            key.public_key,
            bytes(entry.signature_size),
            version=V14,
            context=MEASUREMENTS,
            hash=SHA384,
            digest=DIGEST,
        )
    with pytest.raises(ValueError, match=f"a {key_type} key does not sign"):
        sign(entry, key, version=V14, context=MEASUREMENTS, hash=SHA384, digest=DIGEST)


@pytest.mark.parametrize(
    ("name", "version"), [("ed25519", V11), ("ed448", V10), ("sm2-p256", V11), ("ml-dsa-44", V13)]
)
def test_algorithm_younger_than_the_version(name: str, version: int) -> None:
    need(signature_algorithm(name))
    entry, key, _ = signed(name)
    with pytest.raises(UnsupportedAlgorithm) as caught:
        check(name, version=version)
    assert caught.value.algorithm == entry.name
    assert f"SPDM 1.{entry.since & 0xF}" in caught.value.hint
    with pytest.raises(UnsupportedAlgorithm):
        sign(entry, key, version=version, context=MEASUREMENTS, hash=SHA384, digest=DIGEST)


def test_digest_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no TPM_ALG_SHA_512 digest"):
        check("ecdsa-p384", hash=SHA512)
    with pytest.raises(ValueError, match="no TPM_ALG_SHA_384 digest"):
        check("ecdsa-p384", digest=b"")


def test_hash_no_library_pairs_with_rsa() -> None:
    """Whatever cryptography makes of RSA with SM3, it ends as one of our errors or holds."""
    key, entry = key_for("rsa-2048"), BASE_ASYM.by_name("rsassa-2048")
    arguments: dict[str, Any] = {
        "version": V12,
        "context": MEASUREMENTS,
        "hash": SM3,
        "digest": SM3.digest(b"x"),
    }
    try:
        signature = sign(entry, key, **arguments)
    except UnsupportedAlgorithm:
        with pytest.raises(SpdmError, match="SM3"):
            verify(entry, key.public_key, bytes(256), **arguments)
        return
    verify(entry, key.public_key, signature, **arguments)


# --- SM2 and SLH-DSA -----------------------------------------------------------------------------


class OtherSm2:
    """SM2 by gmalg, which is pure Python and shares nothing with the library in use."""

    def __init__(self, base_hash: HashAlgorithm, identity: bytes) -> None:
        gmalg_sm2 = pytest.importorskip("gmalg.sm2", reason="the second SM2 is not installed")

        class Hash:
            def reset(self) -> None:
                self.state = base_hash.new()

            def update(self, data: bytes) -> None:
                self.state.update(data)

            def value(self) -> bytes:
                return self.state.digest()

            @staticmethod
            def hash_length() -> int:
                return base_hash.size

        self.core = gmalg_sm2.SM2Core(gmalg_sm2._ecdlp, Hash())
        self.identity = identity

    def sign(self, secret: int, message: bytes) -> bytes:
        r, s = self.core.sign(message, secret, self.identity)
        return bytes(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        x, y, r, s = (
            int.from_bytes(part, "big")
            for part in (public[:32], public[32:], signature[:32], signature[32:])
        )
        return bool(self.core.verify(message, r, s, self.identity, (x, y)))


@pytest.mark.parametrize("base_hash", [SM3, SHA256, SHA384, SHA512], ids=str)
def test_sm2_agrees_with_a_second_implementation(base_hash: HashAlgorithm) -> None:
    """In both directions, for hashes as long as the order and longer (15.4: the negotiated one)."""
    entry = BASE_ASYM.by_name("sm2-p256")
    need(entry)
    other = OtherSm2(base_hash, b"")
    key = key_for("sm2")
    arguments: dict[str, Any] = {
        "version": V13,
        "context": MEASUREMENTS,
        "hash": base_hash,
        "digest": base_hash.digest(b"a transcript"),
    }
    message = combined_prefix(V13, MEASUREMENTS) + arguments["digest"]
    handle = key.handle
    assert isinstance(handle, RawPrivate)
    ours = sign(entry, key, **arguments)
    assert other.verify(handle.raw_public, message, ours)
    assert not other.verify(handle.raw_public, message + b"\x00", ours)
    secret = int.from_bytes(handle.raw, "big")
    verify(entry, key.public_key, other.sign(secret, message), **arguments)
    stranger = OtherSm2(base_hash, b"1234567812345678").sign(secret, message)
    with pytest.raises(AuthenticationError):  # SPDM's identity is the empty one
        verify(entry, key.public_key, stranger, **arguments)


@pytest.mark.parametrize("name", ["slh-dsa-sha2-128f", "sm2-p256"])
def test_certificates_of_keys_that_cryptography_does_not_know(name: str) -> None:
    entry = signature_algorithm(name)
    need(entry)
    key = key_for(entry.key_type)
    body = b"\x30\x03\x02\x01\x05"
    signature = sign_certificate(key, body)
    verify_certificate(key.public_key, signature, body)
    for wrong, over in (
        (flip(signature, -1), body),
        (signature[:-1], body),
        (b"", body),
        (signature, body + b"\x00"),
    ):
        with pytest.raises(AuthenticationError) as caught:
            verify_certificate(key.public_key, wrong, over)
        assert caught.value.step == "signature"
    with pytest.raises(AuthenticationError):
        verify_certificate(PrivateKey.generate(entry).public_key, signature, body)


def test_sm2_certificate_with_the_other_usual_identity() -> None:
    gmssl = pytest.importorskip("gmssl_pyx", reason="gmssl-pyx is not installed")
    public, secret = gmssl.sm2_key_generate()
    key = PublicKey.from_spki(RawPublic("sm2", public).spki())
    signature = gmssl.sm2_sign(secret, public, b"to be signed", signer_id=b"1234567812345678")
    verify_certificate(key, signature, b"to be signed")
    signature = gmssl.sm2_sign(secret, public, b"to be signed", signer_id=b"somebody")
    with pytest.raises(AuthenticationError):
        verify_certificate(key, signature, b"to be signed")


def test_certificates_of_other_keys_are_cryptographys() -> None:
    key = key_for("ec-p256")
    with pytest.raises(UnsupportedAlgorithm, match="ec-p256"):
        sign_certificate(key, b"")
    with pytest.raises(UnsupportedAlgorithm, match="ec-p256"):
        verify_certificate(key.public_key, b"", b"")


# --- whoever signs -------------------------------------------------------------------------------


def test_local_signer_is_a_signer() -> None:
    key = key_for("ec-p384")
    signer: Signer = LocalSigner(key)
    assert signer.public_key is key.public_key
    entry = BASE_ASYM.by_name("ecdsa-p384")
    signature = signer.sign(entry, version=V12, context=MEASUREMENTS, hash=SHA384, digest=DIGEST)
    assert not isinstance(signature, Awaitable)
    check("ecdsa-p384", signature=signature, version=V12)
    assert key.public_key.spki_sha256().hex() in repr(signer)


def test_damaged_keys_and_signatures_end_in_our_errors() -> None:
    """Keys with flipped bits that still parse, and signatures of all kinds of bytes."""
    for name in ("ecdsa-p256", "rsapss-2048", "ed25519", "ml-dsa-44", "sm2-p256", "ed448"):
        entry = signature_algorithm(name)
        if not entry.available:
            continue
        _, key, signature = signed(name)
        spki = key.public_key.spki()
        for step in range(0, len(spki) * 8, max(1, len(spki) * 8 // 120)):
            damaged = flip(spki, step // 8, step % 8)
            try:
                check(name, public_key=PublicKey.from_spki(damaged))
            except SpdmError:
                continue
            pytest.fail(f"{name}: a key with bit {step} flipped verified")
        for filler in (b"\x00", b"\x01", b"\x7f", b"\xff"):
            with pytest.raises(AuthenticationError):
                check(name, signature=filler * len(signature))

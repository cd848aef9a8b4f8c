"""Evidence that others collected: bare message pairs, and Redfish ComponentIntegrity.

A bare file is one or more GET_MEASUREMENTS / MEASUREMENTS pairs one behind the other, the last one
signed, as bytes or hexadecimal text; from SPDM 1.2 on the six messages of the negotiation stand in
front, because they are signed too. That is also what `SignedMeasurements` of the Redfish action
SPDMGetSignedMeasurements holds, in base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from spdmkit.attestation.evidence import (
    MAX_EVIDENCE_SIZE,
    PROVISIONED_KEY,
    Evidence,
    ExchangeKind,
    SignedExchange,
)
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import BASE_HASH, signature_algorithm
from spdmkit.errors import ConfigurationError, DecodeError, SpdmError
from spdmkit.identity import Certificate, load_certificates, order_certificates
from spdmkit.messages import (
    V10,
    VERSIONS,
    Algorithms,
    Capabilities,
    Context,
    GetCapabilities,
    GetMeasurements,
    GetVersion,
    Measurements,
    Message,
    NegotiateAlgorithms,
    RequestCode,
    Version,
)
from spdmkit.protocol.algorithms import Selection, read_choice

__all__ = ["import_bare", "import_redfish"]

_WHAT: Final = "signed measurements"
_VCA: Final[tuple[type[Message], ...]] = (
    GetVersion,
    Version,
    GetCapabilities,
    Capabilities,
    NegotiateAlgorithms,
    Algorithms,
)
_MAX_PAIRS: Final = 1024
_KEY_SLOT_IN_FIELD: Final = 0xF


def import_bare(
    data: bytes,
    *,
    certificates: bytes = b"",
    public_key: bytes = b"",
    target: str = "",
    stated: Mapping[str, str] | None = None,
) -> Evidence:
    """Evidence from bare messages and the certificates they are to be verified with.

    Args:
        data: the messages, as bytes or hexadecimal text.
        certificates: the chain, PEM or DER, in any order.
        public_key: instead of a chain, the device's SubjectPublicKeyInfo, PEM or DER.
        target: where it came from, for reports.
        stated: algorithms by kind, where a source states them.

    Raises:
        ConfigurationError: no readable certificates or key.
        DecodeError: the messages are malformed or incomplete.
    """
    if len(data) > 2 * MAX_EVIDENCE_SIZE:
        raise DecodeError(_WHAT, "size", 0, f"more than {2 * MAX_EVIDENCE_SIZE} bytes")
    octets = _from_hex(data)
    spki = PublicKey.load(public_key).spki() if public_key else b""
    chain = order_certificates(load_certificates(certificates)) if certificates else ()
    if bool(spki) == bool(chain):
        raise ConfigurationError("either certificates or a public key are needed")
    vca, exchanges, slot = _split(octets, _signature_size(spki, chain))
    return Evidence(
        exchanges,
        slot=PROVISIONED_KEY if spki else slot,
        vca=vca,
        certificates=tuple(certificate.der for certificate in chain),
        public_key=spki,
        stated=tuple(sorted((stated or {}).items())) if not vca else (),
        target=target,
        transport="file",
    )


def _from_hex(data: bytes) -> bytes:
    """The bytes of hexadecimal text; anything else is bytes already."""
    try:
        return bytes.fromhex(data.decode("ascii").strip())
    except (UnicodeDecodeError, ValueError):
        return data


def _signature_size(spki: bytes, chain: tuple[Certificate, ...]) -> int:
    """Length of a signature by the key, which the layout of MEASUREMENTS needs."""
    key = PublicKey.from_spki(spki or chain[-1].spki)
    if not key.algorithms:
        raise ConfigurationError(f"SPDM has no signature algorithm for {key.key_type} keys")
    return key.algorithms[0].signature_size


def _split(
    data: bytes, signature_size: int
) -> tuple[tuple[bytes, ...], tuple[SignedExchange, ...], int]:
    """Cut messages apart: VCA, the exchanges, and the slot that signed."""
    at = 0
    vca: list[bytes] = []
    ctx = Context(signature_size=signature_size)
    if data[1:2] == bytes([RequestCode.GET_VERSION]):
        for kind in _VCA:
            ctx.version = V10 if kind in (GetVersion, Version) else _version(data, at)
            message, size = _take(kind, data, at, ctx)
            vca.append(data[at : at + size])
            at += size
        ctx = _context(message, ctx.version, signature_size)
    else:
        ctx.version = _version(data, at)
    exchanges: list[SignedExchange] = []
    pending: list[bytes] = []
    slot = 0
    while at < len(data):
        if len(pending) > 2 * _MAX_PAIRS:
            raise DecodeError(_WHAT, "pairs", at, f"more than {_MAX_PAIRS}")
        ctx.request = None
        request, size = _take(GetMeasurements, data, at, ctx)
        pending.append(data[at : at + size])
        at += size
        ctx.request = request
        _, size = _take(Measurements, data, at, ctx)
        pending.append(data[at : at + size])
        at += size
        if request.signature_requested:
            slot = request.slot_id
            exchanges.append(SignedExchange(ExchangeKind.MEASUREMENTS, tuple(pending)))
            pending = []
    if pending or not exchanges:
        raise DecodeError(_WHAT, "signature", at, "the last MEASUREMENTS is not signed")
    return tuple(vca), tuple(exchanges), PROVISIONED_KEY if slot == _KEY_SLOT_IN_FIELD else slot


def _version(data: bytes, at: int) -> int:
    if data[at : at + 1] == b"" or data[at] not in VERSIONS:
        raise DecodeError(_WHAT, "SPDMVersion", at, "no SPDM message begins here")
    return data[at]


def _take(kind: type[Any], data: bytes, at: int, ctx: Context) -> tuple[Any, int]:
    """One message of a kind, and its size."""
    if data[at + 1 : at + 2] != bytes([kind.code]):
        raise DecodeError(_WHAT, "RequestResponseCode", at, f"{kind.name} does not stand here")
    try:
        message, size = kind.parse(data[at:], ctx)
    except DecodeError as error:
        raise DecodeError(error.message, error.field, at + error.offset, error.reason) from None
    return message, size


def _context(algorithms: Any, version: int, signature_size: int) -> Context:
    try:
        selection = Selection.of(read_choice(algorithms, version))
    except SpdmError as error:
        raise DecodeError(_WHAT, "ALGORITHMS", 0, str(error)) from None
    signature = selection.signature
    return Context(
        version=version,
        hash_size=selection.base_hash.size,
        signature_size=signature_size if signature is None else signature.signature_size,
        measurement_hash_size=(
            selection.measurement_hash.size if selection.measurement_hash is not None else 0
        ),
        opaque_format=selection.opaque_format,
    )


# --- Redfish -----------------------------------------------------------------------------------

_MAX_REDFISH: Final = 2 * MAX_EVIDENCE_SIZE


class _Link(msgspec.Struct, frozen=True):
    uri: Annotated[str, msgspec.Meta(max_length=2000)] = msgspec.field(default="", name="@odata.id")


class _Response(msgspec.Struct, frozen=True, rename="pascal"):
    """SPDMGetSignedMeasurementsResponse of the Redfish schema ComponentIntegrity (DSP0268)."""

    hashing_algorithm: Annotated[str, msgspec.Meta(max_length=100)]
    signed_measurements: str
    signing_algorithm: Annotated[str, msgspec.Meta(max_length=100)]
    version: Annotated[str, msgspec.Meta(max_length=20)]
    certificate: _Link = _Link()
    public_key: Annotated[str, msgspec.Meta(max_length=20000)] = ""


# Made once, here: see `reference.json_format`.
_RESPONSE: Final = msgspec.json.Decoder(_Response)


def import_redfish(data: bytes, *, certificates: bytes = b"", target: str = "") -> Evidence:
    """Evidence from the response of the Redfish action SPDMGetSignedMeasurements.

    Args:
        data: the response's JSON.
        certificates: the chain its `Certificate` links to, PEM or DER; not needed when the response
            carries a public key (slot 15).
        target: address of the service, for reports.

    Raises:
        ConfigurationError: no readable certificates.
        DecodeError: the JSON or the messages are malformed, or contradict each other.
    """
    if len(data) > _MAX_REDFISH:
        raise DecodeError(_WHAT, "size", 0, f"more than {_MAX_REDFISH} bytes")
    try:
        response = _RESPONSE.decode(data)
        octets = base64.b64decode("".join(response.signed_measurements.split()), validate=True)
    except (msgspec.DecodeError, RecursionError, binascii.Error, ValueError) as error:
        raise DecodeError(_WHAT, "response", 0, str(error)) from None
    try:
        stated = {
            "hash": BASE_HASH.by_name(response.hashing_algorithm).short,
            "signature": signature_algorithm(response.signing_algorithm).short,
        }
    except ConfigurationError as error:
        raise DecodeError(_WHAT, "response", 0, str(error)) from None
    if response.public_key and certificates:
        raise ConfigurationError("the response carries a public key, and certificates were given")
    evidence = import_bare(
        octets,
        certificates=certificates,
        public_key=response.public_key.encode(),
        target=target or response.certificate.uri,
        stated=stated,
    )
    version = evidence.exchanges[0].messages[0][0]
    if response.version.split(".")[:2] != [str(version >> 4), str(version & 0xF)]:
        raise DecodeError(
            _WHAT, "Version", 0, f"says {response.version}, the messages are of another"
        )
    return Evidence(
        evidence.exchanges,
        slot=evidence.slot,
        vca=evidence.vca,
        certificates=evidence.certificates,
        public_key=evidence.public_key,
        stated=evidence.stated,
        target=evidence.target,
        transport="redfish",
    )

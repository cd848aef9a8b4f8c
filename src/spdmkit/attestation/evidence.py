"""Evidence: what a device said and signed, enough to verify it again years later without it.

Evidence holds bytes as they went over the wire and a little about how they were collected. It
holds no verdict and no flag: whoever reads it verifies everything (`verification`).

The file form is CBOR (RFC 8949), a map with text keys in length-first deterministic encoding under
tag 0x53504445 ("SPDE"); the JSON twin has the same keys, byte strings in base64url without padding,
inside an object with the one key `spdm_evidence`.

    format               1
    collected_at         seconds since 1970, by the collecting verifier's clock
    collector            software that collected it
    target               address the device was reached at
    transport            how: "tcp strict", "redfish", ...
    slot                 certificate slot, 0 to 7, or 255 for a provisioned public key
    vca                  GET_VERSION, VERSION, GET_CAPABILITIES, CAPABILITIES,
                         NEGOTIATE_ALGORITHMS, ALGORITHMS; empty when they are not at hand
    chain                certificate chain structure of the slot (DSP0274 table 39), or empty
    certificates         certificates, root first, when the structure is not at hand
    public_key           SubjectPublicKeyInfo of a provisioned key, or empty
    stated               algorithms by kind ("hash", "signature", "measurement_hash") when there is
                         no vca; a statement, not a proof
    exchanges            [{kind, messages, in_session}]: what each signature covers after vca, in
                         the order of the transcript, whole messages with their signatures; kind
                         is "challenge", "measurements" or "key-exchange"
    measurement_log      measurement extension log, complete, or empty
    collector_signature  COSE_Sign1 without payload over the tagged CBOR of all the rest, or empty
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from spdmkit.attestation import cbor
from spdmkit.attestation.base64url import from_base64url, to_base64url
from spdmkit.attestation.cose import KID, Sign1, make_sign1
from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.errors import AuthenticationError, DecodeError

__all__ = [
    "EVIDENCE_TAG",
    "MAX_EVIDENCE_SIZE",
    "Evidence",
    "ExchangeKind",
    "SignedExchange",
]

EVIDENCE_TAG: Final = 0x53504445
"""CBOR tag around evidence: "SPDE"."""
MAX_EVIDENCE_SIZE: Final = 8 << 20
"""Largest evidence that is read, in bytes."""
FORMAT: Final = 1
PROVISIONED_KEY: Final = 0xFF
"""Slot that stands for a public key provisioned to the verifier."""

_WHAT: Final = "evidence"
_JSON_KEY: Final = "spdm_evidence"
_MAX_MESSAGE: Final = 1 << 20


class ExchangeKind(enum.StrEnum):
    """What a signature is the answer to."""

    CHALLENGE = "challenge"
    MEASUREMENTS = "measurements"
    KEY_EXCHANGE = "key-exchange"


class SignedExchange(NamedTuple):
    """The messages one signature covers.

    Attributes:
        kind: which signature it is.
        messages: in the order of the transcript, VCA not included, each as on the wire. For
            CHALLENGE the DIGESTS and CERTIFICATE exchanges come first; for MEASUREMENTS all pairs
            since L1/L2 began; for KEY_EXCHANGE the DIGESTS that joins the transcript, if any.
        in_session: they travelled inside a session.
    """

    kind: ExchangeKind
    messages: tuple[bytes, ...]
    in_session: bool = False

    @classmethod
    def from_transcript(
        cls,
        kind: ExchangeKind,
        signed: tuple[bytes, ...],
        signature: bytes,
        *,
        in_session: bool = False,
    ) -> SignedExchange:
        """From the messages a transcript kept, the last one up to its signature.

        Args:
            kind: which signature it is.
            signed: the messages, the last without its signature.
            signature: the signature that ends the last message.
            in_session: they travelled inside a session.
        """
        return cls(kind, (*signed[:-1], signed[-1] + signature), in_session)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a device said; the attributes are those of the file form, see the module."""

    exchanges: tuple[SignedExchange, ...]
    slot: int = 0
    vca: tuple[bytes, ...] = ()
    chain: bytes = b""
    certificates: tuple[bytes, ...] = ()
    public_key: bytes = b""
    stated: tuple[tuple[str, str], ...] = ()
    measurement_log: bytes = b""
    collected_at: int | None = None
    collector: str = ""
    target: str = ""
    transport: str = ""
    collector_signature: bytes = b""

    # --- CBOR ----------------------------------------------------------------------------------

    def to_cbor(self) -> bytes:
        """The file form."""
        return cbor.encode(cbor.Tag(EVIDENCE_TAG, self._plain()))

    @classmethod
    def from_cbor(cls, data: bytes) -> Evidence:
        """Read the file form.

        Raises:
            DecodeError: too large, not under the tag, not deterministic, or a field that is
                missing, unknown, of another type or out of bounds.
        """
        item = cbor.decode(data, what=_WHAT, limit=MAX_EVIDENCE_SIZE, deterministic=True)
        if not isinstance(item, cbor.Tag) or item.tag != EVIDENCE_TAG:
            raise DecodeError(_WHAT, "tag", 0, f"not under tag {EVIDENCE_TAG}")
        return cls._from_plain(cbor.thaw(item.value))

    # --- JSON ----------------------------------------------------------------------------------

    def to_json(self) -> bytes:
        """The JSON twin, indented, ending in a newline."""
        document = {_JSON_KEY: _map_bytes(self._plain(), to_base64url)}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Evidence:
        """Read the JSON twin.

        Raises:
            DecodeError: as `from_cbor`.
        """
        if len(data) > 2 * MAX_EVIDENCE_SIZE:
            raise DecodeError(_WHAT, "size", 0, f"more than {2 * MAX_EVIDENCE_SIZE} bytes")
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(_WHAT, "encoding", 0, f"not JSON: {error}") from None
        if not isinstance(document, dict) or list(document) != [_JSON_KEY]:
            raise DecodeError(_WHAT, _JSON_KEY, 0, "not an object with this one key")
        body = document[_JSON_KEY]
        if not isinstance(body, dict):
            raise DecodeError(_WHAT, _JSON_KEY, 0, "not an object")
        return cls._from_plain(_bytes_from_json(body))

    @classmethod
    def read(cls, data: bytes) -> Evidence:
        """Read either form.

        Raises:
            DecodeError: it is neither.
        """
        return cls.from_json(data) if data[:64].lstrip()[:1] == b"{" else cls.from_cbor(data)

    # --- collector -----------------------------------------------------------------------------

    def signed_by_collector(self, key: PrivateKey) -> Evidence:
        """This evidence with the collecting verifier's signature over all of it and its time.

        Raises:
            UnsupportedAlgorithm: COSE has no algorithm for the key.
        """
        bare = replace(self, collector_signature=b"")
        kid = key.public_key.spki_sha256()
        item = make_sign1(key, bare.to_cbor(), unprotected={KID: kid}, detached=True)
        return replace(bare, collector_signature=cbor.encode(item))

    def verify_collector(self, keys: tuple[PublicKey, ...]) -> PublicKey:
        """Verify the collecting verifier's signature.

        Args:
            keys: the keys of verifiers that are trusted to say when they collected something.

        Returns:
            The key that signed.

        Raises:
            AuthenticationError: step "collector": not signed, or by none of them.
            DecodeError: the signature is malformed.
        """
        if not self.collector_signature:
            raise AuthenticationError("collector", "the collecting verifier did not sign it")
        item = cbor.decode(self.collector_signature, what="collector signature", limit=1 << 16)
        signed = Sign1.read(item, what="collector signature")
        payload = replace(self, collector_signature=b"").to_cbor()
        for key in keys:
            try:
                signed.verify(key, payload=payload)
            except AuthenticationError:
                continue
            return key
        raise AuthenticationError("collector", "signed by no collecting verifier that is trusted")

    # --- inside --------------------------------------------------------------------------------

    def _plain(self) -> dict[str, Any]:
        """The map of the file form; what is empty is left out."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "slot": self.slot,
            "exchanges": [
                {
                    "kind": str(exchange.kind),
                    "messages": list(exchange.messages),
                    "in_session": exchange.in_session,
                }
                for exchange in self.exchanges
            ],
        }
        optional = {
            "vca": list(self.vca),
            "chain": self.chain,
            "certificates": list(self.certificates),
            "public_key": self.public_key,
            "stated": dict(self.stated),
            "measurement_log": self.measurement_log,
            "collector": self.collector,
            "target": self.target,
            "transport": self.transport,
            "collector_signature": self.collector_signature,
        }
        plain |= {name: value for name, value in optional.items() if value}
        if self.collected_at is not None:
            plain["collected_at"] = self.collected_at
        return plain

    @classmethod
    def _from_plain(cls, plain: Any) -> Evidence:
        try:
            file = msgspec.convert(plain, _File, builtin_types=(bytes,))
        except (msgspec.ValidationError, RecursionError) as error:
            raise DecodeError(_WHAT, "content", 0, str(error)) from None
        if file.format != FORMAT:
            raise DecodeError(_WHAT, "format", 0, f"{file.format}, this reads {FORMAT}")
        found = cls(
            tuple(
                SignedExchange(ExchangeKind(each.kind), each.messages, each.in_session)
                for each in file.exchanges
            ),
            file.slot,
            file.vca,
            file.chain,
            file.certificates,
            file.public_key,
            tuple(sorted(file.stated.items())),
            file.measurement_log,
            file.collected_at,
            file.collector,
            file.target,
            file.transport,
            file.collector_signature,
        )
        if sum(map(bool, (found.chain, found.certificates, found.public_key))) > 1:
            raise DecodeError(
                _WHAT, "content", 0, "chain, certificates and public_key exclude each other"
            )
        return found


Bytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=_MAX_MESSAGE)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]


class _Exchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: ExchangeKind
    messages: Annotated[tuple[Bytes, ...], msgspec.Meta(min_length=2, max_length=2048)]
    in_session: bool


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file form; what its comments in the module say, as types and bounds."""

    format: int
    slot: Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
    exchanges: Annotated[tuple[_Exchange, ...], msgspec.Meta(max_length=64)]
    vca: Annotated[tuple[Bytes, ...], msgspec.Meta(max_length=6)] = ()
    chain: Annotated[bytes, msgspec.Meta(max_length=_MAX_MESSAGE)] = b""
    certificates: Annotated[tuple[Bytes, ...], msgspec.Meta(max_length=16)] = ()
    public_key: Annotated[bytes, msgspec.Meta(max_length=1 << 14)] = b""
    stated: Annotated[dict[Text, Text], msgspec.Meta(max_length=16)] = {}
    measurement_log: Annotated[bytes, msgspec.Meta(max_length=4 << 20)] = b""
    collected_at: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] | None = None
    collector: Text = ""
    target: Text = ""
    transport: Text = ""
    collector_signature: Annotated[bytes, msgspec.Meta(max_length=1 << 16)] = b""


# `convert` finds the declaration read already: see `reference.json_format`.
msgspec.json.Decoder(_File)

_BYTE_FIELDS: Final = frozenset(
    {"chain", "public_key", "measurement_log", "collector_signature", "vca", "certificates"}
)


def _from_base64url(value: object, field: str) -> Any:
    """Bytes of a text; anything else is left for the types to complain about."""
    return from_base64url(value, what=_WHAT, field=field) if isinstance(value, str) else value


def _map_bytes(value: Any, convert: Any) -> Any:
    if isinstance(value, bytes):
        return convert(value)
    if isinstance(value, dict):
        return {key: _map_bytes(item, convert) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_bytes(item, convert) for item in value]
    return value


def _bytes_from_json(body: dict[str, Any]) -> dict[str, Any]:
    found = dict(body)
    for name in _BYTE_FIELDS & set(found):
        value = found[name]
        if isinstance(value, list):
            found[name] = [_from_base64url(each, name) for each in value]
        else:
            found[name] = _from_base64url(value, name)
    exchanges = found.get("exchanges")
    if isinstance(exchanges, list):
        found["exchanges"] = [_exchange_from_json(each) for each in exchanges]
    return found


def _exchange_from_json(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        messages = [_from_base64url(each, "messages") for each in value["messages"]]
        return {**value, "messages": messages}
    return value

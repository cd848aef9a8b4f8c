"""What evidence says, in plain data for people and programs. Nothing here is verified."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spdmkit.attestation import cbor
from spdmkit.attestation.comparison import describe_value
from spdmkit.attestation.conversation import Statement, read_statement
from spdmkit.attestation.cose import KID, Sign1
from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.evidence import Evidence, SignedExchange
from spdmkit.attestation.parties import read_parties
from spdmkit.crypto.keys import PublicKey
from spdmkit.errors import SpdmError
from spdmkit.identity import safe_text
from spdmkit.messages import MESSAGES

__all__ = ["inspect_evidence"]


def inspect_evidence(evidence: Evidence) -> dict[str, Any]:
    """What the evidence says, key by key; parts that cannot be read say why.

    The keys are those that `spdm evidence show --json` documents.
    """
    found: dict[str, Any] = {
        "verified": False,
        "collected_at": ""
        if evidence.collected_at is None
        else describe_time(evidence.collected_at),
        "collector": safe_text(evidence.collector),
        "signed_by": _collector_key(evidence),
        "target": safe_text(evidence.target),
        "transport": safe_text(evidence.transport),
        "slot": evidence.slot,
        "spdm_version": "",
        "algorithms": dict(evidence.stated),
        "certificates": [],
        "public_key": _key(evidence),
        "vca": [_message(each) for each in evidence.vca],
        "exchanges": [_exchange(each) for each in evidence.exchanges],
        "measurements": [],
        "measurement_log": len(evidence.measurement_log),
        "problem": "",
    }
    try:
        _read(evidence, found)
    except SpdmError as error:
        found["problem"] = safe_text(str(error))
    return found


def _read(evidence: Evidence, found: dict[str, Any]) -> None:
    chain, negotiated = read_parties(evidence)
    found["spdm_version"] = negotiated.version_text
    found["algorithms"] = negotiated.selection.names()
    if chain is not None:
        found["certificates"] = [each.subject for each in chain.parsed]
    for exchange, shown in zip(evidence.exchanges, found["exchanges"], strict=True):
        statement = read_statement(
            exchange, negotiated, evidence.slot, bytes(negotiated.selection.base_hash.size)
        )
        shown["signed"] = bool(statement.signature)
        shown["nonce"] = statement.nonce.hex()
        found["measurements"] += _measurements(statement)


def _measurements(statement: Statement) -> Iterable[dict[str, Any]]:
    for block in statement.blocks:
        yield {"index": block.index, "type": block.label, "value": describe_value(block)}


def _exchange(exchange: SignedExchange) -> dict[str, Any]:
    return {
        "kind": str(exchange.kind),
        "in_session": exchange.in_session,
        "messages": [_message(each) for each in exchange.messages],
    }


def _message(data: bytes) -> dict[str, Any]:
    kind = MESSAGES.get(data[1]) if len(data) > 1 else None
    name = kind.name if kind is not None else "unknown"
    return {"name": name, "size": len(data), "note": "" if kind is not None else data[:4].hex()}


def _key(evidence: Evidence) -> str:
    if not evidence.public_key:
        return ""
    try:
        return f"spki-sha256:{PublicKey.from_spki(evidence.public_key).spki_sha256().hex()}"
    except SpdmError as error:
        return f"cannot be read: {error}"


def _collector_key(evidence: Evidence) -> str:
    """The name of the key that the collecting verifier's signature names."""
    if not evidence.collector_signature:
        return ""
    try:
        item = cbor.decode(evidence.collector_signature, what="collector signature", limit=1 << 16)
        kid = Sign1.read(item, what="collector signature").unprotected.get(KID)
    except SpdmError as error:
        return f"cannot be read: {error}"
    return f"spki-sha256:{kid.hex()}" if isinstance(kid, bytes) else "a key that is not named"

"""Evidence as others take it: Redfish ComponentIntegrity, bare messages, certificates.

The other way is `evidence_import`.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from spdmkit.attestation.conversation import Negotiated
from spdmkit.attestation.evidence import Evidence, ExchangeKind
from spdmkit.attestation.parties import read_parties
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.pkcs8 import armour
from spdmkit.errors import ConfigurationError
from spdmkit.messages import V12

__all__ = ["export_bare", "export_chain", "export_redfish"]

_TYPE: Final = "#ComponentIntegrity.v1_0_0.SPDMGetSignedMeasurementsResponse"


def export_bare(evidence: Evidence) -> bytes:
    """The signed messages in a row, with those of the negotiation before them from SPDM 1.2 on.

    Raises:
        ConfigurationError: no MEASUREMENTS is signed outside a session, or the negotiation that it
            covers is not at hand.
        DecodeError, AuthenticationError: the evidence is malformed.
    """
    return _bare(evidence, read_parties(evidence)[1])


def _bare(evidence: Evidence, negotiated: Negotiated) -> bytes:
    signed = [
        exchange
        for exchange in evidence.exchanges
        if exchange.kind is ExchangeKind.MEASUREMENTS and not exchange.in_session
    ]
    if not signed:
        raise ConfigurationError("the evidence holds no MEASUREMENTS signed outside a session")
    if negotiated.prefix == b"" and negotiated.version >= V12:
        raise ConfigurationError("the messages of the negotiation are not at hand")
    return negotiated.prefix + b"".join(signed[-1].messages)


def export_redfish(evidence: Evidence, *, certificate_uri: str = "") -> bytes:
    """The response of SPDMGetSignedMeasurements that carries this evidence, as JSON.

    Args:
        evidence: with a signed MEASUREMENTS outside a session.
        certificate_uri: Redfish resource of the slot's certificate chain.

    Raises:
        ConfigurationError, DecodeError, AuthenticationError: as `export_bare`.
    """
    _, negotiated = read_parties(evidence)
    signature = negotiated.selection.signature
    if signature is None:
        raise ConfigurationError("no signature algorithm was negotiated")
    document: dict[str, Any] = {
        "@odata.type": _TYPE,
        "Version": f"{negotiated.version_text}.0",
        "HashingAlgorithm": negotiated.selection.base_hash.name,
        "SigningAlgorithm": signature.name,
        "SignedMeasurements": base64.b64encode(_bare(evidence, negotiated)).decode(),
    }
    if evidence.public_key:
        document["PublicKey"] = PublicKey.from_spki(evidence.public_key).to_pem().decode()
    elif certificate_uri:
        document["Certificate"] = {"@odata.id": certificate_uri}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def export_chain(evidence: Evidence) -> bytes:
    """The certificates of the slot, root first, or the provisioned key, in PEM.

    Raises:
        DecodeError, AuthenticationError: the evidence is malformed.
    """
    chain, _ = read_parties(evidence)
    if chain is None:
        return PublicKey.from_spki(evidence.public_key).to_pem()
    return b"".join(armour(each.der, "CERTIFICATE") for each in chain.parsed)

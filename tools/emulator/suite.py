"""One choice of algorithms, as options of the emulator and as what we allow."""

from __future__ import annotations

from dataclasses import dataclass

from spdmkit.crypto import registry
from spdmkit.messages import V11, V14
from spdmkit.protocol.settings import AlgorithmSet

__all__ = ["PROVEN_NAMES", "Suite"]

_OURS = {"EDDSA_25519": "ed25519", "EDDSA_448": "ed448", "RAW_BIT": "raw"}
"""The emulator's names that the registry does not know as another spelling of its own."""
PROVEN_NAMES = ("hash", "signature", "requester_signature", "dhe", "kem", "aead")


def _short(name: str) -> str:
    return _OURS.get(name, name)


def _is_pqc(name: str) -> bool:
    return name.startswith(("ML_DSA", "SLH_DSA"))


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of a case, one of each kind, by the emulator's names.

    Attributes:
        hash: the negotiated hash.
        asym: how the responder signs; ML_DSA_... is post-quantum.
        req_asym: how the requester signs.
        exchange: a Diffie-Hellman group or, from 1.4, an ML-KEM.
        aead: what protects records.
        meas_hash: what the responder measures with.
    """

    hash: str = "SHA_384"
    asym: str = "ECDSA_P384"
    req_asym: str = "ECDSA_P384"
    exchange: str = "SECP_384_R1"
    aead: str = "AES_256_GCM"
    meas_hash: str = "SHA_384"

    def options(self, version: int) -> list[str]:
        """Options for either program of the emulator."""
        values = {"hash": self.hash, "meas_hash": self.meas_hash, "aead": self.aead}
        values |= self._pair("asym", "pqc_asym", self.asym, pqc=_is_pqc(self.asym))
        values |= self._pair("req_asym", "req_pqc_asym", self.req_asym, pqc=_is_pqc(self.req_asym))
        values |= self._pair("dhe", "kem", self.exchange, pqc=self.is_kem)
        if version < V14:
            values = {name: value for name, value in values.items() if name not in _SINCE_V14}
        return [word for name, value in values.items() for word in (f"--{name}", value)]

    @staticmethod
    def _pair(classical: str, post_quantum: str, name: str, *, pqc: bool) -> dict[str, str]:
        return {classical: "NONE" if pqc else name, post_quantum: name if pqc else "NONE"}

    @property
    def is_kem(self) -> bool:
        """The exchange is a key encapsulation."""
        return self.exchange.startswith("ML_KEM")

    def algorithm_set(self) -> AlgorithmSet:
        """Exactly these algorithms."""
        dhe, kem = (
            (0, _mask(registry.KEM, self.exchange))
            if self.is_kem
            else (_mask(registry.DHE, self.exchange), 0)
        )
        base, pqc = _signature_masks(self.asym)
        req_base, req_pqc = _signature_masks(self.req_asym)
        return AlgorithmSet(
            base_hash=_mask(registry.BASE_HASH, self.hash),
            base_asym=base,
            pqc_asym=pqc,
            dhe=dhe,
            kem=kem,
            aead=_mask(registry.AEAD, self.aead),
            req_base_asym=req_base,
            req_pqc_asym=req_pqc,
            measurement_hash=_mask(registry.MEASUREMENT_HASH, self.meas_hash),
        )

    def expected(self, version: int, *, sessions: bool) -> dict[str, str]:
        """What negotiation must come to: short names by the kinds of `Selection.names`."""
        names = {
            "hash": registry.BASE_HASH.by_name(_short(self.hash)).short,
            "signature": registry.signature_algorithm(_short(self.asym)).short,
        }
        if sessions and version >= V11:
            if self.is_kem:
                names["kem"] = registry.KEM.by_name(self.exchange).short
            else:
                names["dhe"] = registry.DHE.by_name(self.exchange).short
            names["aead"] = registry.AEAD.by_name(self.aead).short
        return names


_SINCE_V14 = frozenset({"pqc_asym", "req_pqc_asym", "kem"})


def _mask(table: registry.Table[registry.Algorithm], name: str) -> int:
    return table.by_name(_short(name)).mask


def _signature_masks(name: str) -> tuple[int, int]:
    mask = registry.signature_algorithm(_short(name)).mask
    return (0, mask) if _is_pqc(name) else (mask, 0)

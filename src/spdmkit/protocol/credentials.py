"""What an endpoint proves its identity with: certificate slots, provisioned keys, their signers.

Both roles have credentials: a responder always, a requester for mutual authentication. They live
as long as the device, longer than a connection, and are shared by all connections; nothing here
depends on what one connection negotiates except through arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.crypto.keys import PublicKey
from spdmkit.crypto.registry import SignatureAlgorithm
from spdmkit.crypto.signing import Signer
from spdmkit.identity.chain import CertificateChain
from spdmkit.messages import CertificateModel, KeyUsage

__all__ = [
    "PROVISIONED_KEY_NIBBLE",
    "PROVISIONED_KEY_SLOT",
    "CertificateModel",
    "Credentials",
    "KeyUsage",
    "ProvisionedKey",
    "Slot",
]

PROVISIONED_KEY_SLOT = 0xFF
"""SlotID that stands for a public key provisioned to the peer."""
PROVISIONED_KEY_NIBBLE = 0xF
"""The same where a SlotID has four bits."""

NUMBER_OF_SLOTS = 8


ALL_USES = KeyUsage.KEY_EX | KeyUsage.CHALLENGE | KeyUsage.MEASUREMENT | KeyUsage.ENDPOINT_INFO


@dataclass(slots=True)
class Slot:
    """One provisioned certificate slot.

    Attributes:
        slot_id: 0 to 7.
        certificates: DER certificates, root first; none for a slot that only has a key.
        signer: signs with the leaf's private key; names its algorithm.
        model: certificate model, told to the peer when several keys are in use.
        key_pair_id: KeyPairID of the leaf's key, from 1.
        key_usage: what the key may be used for.
    """

    slot_id: int
    certificates: tuple[bytes, ...]
    signer: Signer
    model: CertificateModel = CertificateModel.DEVICE
    key_pair_id: int = 1
    key_usage: KeyUsage = ALL_USES
    _structures: dict[str, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)

    @property
    def key_type(self) -> str:
        """Type of the leaf's key, as `SignatureAlgorithm.key_type` names it."""
        return self.signer.public_key.key_type

    def structure(self, algorithm: HashAlgorithm) -> bytes:
        """The SPDM certificate chain structure, its RootHash by `algorithm` (DSP0274 10.8)."""
        return self._built(algorithm)[0]

    def digest(self, algorithm: HashAlgorithm) -> bytes:
        """What DIGESTS and the transcripts hold: the hash of the whole structure, or zeros."""
        if not self.certificates:
            return bytes(algorithm.size)
        return self._built(algorithm)[1]

    def _built(self, algorithm: HashAlgorithm) -> tuple[bytes, bytes]:
        built = self._structures.get(algorithm.name)
        if built is None:
            chain = CertificateChain.from_certificates(self.certificates, algorithm)
            encoded = chain.encode()
            built = self._structures[algorithm.name] = (encoded, algorithm.digest(encoded))
        return built


@dataclass(slots=True)
class ProvisionedKey:
    """A raw public key that the peer was given beforehand (SlotID 0xFF; PUB_KEY_ID_CAP).

    Attributes:
        signer: signs with its private half.
        public_key: the public half; its DER SubjectPublicKeyInfo stands in the transcripts.
    """

    signer: Signer
    public_key: PublicKey


class Credentials:
    """The slots of an endpoint, and the key it may have provisioned instead.

    Attributes:
        slots: slot id -> slot, provisioned ones only.
        supported: slot ids the endpoint has room for.
        provisioned_key: the key of SlotID 0xFF, or None.
        bare: slot id -> slot that has a key but no certificates; only peers that know of several
            keys are told of it (DSP0274 10.8).
        awaiting_reset: slots whose new chain takes effect with the next reset (DSP0274 10.26.2).
        slot_size: bytes of room for a chain in each slot; 0 leaves it at what is there.
        endpoint_info: what a requester says of itself in ENDPOINT_INFO, by SubCode; a responder
            asks its device.
    """

    def __init__(
        self,
        slots: Iterable[Slot] = (),
        *,
        supported: Iterable[int] = (),
        provisioned_key: ProvisionedKey | None = None,
        bare: Iterable[Slot] = (),
        awaiting_reset: Iterable[int] = (),
        endpoint_info: Mapping[int, bytes] | None = None,
        slot_size: int = 0,
    ) -> None:
        self.slots: dict[int, Slot] = {slot.slot_id: slot for slot in slots}
        self.bare: dict[int, Slot] = {slot.slot_id: slot for slot in bare}
        self.supported: frozenset[int] = frozenset(supported).union(self.slots, self.bare)
        self.provisioned_key = provisioned_key
        self.slot_size = slot_size
        self.endpoint_info: Mapping[int, bytes] = dict(endpoint_info or {})
        self.awaiting_reset: frozenset[int] = frozenset(awaiting_reset)

    def usable(self, algorithm: SignatureAlgorithm) -> Mapping[int, Slot]:
        """The slots whose key signs with the negotiated algorithm, by slot id, ascending."""
        return {
            slot_id: self.slots[slot_id]
            for slot_id in sorted(self.slots)
            if self.slots[slot_id].key_type == algorithm.key_type
        }

    def associated(self, algorithm: SignatureAlgorithm) -> Mapping[int, Slot]:
        """`usable`, and the slots that have such a key but no certificates yet, ascending."""
        both = {**self.bare, **self.slots}
        return {
            slot_id: both[slot_id]
            for slot_id in sorted(both)
            if both[slot_id].key_type == algorithm.key_type
        }

    def key_types(self, *, bare: bool = False) -> frozenset[str]:
        """The types of all keys that prove something: what we may offer to sign with.

        Args:
            bare: keys without certificates too: nothing is proved by them, but requests for
                certificates are signed.
        """
        types = {slot.key_type for slot in self.slots.values()}
        if bare:
            types.update(slot.key_type for slot in self.bare.values())
        if self.provisioned_key is not None:
            types.add(self.provisioned_key.public_key.key_type)
        return frozenset(types)

    @property
    def supported_mask(self) -> int:
        """SupportedSlotMask of DIGESTS: bit n for slot n."""
        return sum(1 << slot_id for slot_id in self.supported)

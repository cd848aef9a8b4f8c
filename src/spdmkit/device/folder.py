"""A software device kept in a folder, as the responder sees it.

    device.toml          what it is and does; a person may edit it
    keys/N.pem           private keys, for their owner only
    slots/N.pem          certificate chains, one file a slot
    trust-anchor.pem     the root to attest it by
    reference.json       the reference values of what `device init` measured

The folder is read once; what SET_CERTIFICATE changes is written before it is answered. One device
serves many connections: nothing here belongs to one of them, and a lock guards what changes.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from spdmkit.crypto.registry import BASE_ASYM, PQC_ASYM, HashAlgorithm, SignatureAlgorithm
from spdmkit.crypto.signing import LocalSigner
from spdmkit.device.configuration import Configuration, registry_id
from spdmkit.device.configuration_file import load_configuration
from spdmkit.device.key_store import KeyStore
from spdmkit.device.measurements import measure
from spdmkit.device.shared_keys import read_shared_key
from spdmkit.device.slot_store import SlotEntry, SlotStore
from spdmkit.errors import AuthenticationError, ConfigurationError, ProtocolViolation, SpdmError
from spdmkit.identity import (
    CertificateChain,
    Purpose,
    TimePolicy,
    TrustAnchors,
    VerifiedChain,
    load_certificates,
    verify_chain,
)
from spdmkit.identity.csr import build_csr
from spdmkit.identity.issue import Profile
from spdmkit.messages import (
    V14,
    Context,
    DeviceClassIdentifier,
    DeviceClassList,
    ErrorCode,
    SubordinateIdentifier,
)
from spdmkit.protocol.credentials import Credentials, Slot
from spdmkit.protocol.proofs import ProvenKey
from spdmkit.protocol.responder.device import (
    CsrRequest,
    KeyPair,
    Measurement,
    Peer,
    SetCertificateRequest,
    VendorMessage,
)

__all__ = ["FolderDevice", "VendorHandler"]

VendorHandler = Callable[[VendorMessage, Peer], "VendorMessage | None"]
TRUST_ANCHOR: Final = "trust-anchor.pem"
"""File with the root of slot 0's chain."""


class FolderDevice:
    """A device in a folder (`spdmkit.protocol.responder.device.Device`).

    Attributes:
        folder: where it lives.
        configuration: `device.toml`.
    """

    def __init__(
        self, folder: Path, configuration: Configuration, keys: KeyStore, slots: SlotStore
    ) -> None:
        """Not for callers: use `load`."""
        self.folder = folder
        self.configuration = configuration
        self._keys = keys
        self._slots = slots
        self._lock = threading.RLock()
        self._state = measure(configuration, folder)
        self._shared = {
            shared.hint: shared.key
            for shared in (
                read_shared_key(folder / each.file) for each in configuration.pre_shared_key
            )
        }
        anchors = configuration.trust.requester_trust_anchors
        self._requesters = (
            TrustAnchors.from_files([folder / name for name in anchors], Purpose.REQUESTER)
            if anchors
            else None
        )
        self._vendors: list[VendorHandler] = []
        self._credentials = self._read_credentials()

    @classmethod
    def load(cls, folder: Path, passphrase: str | None = None) -> FolderDevice:
        """Read a device.

        Args:
            folder: its folder.
            passphrase: for its keys, when they are encrypted.

        Raises:
            ConfigurationError: a file is missing, wrong, or readable by others.
        """
        configuration = load_configuration(folder)
        keys = KeyStore.load(folder / "keys", passphrase)
        slots = SlotStore.load(folder / "slots")
        return cls(folder, configuration, keys, slots)

    def register_vendor(self, handler: VendorHandler) -> None:
        """Have vendor-defined requests offered to `handler`; the first that answers wins."""
        self._vendors.append(handler)

    # -- who it is ------------------------------------------------------------------------------

    @property
    def credentials(self) -> Credentials:
        """Slots and signers as they are now."""
        return self._credentials

    def _read_credentials(self) -> Credentials:
        slots = []
        for entry in self._slots.entries.values():
            pair = self._keys.entries.get(entry.key_pair_id)
            if pair is None or pair.key is None:
                raise ConfigurationError(
                    f"slot {entry.slot_id} belongs to key pair {entry.key_pair_id}, which is gone"
                )
            slots.append(
                Slot(
                    entry.slot_id,
                    entry.certificates,
                    LocalSigner(pair.key),
                    entry.model,
                    entry.key_pair_id,
                    pair.usage,
                )
            )
        return Credentials(slots, supported=range(self.configuration.device.slots))

    # -- what it runs ---------------------------------------------------------------------------

    def measurements(self, *, fresh: bool) -> Sequence[Measurement]:
        """All measurements, taken anew when asked for."""
        if fresh:
            self._state = measure(self.configuration, self.folder)
        return self._state.measurements

    def measurement_log(self, algorithm: HashAlgorithm) -> bytes:  # noqa: ARG002 - the log holds values, not digests
        """The measurement extension log."""
        return self._state.log

    # -- whom it believes -----------------------------------------------------------------------

    def pre_shared_key(self, hint: bytes) -> bytes | None:
        """The key for a hint, or None."""
        return self._shared.get(hint)

    def verify_requester(
        self, chain: CertificateChain, algorithm: SignatureAlgorithm
    ) -> VerifiedChain:
        """Verify a requester's chain against `requester_trust_anchors`.

        Raises:
            AuthenticationError: it does not hold, or there are no such anchors.
        """
        if self._requesters is None:
            raise AuthenticationError(
                "mutual", "this device has no requester_trust_anchors to verify anybody by"
            )
        import datetime as dt  # noqa: PLC0415 - only mutual authentication needs it

        now = TimePolicy(dt.datetime.fromtimestamp(time.time(), dt.UTC))
        return verify_chain(
            chain, self._requesters, purpose=Purpose.REQUESTER, time=now, algorithm=algorithm
        )

    def known_requester(self, slot_id: int, algorithm: HashAlgorithm) -> ProvenKey | None:  # noqa: ARG002 - none is provisioned
        """No requester's chain or key is provisioned to a device in a folder."""
        return None

    # -- provisioning ---------------------------------------------------------------------------

    def _may_provision(self, peer: Peer) -> None:
        trust = self.configuration.trust
        if trust.trusted_environment:
            return
        who = f"{peer.identity_kind}:{peer.identity}"
        allowed = any(fnmatch.fnmatchcase(who, pattern) for pattern in trust.may_provision)
        if not peer.authenticated or not allowed:
            raise ProtocolViolation(
                f"{who if peer.authenticated else 'a nameless requester'} may not provision",
                error_code=ErrorCode.SESSION_REQUIRED
                if peer.session_id is None
                else ErrorCode.OPERATION_FAILED,
            )

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        """A signing request for the key pair that was asked for."""
        self._may_provision(request.peer)
        from spdmkit.identity.csr import RequesterInfo  # noqa: PLC0415 - only provisioning needs it

        with self._lock:
            pair = self._keys.entries.get(request.key_pair_id or 1)
        if pair is None or pair.key is None:
            raise ProtocolViolation(f"there is no key pair {request.key_pair_id}")
        wishes = RequesterInfo.parse(request.requester_info) if request.requester_info else None
        name = self.configuration.device.name
        return build_csr(
            pair.key,
            subject=f"CN={name.replace(':', ' ')}",
            profile=Profile.leaf(request.model, name),
            requester_info=wishes,
        )

    def set_certificate(self, request: SetCertificateRequest) -> None:
        """Store or erase a chain, durably, before it is answered."""
        self._may_provision(request.peer)
        trust = self.configuration.trust
        if request.slot_id == 0 and not trust.trusted_environment:
            raise ProtocolViolation("slot 0 is written in a trusted environment only")
        if request.slot_id >= self.configuration.device.slots:
            raise ProtocolViolation(f"there is no slot {request.slot_id}")
        try:
            with self._lock:
                self._store(request)
                self._credentials = self._read_credentials()
        except (OSError, SpdmError) as error:
            raise ProtocolViolation(
                f"the slot could not be written: {error}", error_code=ErrorCode.OPERATION_FAILED
            ) from error

    def _store(self, request: SetCertificateRequest) -> None:
        pair_id = request.key_pair_id or 1
        if request.erase:
            if request.slot_id not in self._slots.entries:
                raise ProtocolViolation(f"slot {request.slot_id} is empty")
            self._slots.erase(request.slot_id)
            self._keys.associate(request.slot_id, None)
            return
        pair = self._keys.entries.get(pair_id)
        leaf = load_certificates(request.certificates[-1])[0]
        if pair is None or pair.key is None or leaf.spki != pair.key.public_key.spki():
            raise ProtocolViolation("the chain's leaf is not for a key of this device")
        peer = request.peer
        self._slots.put(
            SlotEntry(
                request.slot_id,
                request.certificates,
                request.model,
                pair_id,
                f"{peer.identity_kind}:{peer.identity}"
                if peer.authenticated
                else "unauthenticated",
            )
        )
        self._keys.associate(request.slot_id, pair_id)

    # -- keys, information, vendors -------------------------------------------------------------

    def key_pairs(self) -> Sequence[KeyPair]:
        """All key pairs as GET_KEY_PAIR_INFO tells them."""
        pairs = []
        for entry in self._keys.entries.values():
            algorithms = entry.key.algorithms if entry.key is not None else ()
            pairs.append(
                KeyPair(
                    key_pair_id=entry.key_pair_id,
                    capabilities=0,
                    usage_capabilities=int(entry.usage),
                    current_usage=int(entry.usage),
                    asym_capabilities=BASE_ASYM.mask(a for a in algorithms if not a.pqc),
                    current_asym=BASE_ASYM.mask(a for a in algorithms if not a.pqc),
                    pqc_capabilities=PQC_ASYM.mask(a for a in algorithms if a.pqc),
                    current_pqc=PQC_ASYM.mask(a for a in algorithms if a.pqc),
                    public_key_info=entry.key.public_key.algorithm_identifier()
                    if entry.key is not None
                    else b"",
                    slot_mask=entry.slot_mask,
                )
            )
        return pairs

    def set_key_pair(
        self,
        key_pair_id: int,  # noqa: ARG002 - this device changes no keys
        operation: int,  # noqa: ARG002
        usage: int,  # noqa: ARG002
        asym: int,  # noqa: ARG002
        pqc: int,  # noqa: ARG002
        slot_mask: int,  # noqa: ARG002
        peer: Peer,
    ) -> None:
        """Keys in a folder are changed by their owner, not over the wire."""
        self._may_provision(peer)
        raise ProtocolViolation(
            "the keys of this device are fixed", error_code=ErrorCode.OPERATION_FAILED
        )

    def endpoint_info(self, sub_code: int) -> bytes | None:
        """The device class identifiers of `device.toml` (DSP0274 table 133)."""
        if sub_code != 1:
            return None
        elements = [
            DeviceClassIdentifier(
                registry=registry_id(each.registry),
                vendor_id=bytes.fromhex(each.vendor_id),
                subordinate_ids=[
                    SubordinateIdentifier(identifier=bytes.fromhex(i)) for i in each.identifiers
                ],
            )
            for each in self.configuration.device_class
        ]
        return DeviceClassList(identifiers=elements).encode(Context(version=V14))

    def vendor_defined(self, message: VendorMessage, peer: Peer) -> VendorMessage | None:
        """What the first registered handler that understands the message answers."""
        return next(
            (answer for handler in self._vendors if (answer := handler(message, peer)) is not None),
            None,
        )

    def application_data(self, data: bytes, peer: Peer) -> bytes | None:  # noqa: ARG002 - an echo is the same for all
        """Echo, so that a session can be seen to carry data."""
        return data

"""The software device: a folder that answers as `protocol.responder.device.Device`.

    device.toml          what it is and does; a person edits it
    keys/N.pem           key pairs, readable by their owner only
    slots/N.pem          certificate chains
    measurements/        what it measures, as far as it is files
    psk/                 pre-shared keys

One `FolderDevice` is shared by all connections and threads. What connections read is replaced as a
whole and never changed in place; what changes it holds a lock and is on the disk before it is seen.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from spdmkit.crypto.registry import HashAlgorithm, SignatureAlgorithm, SignatureFamily
from spdmkit.crypto.signing import LocalSigner
from spdmkit.device import banks, key_pairs
from spdmkit.device.configuration import Configuration, registry_id
from spdmkit.device.configuration_file import FILE_NAME, load_configuration
from spdmkit.device.journal import Journal
from spdmkit.device.key_store import KeyEntry, KeyStore
from spdmkit.device.measurements import MeasuredState, files_as_they_are, measure
from spdmkit.device.permission import describe, require
from spdmkit.device.provisioning import MAX_CHAIN, check_chain
from spdmkit.device.rate import RateLimit
from spdmkit.device.shared_keys import SharedKey, read_shared_key
from spdmkit.device.slot_store import SlotEntry, SlotStore
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError, ProtocolViolation
from spdmkit.identity import (
    Certificate,
    CertificateChain,
    ChainCache,
    Profile,
    Purpose,
    RequesterInfo,
    TrustAnchors,
    TrustedPublicKey,
    VerifiedChain,
    build_csr,
    verify_chain,
)
from spdmkit.identity import CertificateModel as ChainModel
from spdmkit.messages import (
    V14,
    CertificateModel,
    Context,
    DmtfEventType,
    ErrorCode,
    ResponderFlags,
    SlotManagementSubCode,
)
from spdmkit.messages.endpoint_info import (
    DeviceClassIdentifier,
    DeviceClassList,
    EndpointInfoSubCode,
    SubordinateIdentifier,
)
from spdmkit.protocol.credentials import Credentials, ProvisionedKey, Slot
from spdmkit.protocol.notifier import EventsSince, SupportedEvents, dmtf_events
from spdmkit.protocol.proofs import ProvenKey
from spdmkit.protocol.responder.device import (
    Bank,
    CsrRequest,
    KeyPair,
    Measurement,
    Peer,
    SetCertificateRequest,
    VendorMessage,
)
from spdmkit.protocol.settings import Settings

__all__ = ["KEYS", "PUBLIC_KEY", "SLOTS", "TRUST_ANCHOR", "FolderDevice", "VendorHandler"]

KEYS = "keys"
SLOTS = "slots"
TRUST_ANCHOR = "trust-anchor.pem"
"""File with the root of slot 0's chain."""
PUBLIC_KEY = "public-key.pem"
"""File with the public half of the device's first key, for peers that trust the key itself."""
PROVISIONED = 0xF
"""The slot number that stands for a provisioned public key."""
_CONTEXT = Context(version=V14)

VendorHandler: TypeAlias = Callable[[VendorMessage, Peer], VendorMessage | None]


class Watcher(Protocol):
    """Who wants to know that what the device measures has changed; from any thread."""

    def measurements_changed(self) -> None:
        """It has."""
        ...


class FolderDevice:
    """A device kept in a folder.

    Attributes:
        folder: where it is.
        configuration: what `device.toml` says.
        settings: the same for the protocol.
        journal: what happened to the device since it was loaded, for events.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        passphrase: str | None = None,
        clock: Callable[[], dt.datetime] | None = None,
    ) -> None:
        """Load a device.

        Args:
            folder: where `device.toml` is.
            passphrase: what the private keys are encrypted with; None when they are not.
            clock: the time to judge requesters' certificates at; the system's by default.

        Raises:
            ConfigurationError: a file is missing, wrong, or a secret that others can read.
            UnsupportedAlgorithm: a key needs a package that is not installed.
        """
        self.folder = Path(folder)
        self.configuration: Configuration = load_configuration(self.folder)
        self.settings: Settings = self.configuration.settings()
        self._clock = clock or (lambda: dt.datetime.now(dt.UTC))
        self._lock = threading.Lock()
        self._changes = RateLimit(self.configuration.limits.changes_per_minute, time.monotonic)
        self._keys = KeyStore.load(self.folder / KEYS, passphrase)
        self._slots = SlotStore.load(self.folder / SLOTS)
        self._check_slots()
        self._requester_roots = self._load_requester_roots()
        self._requester_key = self._load_requester_key()
        self._chains = ChainCache()
        self._shared_keys = self._load_shared_keys()
        self._vendors: tuple[VendorHandler, ...] = ()
        self.journal = Journal()
        self._watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()
        self._files = files_as_they_are(self.configuration, self.folder)
        self._state: MeasuredState = measure(self.configuration, self.folder)
        self._credentials = self._build_credentials()

    # -- loading --------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: Path, passphrase: str | None = None) -> FolderDevice:
        """Read a device; the same as calling the class.

        Raises:
            ConfigurationError, UnsupportedAlgorithm: as `__init__`.
        """
        return cls(folder, passphrase=passphrase)

    def _check_slots(self) -> None:
        for slot_id, entry in self._slots.entries.items():
            where = self.folder / SLOTS / f"{slot_id}.pem"
            if slot_id >= self.configuration.device.slots:
                raise ConfigurationError(
                    f"{where}: the device has {self.configuration.device.slots} slots",
                    hint=f"raise device.slots in {FILE_NAME}",
                )
            pair = self._keys.entries.get(entry.key_pair_id)
            if pair is None or pair.key is None:
                raise ConfigurationError(f"{where}: there is no key pair {entry.key_pair_id}")
            leaf = Certificate(entry.certificates[-1])
            try:
                same = leaf.spki == pair.key.public_key.spki()
            except DecodeError as error:
                raise ConfigurationError(f"{where}: the leaf cannot be read: {error}") from error
            if not same:
                raise ConfigurationError(f"{where} is not for key pair {entry.key_pair_id}")

    def _load_requester_roots(self) -> TrustAnchors | None:
        names = self.configuration.trust.requester_trust_anchors
        if not names:
            return None
        return TrustAnchors.from_files([self.folder / name for name in names], Purpose.REQUESTER)

    def _load_requester_key(self) -> TrustedPublicKey | None:
        name = self.configuration.trust.requester_public_key
        if name is None:
            return None
        return TrustedPublicKey.from_file(self.folder / name, Purpose.REQUESTER)

    def _load_shared_keys(self) -> dict[bytes, SharedKey]:
        found: dict[bytes, SharedKey] = {}
        for entry in self.configuration.pre_shared_key:
            shared = read_shared_key(self.folder / entry.file)
            if shared.hint in found:
                raise ConfigurationError(f"{entry.file}: another key has the same hint")
            found[shared.hint] = shared
        return found

    def _build_credentials(self) -> Credentials:
        signers = {
            number: LocalSigner(entry.key)
            for number, entry in self._keys.entries.items()
            if entry.key is not None
        }
        slots = [
            Slot(
                slot_id=entry.slot_id,
                certificates=entry.certificates,
                signer=signers[entry.key_pair_id],
                model=entry.model,
                key_pair_id=entry.key_pair_id,
                key_usage=self._keys.entries[entry.key_pair_id].usage,
            )
            for entry in self._slots.entries.values()
        ]
        bare = [
            Slot(
                slot_id=slot_id,
                certificates=(),
                signer=signers[number],
                model=CertificateModel.NONE,
                key_pair_id=number,
                key_usage=self._keys.entries[number].usage,
            )
            for slot_id, number in self._reserved().items()
            if number in signers
        ]
        provisioned = None
        if self.configuration.flags & ResponderFlags.PUB_KEY_ID_CAP and signers:
            signer = next(iter(signers.values()))
            provisioned = ProvisionedKey(signer, signer.public_key)
        room = range(self.configuration.device.slots)
        return Credentials(
            slots,
            supported=room,
            provisioned_key=provisioned,
            bare=bare,
            slot_size=MAX_CHAIN,
            # As a requester that is asked what it is, the folder answers the same.
            endpoint_info={
                int(code): info
                for code in EndpointInfoSubCode
                if (info := self.endpoint_info(code)) is not None
            },
        )

    # -- what the responder asks ----------------------------------------------------------------

    @property
    def credentials(self) -> Credentials:
        """Slots and signers as they are now."""
        return self._credentials

    def measurements(self, *, fresh: bool) -> Sequence[Measurement]:
        """All measurements, ascending by index; `fresh` measures files again that changed.

        Raises:
            ProtocolViolation: Unspecified: a file to measure has gone.
        """
        if fresh:
            self._measure_again()
        return self._state.measurements

    def _measure_again(self) -> None:
        with self._lock:
            files = files_as_they_are(self.configuration, self.folder)
            if files == self._files:
                return
            before = self._state.measurements
            try:
                self._state = measure(self.configuration, self.folder)
            except ConfigurationError as error:
                raise ProtocolViolation(
                    str(error), error_code=ErrorCode.UNSPECIFIED, hint=error.hint
                ) from error
            self._files = files
            watchers = tuple(self._watchers)
            changed = _changed(before, self._state.measurements)
        if not changed:
            return
        self.journal.measurements_changed(changed)
        for watcher in watchers:
            watcher.measurements_changed()

    def watch(self, watcher: Watcher) -> None:
        """Have a connection told when what is measured has changed, as long as it exists."""
        with self._lock:
            self._watchers.add(watcher)

    def measurement_log(self, algorithm: HashAlgorithm) -> bytes:  # noqa: ARG002 - the log is the same for all
        """The whole measurement extension log, its header included."""
        return self._state.log

    def pre_shared_key(self, hint: bytes) -> bytes | None:
        """The key for a hint, or None."""
        found = self._shared_keys.get(hint)
        return None if found is None else found.key

    def shared_keys(self) -> Sequence[SharedKey]:
        """All pre-shared keys, in the order of `device.toml`."""
        return tuple(self._shared_keys.values())

    def verify_requester(
        self, chain: CertificateChain, algorithm: SignatureAlgorithm
    ) -> VerifiedChain:
        """Verify a requester's chain against `requester_trust_anchors`.

        Raises:
            AuthenticationError: it does not hold, or no roots are configured.
        """
        if self._requester_roots is None:
            raise AuthenticationError(
                "mutual",
                "this device trusts no requester roots",
                hint=f"name them in trust.requester_trust_anchors of {FILE_NAME}",
            )
        return verify_chain(
            chain,
            self._requester_roots,
            purpose=Purpose.REQUESTER,
            time=self._clock(),
            algorithm=algorithm,
            cache=self._chains,
        )

    def known_requester(self, slot_id: int, algorithm: HashAlgorithm) -> ProvenKey | None:  # noqa: ARG002 - the protocol's signature
        """The requester's key that was provisioned here, for slot 0xF only."""
        return self._requester_key if slot_id == PROVISIONED else None

    # -- provisioning ---------------------------------------------------------------------------

    def certificate_signing_request(self, request: CsrRequest) -> bytes:
        """A DER PKCS #10 request for one of the device's keys (GET_CSR).

        Raises:
            ProtocolViolation: no such key, a model or a tracking tag that does not exist here, or
                RequesterInfo that cannot be read.
        """
        if request.tracking_tag:
            # Tags name requests that wait for a reset; this device never needs one (10.25).
            raise ProtocolViolation(
                "no signing request waits for a reset", error_code=ErrorCode.UNEXPECTED_REQUEST
            )
        model = self._model(request.model)
        pair = self._key_pair(request.key_pair_id, request.slot_algorithm)
        if pair.key is None:
            raise ProtocolViolation(f"key pair {pair.key_pair_id} has no key")
        name = self.configuration.device.name
        try:
            wishes = RequesterInfo.parse(request.requester_info) if request.requester_info else None
            return build_csr(
                pair.key,
                subject=f"CN={name.rpartition(':')[2]}",
                profile=Profile.leaf(ChainModel(model), name, requester=True),
                requester_info=wishes,
                pss=self._family(pair, request.slot_algorithm) is SignatureFamily.RSAPSS,
            )
        except (DecodeError, ConfigurationError) as error:
            raise ProtocolViolation(f"RequesterInfo: {error}") from error

    def set_certificate(self, request: SetCertificateRequest) -> None:
        """Store or erase a chain; it is on the disk when this returns (SET_CERTIFICATE).

        Raises:
            ProtocolViolation: not permitted, too often, no such slot or key, or a chain that is of
                no use.
        """
        trust = self.configuration.trust
        require(
            request.peer,
            trust.may_provision,
            "SET_CERTIFICATE",
            trusted_environment=trust.trusted_environment,
        )
        self._changes.take()
        if request.slot_id >= self.configuration.device.slots:
            raise ProtocolViolation(f"there is no slot {request.slot_id}")
        if request.slot_id == 0 and not trust.trusted_environment:
            raise ProtocolViolation(
                "slot 0 is written in a trusted environment only",
                error_code=ErrorCode.UNSPECIFIED,
            )
        with self._lock:
            owner = self._owners().get(request.slot_id)
            if request.erase:
                self._erase(request.slot_id)
            else:
                self._store(request)
            owner = self._owners().get(request.slot_id, owner)
            self._credentials = self._build_credentials()
            bank = None if owner is None else banks.bank_of(self._keys.entries, owner)
        self.journal.slots_changed([request.slot_id], bank)

    def _erase(self, slot_id: int) -> None:
        if slot_id not in self._slots.entries:
            raise ProtocolViolation(f"slot {slot_id} is empty")
        try:
            self._slots.erase(slot_id)
        except OSError as error:
            raise _storage_failed(error) from error

    def _store(self, request: SetCertificateRequest) -> None:
        model = self._model(request.model)
        pair = self._key_pair(request.key_pair_id, request.algorithm, slot_id=request.slot_id)
        if pair.key is None:
            raise ProtocolViolation(f"key pair {pair.key_pair_id} has no key")
        owner = self._reserved().get(request.slot_id, pair.key_pair_id)
        if owner != pair.key_pair_id:
            raise ProtocolViolation(f"slot {request.slot_id} belongs to key pair {owner}")
        check_chain(request.certificates, request.model, pair.key.public_key)
        entry = SlotEntry(
            request.slot_id,
            request.certificates,
            model,
            pair.key_pair_id,
            describe(request.peer),
        )
        try:
            self._slots.put(entry)
        except OSError as error:
            raise _storage_failed(error) from error

    def _model(self, asked: CertificateModel) -> CertificateModel:
        """The model to store; NONE stands for what the device itself has: the device model."""
        if asked is CertificateModel.ALIAS:
            raise ProtocolViolation("this device makes no alias certificates")
        return CertificateModel.DEVICE if asked is CertificateModel.NONE else asked

    def _key_pair(self, number: int, algorithm: str, *, slot_id: int | None = None) -> KeyEntry:
        """The key pair that a request is about: by its number, its slot, or its algorithm."""
        entries = self._keys.entries
        if number:
            if number not in entries:
                raise ProtocolViolation(f"there is no key pair {number}")
            if entries[number].key is not None and not self._family(entries[number], algorithm):
                raise ProtocolViolation(f"key pair {number} does not sign {algorithm}")
            return entries[number]
        if slot_id is not None and slot_id in self._slots.entries:
            return entries[self._slots.entries[slot_id].key_pair_id]
        for entry in entries.values():
            if entry.key is not None and self._family(entry, algorithm) is not None:
                return entry
        raise ProtocolViolation(f"no key signs {algorithm}")

    @staticmethod
    def _family(entry: KeyEntry, algorithm: str) -> SignatureFamily | None:
        """The family of the negotiated algorithm if the key signs with it."""
        known = () if entry.key is None else entry.key.algorithms
        return next((a.family for a in known if algorithm in (a.name, a.short)), None)

    # -- key pairs ------------------------------------------------------------------------------

    def key_pairs(self) -> Sequence[KeyPair]:
        """All key pairs, by id from 1."""
        changeable = bool(self.configuration.flags & ResponderFlags.SET_KEY_PAIR_INFO_CAP)
        return [
            key_pairs.describe(
                entry, entry.slots | self._holds(entry.key_pair_id), changeable=changeable
            )
            for entry in self._keys.entries.values()
        ]

    def set_key_pair(
        self,
        key_pair_id: int,
        operation: int,
        usage: int,
        asym: int,
        pqc: int,
        slot_mask: int,
        peer: Peer,
    ) -> None:
        """Change, erase or generate a key pair; it is on the disk when this returns.

        Raises:
            ProtocolViolation: not permitted, too often, no such key pair, or not possible.
        """
        trust = self.configuration.trust
        require(
            peer,
            trust.may_provision,
            "SET_KEY_PAIR_INFO",
            trusted_environment=trust.trusted_environment,
        )
        self._changes.take()
        change = key_pairs.KeyPairChange(operation, usage, asym, pqc, slot_mask)
        with self._lock:
            entry = self._keys.entries.get(key_pair_id)
            if entry is None:
                raise ProtocolViolation(f"there is no key pair {key_pair_id}")
            taken = {s: k for s, k in self._owners().items() if k != key_pair_id}
            after = key_pairs.changed(entry, change, holds=self._holds(key_pair_id), taken=taken)
            try:
                self._keys.put(after)
            except OSError as error:
                raise _storage_failed(error) from error
            self._credentials = self._build_credentials()
            affected = entry.slots | after.slots | self._holds(key_pair_id)
            bank = banks.bank_of(self._keys.entries, key_pair_id)
        self.journal.slots_changed(affected, bank)

    def _holds(self, key_pair_id: int) -> frozenset[int]:
        """Slots with certificates for a key pair."""
        entries = self._slots.entries.values()
        return frozenset(each.slot_id for each in entries if each.key_pair_id == key_pair_id)

    def _reserved(self) -> Mapping[int, int]:
        """Empty slot -> the key pair it was given to."""
        return {
            slot: entry.key_pair_id
            for entry in self._keys.entries.values()
            for slot in entry.slots
            if slot not in self._slots.entries
        }

    def _owners(self) -> Mapping[int, int]:
        """Slot -> the key pair it belongs to."""
        provisioned = {each.slot_id: each.key_pair_id for each in self._slots.entries.values()}
        return {**self._reserved(), **provisioned}

    # -- banks of slots -------------------------------------------------------------------------

    def slot_operations(self) -> frozenset[int]:
        """Optional SubCodes: what the capabilities of GET_CSR and SET_CERTIFICATE allow.

        The algorithms of banks are those of the keys, so that there is no ManageBank.
        """
        flags = self.configuration.flags
        found: set[int] = set()
        if flags & ResponderFlags.CSR_CAP:
            found.add(SlotManagementSubCode.GET_CSR)
        if flags & ResponderFlags.SET_CERT_CAP:
            found |= {SlotManagementSubCode.SET_CERTIFICATE, SlotManagementSubCode.MANAGE_SLOT}
        return frozenset(found)

    def slot_banks(self, peer: Peer) -> Sequence[Bank]:
        """One bank for each type of key.

        Raises:
            ProtocolViolation: outside a session, and not in a trusted environment (10.32).
        """
        trust = self.configuration.trust
        if peer.session_id is None and not trust.trusted_environment:
            raise ProtocolViolation(
                "SLOT_MANAGEMENT outside a session", error_code=ErrorCode.SESSION_REQUIRED
            )
        return banks.banks(
            self._keys.entries,
            self._slots.entries,
            self._owners(),
            room=self.configuration.device.slots,
            writable=bool(self.configuration.flags & ResponderFlags.SET_CERT_CAP),
            trusted_environment=trust.trusted_environment,
        )

    def configure_bank(self, bank_id: int, asym: int, pqc: int, peer: Peer) -> None:  # noqa: ARG002 - the protocol's signature
        """Never called: ManageBank is not among `slot_operations`.

        Raises:
            ProtocolViolation: always.
        """
        raise ProtocolViolation(
            "the algorithms of banks are those of the keys",
            error_code=ErrorCode.UNSUPPORTED_REQUEST,
        )

    # -- events ---------------------------------------------------------------------------------

    def supported_events(self, version: int) -> Sequence[SupportedEvents]:
        """DMTF's events that this device has (clause 18)."""
        types = [DmtfEventType.MEASUREMENT_CHANGED, DmtfEventType.CERTIFICATE_CHANGED]
        if version >= V14:
            types.append(DmtfEventType.CERTIFICATE_MANAGEMENT_CHANGED)
        return (dmtf_events(types),)

    def event_place(self) -> int:
        """The end of the journal."""
        return self.journal.place

    def events_since(self, place: int) -> EventsSince:
        """What happened after a place in the journal; looks first whether anything has changed."""
        # When a file to measure is gone, who reads measurements is told; there is no event for it.
        with contextlib.suppress(ProtocolViolation):
            self._measure_again()
        return self.journal.since(place)

    # -- the rest -------------------------------------------------------------------------------

    def endpoint_info(self, sub_code: int) -> bytes | None:
        """What the device is in somebody's registry; None for another SubCode."""
        if sub_code != EndpointInfoSubCode.DEVICE_CLASS_IDENTIFIER:
            return None
        identifiers = [
            DeviceClassIdentifier(
                registry=registry_id(entry.registry),
                vendor_id=bytes.fromhex(entry.vendor_id),
                subordinate_ids=[
                    SubordinateIdentifier(identifier=bytes.fromhex(text))
                    for text in entry.identifiers
                ],
            )
            for entry in self.configuration.device_class
        ]
        return DeviceClassList(identifiers=identifiers).encode(_CONTEXT)

    def register_vendor(self, handler: VendorHandler) -> None:
        """Have VENDOR_DEFINED requests offered to `handler`; the first that answers wins.

        Args:
            handler: gets the request and who asks; returns the answer, or None when the request is
                not for it. Called from several threads.
        """
        with self._lock:
            self._vendors = (*self._vendors, handler)

    def vendor_defined(self, message: VendorMessage, peer: Peer) -> VendorMessage | None:
        """What the first registered handler that understands the message answers."""
        for handler in self._vendors:
            answer = handler(message, peer)
            if answer is not None:
                return answer
        return None

    def application_data(self, data: bytes, peer: Peer) -> bytes | None:  # noqa: ARG002 - the protocol's signature
        """Send application data back as it came: something for the other end to test against."""
        return data


def _changed(before: Sequence[Measurement], after: Sequence[Measurement]) -> frozenset[int]:
    """Indices whose measurement is another now, or is there before or after only."""
    old = {each.index: each for each in before}
    new = {each.index: each for each in after}
    return frozenset(i for i in old.keys() | new.keys() if old.get(i) != new.get(i))


def _storage_failed(error: OSError) -> ProtocolViolation:
    return ProtocolViolation(
        f"could not be stored: {error.strerror or error}", error_code=ErrorCode.OPERATION_FAILED
    )

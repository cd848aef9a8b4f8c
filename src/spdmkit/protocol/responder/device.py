"""What the responder asks of the device it speaks for.

The responder knows the protocol and nothing of storage; the device knows its keys, measurements
and slots and nothing of the protocol. `spdmkit.device` implements this over a folder; firmware
developers and tests implement it over whatever they have. A device serves many connections at
once, so its methods must not keep state of one connection.

A method that cannot do what was asked raises `ProtocolViolation` with the ERROR code to answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from spdmkit.crypto.registry import HashAlgorithm, SignatureAlgorithm
from spdmkit.identity import CertificateChain, VerifiedChain
from spdmkit.messages import CertificateModel
from spdmkit.protocol.credentials import Credentials
from spdmkit.protocol.notifier import EventSource
from spdmkit.protocol.proofs import ProvenKey

__all__ = [
    "Bank",
    "BankSlot",
    "CsrRequest",
    "Device",
    "KeyPair",
    "Measurement",
    "Peer",
    "SetCertificateRequest",
    "VendorMessage",
]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement of the device (DSP0274 10.11, DMTF measurement).

    Attributes:
        index: 1 to 0xFE.
        kind: DMTFSpecMeasurementValueType bits 6:0, for example 1 mutable firmware.
        raw: the raw bit stream, when the device keeps it.
        digests: measurement hash name -> digest, when the device has the digest only, or both.
        tcb: counted in the summary of the trusted computing base.
    """

    index: int
    kind: int
    raw: bytes | None = None
    digests: tuple[tuple[str, bytes], ...] = ()
    tcb: bool = False

    def digest(self, algorithm: HashAlgorithm) -> bytes | None:
        """The digest by `algorithm`: kept, or computed from the raw bit stream."""
        for name, value in self.digests:
            if name == algorithm.name:
                return value
        return None if self.raw is None else algorithm.digest(self.raw)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as far as the connection proved it.

    Attributes:
        session_id: the session the request came in, or None in the clear.
        authenticated: the requester proved who it is in this session (mutual authentication, PSK).
        identity: the requester's identity from its verified chain, or the PSK hint, or empty.
        identity_kind: "certificate", "psk", "public-key", or empty.
        connection: opaque name of the connection, for rate limits and logs.
        version: the negotiated SPDM version, as the version byte.
    """

    session_id: int | None = None
    authenticated: bool = False
    identity: str = ""
    identity_kind: str = ""
    connection: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class CsrRequest:
    """GET_CSR as the device sees it (DSP0274, GET_CSR)."""

    slot_algorithm: str
    hash_algorithm: str
    key_pair_id: int
    model: CertificateModel
    tracking_tag: int
    overwrite: bool
    requester_info: bytes
    opaque: bytes
    peer: Peer


@dataclass(frozen=True, slots=True)
class SetCertificateRequest:
    """SET_CERTIFICATE as the device sees it.

    Attributes:
        certificates: DER certificates root first, already parsed out of the chain structure and
            consistent with its RootHash; empty when `erase`.
    """

    slot_id: int
    model: CertificateModel
    key_pair_id: int
    erase: bool
    certificates: tuple[bytes, ...]
    algorithm: str
    peer: Peer


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One key pair as GET_KEY_PAIR_INFO tells it (DSP0274, KEY_PAIR_INFO)."""

    key_pair_id: int
    capabilities: int
    usage_capabilities: int
    current_usage: int
    asym_capabilities: int
    current_asym: int
    pqc_capabilities: int
    current_pqc: int
    public_key_info: bytes
    slot_mask: int


@dataclass(frozen=True, slots=True)
class BankSlot:
    """A slot of a bank (DSP0274 table 152).

    Attributes:
        certificates: DER, root first; empty when the slot is not provisioned.
        size: room for a chain, bytes.
        key_pair_id: the slot's key, 0 for a slot that has none yet.
        key_usage: what that key may be used for.
        write_protected: nobody may change it.
    """

    slot_id: int
    certificates: tuple[bytes, ...] = ()
    size: int = 0
    key_pair_id: int = 0
    model: CertificateModel = CertificateModel.NONE
    key_usage: int = 0
    write_protected: bool = False


@dataclass(frozen=True, slots=True)
class Bank:
    """The slots of one signature algorithm (DSP0274 10.32.1, table 151).

    Attributes:
        key_type: type of its keys, as `SignatureAlgorithm.key_type`; empty while it has none.
        algorithm: name of a signature algorithm for such keys; empty as `key_type`.
        current_asym, current_pqc: the same as one bit of tables 113 or 114.
        configurable: ManageBank may give it another algorithm; the masks that follow are 0 unless.
        asym_capabilities, pqc_capabilities: algorithms it could have.
        available_asym, available_pqc: those of them that no other bank has.
    """

    bank_id: int
    slots: tuple[BankSlot, ...]
    key_type: str = ""
    algorithm: str = ""
    current_asym: int = 0
    current_pqc: int = 0
    configurable: bool = False
    asym_capabilities: int = 0
    pqc_capabilities: int = 0
    available_asym: int = 0
    available_pqc: int = 0


@dataclass(frozen=True, slots=True)
class VendorMessage:
    """The payload of a VENDOR_DEFINED request or response and whose it is."""

    standard_id: int
    vendor_id: bytes
    payload: bytes


class Device(EventSource, Protocol):
    """A device as its responder sees it. Slow calls may return an awaitable."""

    @property
    def credentials(self) -> Credentials:
        """Slots and signers as they are now."""
        ...

    def measurements(self, *, fresh: bool) -> Sequence[Measurement]:
        """All measurements, ascending by index; `fresh`: measured anew (MEAS_FRESH_CAP)."""
        ...

    def measurement_log(self, algorithm: HashAlgorithm) -> bytes:
        """The whole measurement extension log (MEL), its header included."""
        ...

    def pre_shared_key(self, hint: bytes) -> bytes | None:
        """The key for a PSK hint as the requester sent it, or None."""
        ...

    def verify_requester(
        self, chain: CertificateChain, algorithm: SignatureAlgorithm
    ) -> VerifiedChain:
        """Verify a requester's chain against the roots this device trusts requesters by.

        Raises:
            AuthenticationError: it does not hold, or no requester roots are configured.
        """
        ...

    def known_requester(self, slot_id: int, algorithm: HashAlgorithm) -> ProvenKey | None:
        """The chain or key of a requester that was provisioned here (0xF: its raw key)."""
        ...

    def certificate_signing_request(self, request: CsrRequest) -> bytes | Awaitable[bytes]:
        """A DER PKCS#10 request (GET_CSR)."""
        ...

    def set_certificate(self, request: SetCertificateRequest) -> Awaitable[None] | None:
        """Store or erase a chain durably before returning (SET_CERTIFICATE)."""
        ...

    def key_pairs(self) -> Sequence[KeyPair]:
        """All key pairs, ids from 1 without gaps."""
        ...

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
        """Change, erase or generate a key pair (SET_KEY_PAIR_INFO)."""
        ...

    def slot_operations(self) -> frozenset[int]:
        """Which of the optional SubCodes of SLOT_MANAGEMENT there are."""
        ...

    def slot_banks(self, peer: Peer) -> Sequence[Bank]:
        """All banks, numbered from 0, for who may see them (SLOT_MANAGEMENT)."""
        ...

    def configure_bank(
        self, bank_id: int, asym: int, pqc: int, peer: Peer
    ) -> Awaitable[None] | None:
        """Give a bank without certificates another algorithm (ManageBank)."""
        ...

    def endpoint_info(self, sub_code: int) -> bytes | None:
        """ENDPOINT_INFO's EPInfo for a SubCode, or None when it is not supported."""
        ...

    def vendor_defined(self, message: VendorMessage, peer: Peer) -> VendorMessage | None:
        """Answer a VENDOR_DEFINED request, or None when nobody here understands it."""
        ...

    def application_data(self, data: bytes, peer: Peer) -> bytes | None:
        """Application data that arrived in a session; what to send back, or None for nothing."""
        ...

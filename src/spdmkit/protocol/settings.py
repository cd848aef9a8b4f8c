"""What an endpoint is willing to do: versions, capabilities, algorithms, sizes, patience.

One immutable object per endpoint configuration, shared by all its connections. The three sizes
that implementations keep mixing up have three names here:

- `data_transfer_size`: the largest single SPDM message we can *receive* in one transport message,
- `transmit_size`: the largest that we can *send* in one,
- `max_message_size`: the largest SPDM message we can receive at all, in chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from spdmkit.crypto import registry
from spdmkit.errors import ConfigurationError
from spdmkit.messages import V10, V11, V12, V13, V14
from spdmkit.protocol.capabilities import requester_capabilities
from spdmkit.protocol.deadlines import Timing
from spdmkit.protocol.session import MutualAuth

if TYPE_CHECKING:
    from spdmkit.protocol.credentials import Credentials

__all__ = [
    "ALL_VERSIONS",
    "MAX_TCP_MESSAGE",
    "MIN_DATA_TRANSFER_SIZE",
    "AlgorithmSet",
    "Settings",
    "requester_settings",
]

ALL_VERSIONS = (V14, V13, V12, V11, V10)
"""Newest first."""
MIN_DATA_TRANSFER_SIZE = 42
"""DSP0274 10.4, MinDataTransferSize."""
MAX_TCP_MESSAGE = 0xFFFF - 30
"""The largest message that fits a DSP0287 frame in either dialect, in a session too."""


class AlgorithmSet(NamedTuple):
    """Algorithms an endpoint allows, as the bit masks of NEGOTIATE_ALGORITHMS (DSP0274 10.5).

    Attributes:
        base_asym: signatures of the responder.
        pqc_asym: post-quantum signatures of the responder (1.4).
        req_base_asym: signatures of the requester, for mutual authentication.
        req_pqc_asym: the same, post-quantum (1.4).
        measurement_hash: MeasurementHashAlgo; only the responder chooses it.
        opaque_formats: OtherParams bits 3:0.
    """

    base_hash: int
    base_asym: int
    pqc_asym: int = 0
    dhe: int = 0
    kem: int = 0
    aead: int = 0
    req_base_asym: int = 0
    req_pqc_asym: int = 0
    measurement_hash: int = 0
    opaque_formats: int = 0b10
    key_schedule: int = 1
    measurement_specification: int = 1
    mel_specification: int = 1

    @classmethod
    def available(cls) -> AlgorithmSet:
        """Everything that the libraries installed here provide."""
        usable = {
            "base_hash": registry.BASE_HASH,
            "base_asym": registry.BASE_ASYM,
            "pqc_asym": registry.PQC_ASYM,
            "dhe": registry.DHE,
            "kem": registry.KEM,
            "aead": registry.AEAD,
            "measurement_hash": registry.MEASUREMENT_HASH,
        }
        masks = {name: table.usable_mask(V14) for name, table in usable.items()}
        return cls(**masks, req_base_asym=masks["base_asym"], req_pqc_asym=masks["pqc_asym"])

    def with_masks(self, **masks: int) -> AlgorithmSet:
        """This set with some masks replaced."""
        return self._replace(**masks)

    def narrowed(self, **masks: int) -> AlgorithmSet:
        """This set with some masks cut down to what is also in `masks`.

        Raises:
            ConfigurationError: nothing is left of a mask.
        """
        cut: dict[str, Any] = {}
        for name, mask in masks.items():
            cut[name] = getattr(self, name) & mask
            if mask and not cut[name]:
                raise ConfigurationError(f"none of the {name} algorithms asked for is available")
        return self._replace(**cut)


@dataclass(frozen=True, slots=True)
class Settings:
    """One endpoint's configuration.

    Attributes:
        versions: SPDM versions allowed, as version bytes; the floor is 1.2 unless said otherwise.
        capabilities: Flags as announced (bits of the role's own table).
        extended_capabilities: ExtFlags of 1.4.
        algorithms: what may be negotiated.
        data_transfer_size: announced DataTransferSize, bytes.
        transmit_size: our own limit for one outgoing message, bytes.
        max_message_size: announced MaxSPDMmsgSize, bytes.
        ct_exponent: our CTExponent.
        timing: how long a requester waits, beside the peer's CTExponent.
        busy_tries: how often a requester asks again after Busy.
        heartbeat_period: seconds a responder demands, 0 for none.
        max_sessions: sessions per connection.
        mutual_auth: mutual authentication that a responder asks for in KEY_EXCHANGE.
        requester_slot: the requester's slot it then asks for.
        mutual_auth_required: a responder refuses KEY_EXCHANGE of requesters that cannot prove who
            they are; a pre-shared key is proof enough.
        basic_mutual_auth: a responder asks for basic mutual authentication in CHALLENGE_AUTH (1.1
            and 1.2; deprecated since).
        poll_interval: seconds after which a requester asks for the responder's own requests in a
            session, 0 never; over TCP nothing else tells that there are any.
        inbox_limit: bytes of application data that a requester keeps until somebody reads them.
        multi_key: ask for several keys per connection (1.3).
        secured_versions: DSP0277 versions offered or accepted, as in the opaque data.
        aead_limit_exponent: our AEAD limit is 2 to this many records per key (DSP0277 1.3).
        cache_negotiated_state: keep and offer negotiated state across connections (CACHE_CAP).
        keep_messages: keep the signed conversation, for evidence.
        shortest_psk: bytes that a pre-shared key has at least; DSP0274 10.18 demands 128 bits.
            Only for tests with peers whose key is shorter.
    """

    versions: tuple[int, ...] = (V14, V13, V12)
    capabilities: int = 0
    extended_capabilities: int = 0
    algorithms: AlgorithmSet = field(default_factory=AlgorithmSet.available)
    data_transfer_size: int = 0xFF00
    transmit_size: int = MAX_TCP_MESSAGE
    max_message_size: int = 0x10_0000
    ct_exponent: int = 20
    timing: Timing = field(default_factory=Timing)
    busy_tries: int = 8
    heartbeat_period: int = 0
    max_sessions: int = 4
    multi_key: bool = False
    mutual_auth: MutualAuth = MutualAuth.NONE
    requester_slot: int = 0
    mutual_auth_required: bool = False
    basic_mutual_auth: bool = False
    poll_interval: float = 0.0
    inbox_limit: int = 4 << 20
    secured_versions: tuple[int, ...] = (0x1300, 0x1200, 0x1100, 0x1000)
    aead_limit_exponent: int = 64
    cache_negotiated_state: bool = False
    keep_messages: bool = False
    shortest_psk: int = 16

    def __post_init__(self) -> None:
        """Refuse sizes and versions that contradict each other.

        Raises:
            ConfigurationError: naming what contradicts what.
        """
        if not self.versions or any(version not in ALL_VERSIONS for version in self.versions):
            raise ConfigurationError("versions must be some of 1.0 to 1.4")
        if self.data_transfer_size < MIN_DATA_TRANSFER_SIZE:
            raise ConfigurationError("data_transfer_size must be 42 bytes at least")
        if self.transmit_size < MIN_DATA_TRANSFER_SIZE:
            raise ConfigurationError("transmit_size must be 42 bytes at least")
        if self.max_message_size < self.data_transfer_size:
            raise ConfigurationError("max_message_size must not be less than data_transfer_size")


def requester_settings(
    *,
    versions: tuple[int, ...] | None = None,
    algorithms: AlgorithmSet | None = None,
    sessions: bool = False,
    psk: bool = False,
    credentials: Credentials | None = None,
) -> Settings:
    """Settings of a requester that wants to do these things, and keeps messages for evidence.

    Args:
        versions: SPDM versions allowed, newest first; 1.2 and newer by default.
        algorithms: what may be negotiated; all that is available by default.
        sessions: open sessions by key exchange.
        psk: open sessions by pre-shared key.
        credentials: our identity, for mutual authentication.
    """
    provisioned_key = credentials is not None and credentials.provisioned_key is not None
    settings = Settings(
        capabilities=requester_capabilities(
            sessions=sessions,
            psk=psk,
            mutual=credentials is not None and not provisioned_key,
            provisioned_key=provisioned_key,
        ),
        algorithms=algorithms or AlgorithmSet.available(),
        keep_messages=True,
    )
    return settings if versions is None else replace(settings, versions=versions)

"""Our software device, in a folder of its own, with the identity that libspdm's responder has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from emulator import samples
from emulator.case import Case
from spdmkit.crypto.pkcs8 import armour
from spdmkit.device.configuration_file import FILE_NAME
from spdmkit.device.folder import KEYS, SLOTS, FolderDevice
from spdmkit.device.key_store import KeyEntry, KeyStore
from spdmkit.device.slot_store import SlotEntry, SlotStore
from spdmkit.messages import CertificateModel, ResponderFlags
from spdmkit.protocol.responder.device import Peer
from spdmkit.protocol.settings import Settings

__all__ = ["SampleDevice", "make_folder", "settings"]

F = ResponderFlags

_PLDM_GET_TID = bytes((0x80, 0x00, 0x02))
_PLDM_TID = bytes((0x00, 0x00, 0x02, 0x00, 0x01))
"""The emulator's application data, and what a PLDM terminus answers (DSP0240, GetTID)."""

_CAPABILITIES = (
    F.CERT_CAP
    | F.CHAL_CAP
    | F.MEAS_CAP_SIG
    | F.MEAS_FRESH_CAP
    | F.MEL_CAP
    | F.ENCRYPT_CAP
    | F.MAC_CAP
    | F.KEY_EX_CAP
    | F.PSK_CAP_CONTEXT
    | F.ENCAP_CAP
    | F.HBEAT_CAP
    | F.KEY_UPD_CAP
    | F.CHUNK_CAP
    | F.LARGE_RESP_CAP
)
_HEARTBEAT_SECONDS = 60
"""The emulator takes a period of 0 for a failure."""
_ROOT = "requester-root.pem"
_KEY = "requester-key.pem"

_TEXT = """\
[device]
name = "libspdm:sample:1"
versions = ["1.0", "1.1", "1.2", "1.3", "1.4"]
capabilities = {capabilities}

[trust]
requester_trust_anchors = {roots}
{key}
trusted_environment = {trusted}

[[measurement]]
index = 1
type = "immutable-rom"
tcb = true
hex = "000102030405"

[[measurement]]
index = 2
type = "mutable-firmware"
text = "firmware"

[[measurement]]
index = 6
type = "hash-extend"
log = true

[[log]]
extends = 6
type = "mutable-firmware"
text = "loaded"

[[measurement]]
index = 254
type = "device-mode"
device_mode = {{ operational = ["normal"], operational_reported = ["recovery"] }}

[limits]
heartbeat_period = 60

[[device_class]]
registry = "pci-sig"
vendor_id = "b41a"
# Its length makes ENDPOINT_INFO a multiple of four: the emulator does not expect DOE's padding.
identifiers = ["0001020304"]
"""


class SampleDevice(FolderDevice):
    """A device of a folder that also knows the emulator's short key, and answers PLDM."""

    def pre_shared_key(self, hint: bytes) -> bytes | None:
        """The emulator's key, which no folder would take: it has twelve bytes."""
        return samples.PSK if hint == samples.PSK_HINT else None

    def application_data(self, data: bytes, peer: Peer) -> bytes | None:
        """GetTID, which the emulator asks inside sessions over MCTP."""
        if data == _PLDM_GET_TID:
            return _PLDM_TID
        return super().application_data(data, peer)


def make_folder(folder: Path, case: Case, keys: Path, *, role: str = "responder") -> None:
    """Write what `spdm device serve` takes, with the sample keys of the case's algorithm.

    Args:
        folder: is made.
        case: what it is for.
        keys: folder of the sample keys' folders.
        role: whose identity it has, "responder" or "requester".
    """
    folder.mkdir()
    algorithm = case.suite.asym if role == "responder" else case.suite.req_asym
    store = KeyStore.create(folder / KEYS, None)
    slots = SlotStore.create(folder / SLOTS)
    numbers: dict[bytes, int] = {}
    for spare in range(case.spare_keys):
        store.put(KeyEntry(spare + 1, samples.private_key(keys, algorithm, role, 4)))
    for slot in case.slots:
        key = samples.private_key(keys, algorithm, role, slot)
        spki = key.public_key.spki()
        number = numbers.get(spki)
        if number is None:
            number = numbers[spki] = len(store.entries) + 1
            store.put(KeyEntry(number, key))
        # The emulator writes slot 0's chain to its other slot, and goes on with what it knew.
        chain = samples.chain(keys, algorithm, role, 0 if case.provisions else slot)
        slots.put(SlotEntry(slot, chain, CertificateModel.DEVICE, number))
    root = samples.root(keys, case.suite.req_asym)
    (folder / _ROOT).write_bytes(armour(root, "CERTIFICATE"))
    known = samples.public_key(keys, case.suite.req_asym, "requester")
    (folder / _KEY).write_bytes(armour(known.spki(), "PUBLIC KEY"))
    text = _TEXT.format(
        capabilities=json.dumps(_capabilities(case)),
        roots=json.dumps([_ROOT] if case.proves_itself and not case.key_only else []),
        key=f'requester_public_key = "{_KEY}"' if case.key_only else "",
        trusted=json.dumps(case.provisions),
    )
    (folder / FILE_NAME).write_text(text, encoding="utf-8")


def _capabilities(case: Case) -> list[str]:
    flags = _CAPABILITIES | case.capabilities
    if case.proves_itself:
        flags |= F.MUT_AUTH_CAP
    flags &= ~case.without
    return [
        name
        for name, flag in F.__members__.items()
        if flags & flag == flag and not name.endswith("_MASK")
    ]


def settings(device: FolderDevice, case: Case) -> Settings:
    """The device's settings, narrowed to what the case is about."""
    wanted = {
        "versions": (case.version,),
        "algorithms": case.suite.algorithm_set(),
        "mutual_auth": case.mutual,
        "shortest_psk": len(samples.PSK),
        "heartbeat_period": _HEARTBEAT_SECONDS,
        **case.settings,
    }
    return replace(device.settings, **wanted)

"""`spdm device init`: make a software device in a folder, with keys, a chain and measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spdmkit.attestation.reference.json_format import to_json
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AllowedRaw,
    AppliesTo,
    Manifest,
    ReferenceMeasurement,
    SvnRule,
)
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.pkcs8 import armour
from spdmkit.crypto.registry import MEASUREMENT_HASH, signature_algorithm
from spdmkit.device.configuration_file import FILE_NAME, load_configuration
from spdmkit.device.files import write_whole
from spdmkit.device.folder import PUBLIC_KEY, TRUST_ANCHOR
from spdmkit.device.key_store import KeyEntry, KeyStore
from spdmkit.device.measurements import measure
from spdmkit.device.shared_keys import new_shared_key, write_shared_key
from spdmkit.device.slot_store import SlotEntry, SlotStore
from spdmkit.errors import ConfigurationError
from spdmkit.identity.issue import Authority, Profile
from spdmkit.messages import CertificateModel, MeasurementKind
from spdmkit.protocol.responder.device import Measurement

__all__ = ["ALGORITHMS", "initialise"]

ALGORITHMS: Final = {
    "ecdsa-p256": "ecdsa-p256",
    "ecdsa-p384": "ecdsa-p384",
    "ecdsa-p521": "ecdsa-p521",
    "rsa-2048": "rsapss-2048",
    "rsa-3072": "rsapss-3072",
    "rsa-4096": "rsapss-4096",
    "ed25519": "ed25519",
    "ed448": "ed448",
    "ml-dsa-44": "ml-dsa-44",
    "ml-dsa-65": "ml-dsa-65",
    "ml-dsa-87": "ml-dsa-87",
}
"""Names of key types on the command line, and an algorithm that takes such a key."""

MANUFACTURER, PRODUCT = "spdmkit", "software-device"

_CONFIGURATION: Final = """\
# A software device. What is written here is what it says and does; see
# `spdm device serve --help`. A mistake is reported with its line.

[device]
name = "{name}"
versions = ["1.0", "1.1", "1.2", "1.3", "1.4"]
# Flags of CAPABILITIES (DSP0274 table 15).
capabilities = [
    "CERT_CAP", "CHAL_CAP", "MEAS_CAP_SIG", "MEAS_FRESH_CAP", "MEL_CAP",
    "ENCRYPT_CAP", "MAC_CAP", "KEY_EX_CAP", "PSK_CAP_CONTEXT", "MUT_AUTH_CAP", "ENCAP_CAP",
    "HBEAT_CAP", "KEY_UPD_CAP", "CHUNK_CAP", "LARGE_RESP_CAP", "SET_CERT_CAP", "CSR_CAP",
    "EP_INFO_CAP_SIG", "EVENT_CAP", "GET_KEY_PAIR_INFO_CAP", "SET_KEY_PAIR_INFO_CAP",
]
# Flags of ExtFlags (table 16), from 1.4.
extended_capabilities = ["SLOT_MGMT_CAP"]

# A list of algorithms that is left out stands for all that are available here.
[algorithms]
# hashes = ["sha-384"]
measurement_hashes = ["sha-384"]

[limits]
heartbeat_period = 0

[trust]
# Whom requesters must descend from, or the key of the only one; and whether they have to prove it.
# requester_trust_anchors = ["requesters.pem"]
# requester_public_key = "requester.pem"
# require_requester_authentication = true
may_provision = []
may_set_reference = []
# reference_signers = ["rim-root.pem"]
# policy_signers = ["policy-root.pem"]

[[measurement]]
index = 1
type = "immutable-rom"
name = "boot ROM"
tcb = true
file = "firmware/rom.bin"
digest_only = true

[[measurement]]
index = 2
type = "mutable-firmware"
name = "main firmware"
file = "firmware/main.bin"
digest_only = true

[[measurement]]
index = 3
type = "hardware-configuration"
name = "straps"
hex = "0103"

[[measurement]]
index = 4
type = "mutable-firmware-version"
name = "main firmware's version"
text = "1.0.0"

[[measurement]]
index = 5
type = "mutable-firmware-svn"
name = "main firmware's security version"
svn = 1

[[measurement]]
index = 6
type = "hash-extend"
name = "events since start"
log = true

[[log]]
extends = 6
type = "mutable-firmware"
text = "main firmware loaded"

[[log]]
extends = 6
type = "firmware-configuration"
text = "default configuration applied"

[[measurement]]
index = 254
type = "device-mode"
name = "modes"
device_mode = {{ operational = ["normal"], operational_reported = ["manufacturing", "recovery"], \
debug_reported = ["invasive-active"] }}

# What it is in a registry (GET_ENDPOINT_INFO): "pci-sig" and "usb" have vendor_id and identifiers.
[[device_class]]
registry = "dmtf"

[[pre_shared_key]]
file = "psk.toml"
"""


def initialise(
    folder: Path,
    *,
    algorithm: str = "ecdsa-p384",
    passphrase: str | None = None,
    serial: str = "",
    requester: bool = False,
) -> None:
    """Make a device.

    Args:
        folder: is made; must not hold a device yet.
        algorithm: a key of `ALGORITHMS`.
        passphrase: encrypts the private keys; None leaves them in the clear, for their owner only.
        serial: serial number in its name; random by default.
        requester: its certificate is for asking too: it can be the `--mutual` identity of a
            requester (DSP0274 10.9.2.1).

    Raises:
        ConfigurationError: the folder holds something, or the algorithm has no such name.
        UnsupportedAlgorithm: no installed package has the algorithm.
    """
    entry = signature_algorithm(ALGORITHMS.get(algorithm, algorithm))
    entry.require()
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty", hint="give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    root_key, middle_key, leaf_key = (PrivateKey.generate(entry) for _ in range(3))
    serial = serial or leaf_key.public_key.spki_sha256().hex()[:12].upper()
    name = f"{MANUFACTURER}:{PRODUCT}:{serial}"
    root = Authority.root(f"CN=spdmkit root of {serial}", root_key)
    middle = root.subordinate(f"CN=spdmkit intermediate of {serial}", middle_key)
    leaf = middle.issue(
        f"CN=spdmkit device {serial}",
        leaf_key.public_key,
        Profile.leaf(CertificateModel.DEVICE, name, requester=requester),
    )
    keys = KeyStore.create(folder / "keys", passphrase)
    keys.put(KeyEntry(1, leaf_key, slots=frozenset({0})))
    # Room for a key of the owner's: SET_KEY_PAIR_INFO generates it.
    keys.put(KeyEntry(2, None))
    slots = SlotStore.create(folder / "slots")
    chain = (root.certificate.der, middle.certificate.der, leaf.der)
    slots.put(SlotEntry(0, chain, CertificateModel.DEVICE, 1))
    write_whole(folder / TRUST_ANCHOR, armour(root.certificate.der, "CERTIFICATE"))
    spki = leaf_key.public_key.spki()
    write_whole(folder / PUBLIC_KEY, armour(spki, "PUBLIC KEY"))
    (folder / "firmware").mkdir()
    write_whole(folder / "firmware" / "rom.bin", b"spdmkit sample boot ROM\n" * 64)
    write_whole(folder / "firmware" / "main.bin", b"spdmkit sample firmware 1.0.0\n" * 256)
    write_shared_key(folder / "psk.toml", new_shared_key(serial))
    write_whole(folder / FILE_NAME, _CONFIGURATION.format(name=name).encode())
    write_whole(folder / "reference.json", to_json(reference_values(folder)))


def reference_values(folder: Path) -> Manifest:
    """Reference values of what a device in a folder measures now."""
    configuration = load_configuration(folder)
    state = measure(configuration, folder)
    names = {each.index: each.name for each in configuration.measurement}
    manufacturer, product, serial = configuration.device.name.split(":")
    return Manifest(
        manifest_id=f"urn:spdmkit:device:{serial}",
        measurements=tuple(_reference(each, names[each.index]) for each in state.measurements),
        name=f"{manufacturer} {product}",
        publisher=manufacturer,
        revision=1,
        release="1.0.0",
        applies_to=AppliesTo(manufacturer=(manufacturer,), product=(product,)),
    )


def _reference(measurement: Measurement, name: str) -> ReferenceMeasurement:
    kind = MeasurementKind(measurement.kind)
    if kind is MeasurementKind.MUTABLE_FIRMWARE_SVN and measurement.raw is not None:
        svn = SvnRule(int.from_bytes(measurement.raw, "little"))
        return ReferenceMeasurement(measurement.index, name, kind, svn=(svn,))
    digests = []
    for algorithm in MEASUREMENT_HASH:
        if algorithm.size and algorithm.available:
            value = measurement.digest(algorithm)
            if value is not None:
                digests.append(AllowedDigest(algorithm.short, value))
    raw = (AllowedRaw(measurement.raw),) if measurement.raw is not None else ()
    return ReferenceMeasurement(
        measurement.index, name, kind, digests=tuple(digests), raw_values=raw
    )

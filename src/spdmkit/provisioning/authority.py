"""A certificate authority in a folder.

    ca.toml        which devices may be issued what; a person edits it
    root.pem       the root's certificate: the trust anchor of what is issued here
    issuing.pem    the issuing authority's certificate
    keys/          their private keys, encrypted, for their owner only
    ledger.jsonl   every serial number, certificate and revocation
    crl.der        the last revocation list

The root signs once, when the authority is made; its key can then be taken away. The issuing
authority signs certificates for devices and revocation lists.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spdmkit.attestation.files import read_bounded
from spdmkit.crypto.keys import PrivateKey
from spdmkit.crypto.pkcs8 import armour
from spdmkit.crypto.registry import signature_algorithm
from spdmkit.device.files import clear_leftovers, read_secret, write_whole
from spdmkit.errors import ConfigurationError
from spdmkit.identity import (
    Authority,
    Certificate,
    CertificateRequest,
    Issuance,
    Profile,
    Purpose,
    RevokedCertificate,
    TrustAnchors,
    load_certificates,
)
from spdmkit.identity.issue import escape_name_value
from spdmkit.provisioning.ledger import Entry, Ledger
from spdmkit.provisioning.profile import CaConfiguration, IssuingProfile, Subject
from spdmkit.provisioning.profile import read_ca_configuration as read_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALGORITHMS", "CertificateAuthority", "Issued", "check_authority"]

ALGORITHMS: Final = {
    "ecdsa-p256": "ecdsa-p256",
    "ecdsa-p384": "ecdsa-p384",
    "ecdsa-p521": "ecdsa-p521",
    "rsa-2048": "rsassa-2048",
    "rsa-3072": "rsassa-3072",
    "rsa-4096": "rsassa-4096",
    "ed25519": "ed25519",
    "ed448": "ed448",
    "ml-dsa-44": "ml-dsa-44",
    "ml-dsa-65": "ml-dsa-65",
    "ml-dsa-87": "ml-dsa-87",
}
"""Names of key types on the command line, and an algorithm that takes such a key."""

CONFIGURATION, LEDGER, CRL = "ca.toml", "ledger.jsonl", "crl.der"
ROOT, ISSUING, KEYS = "root.pem", "issuing.pem", "keys"
MAX_FILE: Final = 1 << 20

_CONFIGURATION: Final = """\
# Which devices this authority certifies, and how. The first profile that names the attested device
# and the slot is used; a device that none names is issued nothing.

[authority]
pss = false      # RSASSA-PSS when its keys are RSA
crl_days = 30    # how long a revocation list holds

[[profile]]
name = "device"
# "manufacturer:product:serial", "subject:CN=..." or "spki-sha256:...", with * for any text.
# "*" is every device that was attested below the trust anchors given to `spdm provision`.
identities = ["*"]
slots = [1, 2, 3, 4, 5, 6, 7]
model = "device"        # or "alias", "generic"
# {manufacturer}, {product}, {serial_number}, {device_name}, {subject} of the attested device.
subject = "{subject}"
days = 0                # 0: does not end
responder = true
requester = false
"""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just issued.

    Attributes:
        serial: its serial number.
        certificate: the certificate.
        chain: the chain to put into a slot, DER, root first.
        profile: by which profile.
    """

    serial: int
    certificate: Certificate
    chain: tuple[bytes, ...]
    profile: IssuingProfile


class CertificateAuthority:
    """The authority in a folder; `create` makes one, `load` opens it.

    Attributes:
        folder: where it is.
        configuration: what `ca.toml` says.
        root, issuing: the certificates.
        ledger: what it issued.
    """

    def __init__(
        self,
        folder: Path,
        configuration: CaConfiguration,
        root: Certificate,
        authority: Authority,
        clock: Callable[[], dt.datetime],
    ) -> None:
        """Not for callers: use `create` or `load`."""
        self.folder = folder
        self.configuration = configuration
        self.root = root
        self._authority = authority
        self._clock = clock
        self.ledger = Ledger(folder / LEDGER)

    @classmethod
    def create(
        cls,
        folder: Path,
        passphrase: str,
        *,
        algorithm: str = "ecdsa-p384",
        name: str = "spdmkit CA",
        passphrase_file: str | None = None,
        clock: Callable[[], dt.datetime] | None = None,
    ) -> CertificateAuthority:
        """Make an authority: a root and an issuing authority below it.

        Args:
            folder: is made; must not be there yet.
            passphrase: encrypts the private keys.
            algorithm: kind of the keys, of `ALGORITHMS`.
            name: what the certificates are called.
            passphrase_file: name of a file in the folder to keep the passphrase in.
            clock: the time; the system's by default.

        Raises:
            ConfigurationError: the folder is there already or cannot be made, or the passphrase is
                empty.
            UnsupportedAlgorithm: keys of that kind cannot be made here.
        """
        if not passphrase:
            raise ConfigurationError("the keys of an authority need a passphrase")
        now = clock or _now
        entry = signature_algorithm(ALGORITHMS[algorithm])
        keys = {part: PrivateKey.generate(entry) for part in ("root", "issuing")}
        begin = Issuance(not_before=now().replace(microsecond=0))
        common = f"CN={escape_name_value(name)}"
        top = Authority.root(f"{common} Root", keys["root"], issuance=begin)
        below = top.subordinate(
            f"{common} Issuing",
            keys["issuing"],
            profile=Profile(authority=True, path_length=None),
            issuance=begin,
        )
        try:
            folder.mkdir(parents=True)
            if passphrase_file is not None:  # before the keys: they are of no use without it
                secret = f"{passphrase}\n".encode()
                write_whole(folder / passphrase_file, secret, mode=0o600)
            (folder / KEYS).mkdir(mode=0o700)
            for part, key in keys.items():
                write_whole(folder / KEYS / f"{part}.pem", key.to_pem(passphrase), mode=0o600)
            for file, made in ((ROOT, top), (ISSUING, below)):
                write_whole(folder / file, armour(made.certificate.der, "CERTIFICATE"))
            # Last, because a folder with it is an authority.
            write_whole(folder / CONFIGURATION, _CONFIGURATION.encode())
        except OSError as error:
            raise ConfigurationError(f"{folder}: {error.strerror}") from error
        return cls.load(folder, passphrase, clock=clock)

    @classmethod
    def load(
        cls, folder: Path, passphrase: str, *, clock: Callable[[], dt.datetime] | None = None
    ) -> CertificateAuthority:
        """Open an authority; only the issuing key is needed.

        Raises:
            ConfigurationError: a file is missing, wrong or readable by others, the passphrase is
                wrong, or key and certificate do not belong together.
            UnsupportedAlgorithm: the key needs a package that is not installed.
        """
        check_authority(folder)
        path = folder / CONFIGURATION
        clear_leftovers(folder)
        configuration = read_configuration(read_bounded(path, MAX_FILE), str(path))
        root = _certificate(folder / ROOT)
        issuing = _certificate(folder / ISSUING)
        key_file = folder / KEYS / "issuing.pem"
        key = PrivateKey.load(read_secret(key_file, MAX_FILE, "private key"), passphrase)
        if key.public_key.spki() != issuing.spki:
            raise ConfigurationError(f"{key_file} is not the key of {folder / ISSUING}")
        authority = Authority(issuing, key, pss=configuration.authority.pss)
        return cls(folder, configuration, root, authority, clock or _now)

    @property
    def issuing(self) -> Certificate:
        """The issuing authority's certificate."""
        return self._authority.certificate

    @property
    def anchors(self) -> TrustAnchors:
        """The root, to verify devices by that carry certificates of this authority."""
        return TrustAnchors([self.root.der], Purpose.DEVICE)

    def issue(
        self,
        request: CertificateRequest,
        device: Subject,
        slot_id: int,
        *,
        profile: str = "",
        note: Mapping[str, str] | None = None,
    ) -> Issued:
        """Certify the key of a signing request for an attested device.

        Of the request only the key is taken: what the device is, its attestation showed.

        Args:
            request: the verified signing request.
            device: who was attested.
            slot_id: the slot it is for.
            profile: use this profile only; by default the first that fits.
            note: what else the ledger keeps, the target for example.

        Raises:
            AuthenticationError: step "ca-policy": no profile allows it.
            ConfigurationError: the ledger cannot be written, or the names fit no certificate.
            UnsupportedAlgorithm: the authority's key cannot sign certificates here.
        """
        chosen = self.configuration.profile_for(device, slot_id, profile)
        now = self._clock()
        details = {
            "time": _text(now),
            "profile": chosen.name,
            "device": str(device),
            "attested_spki_sha256": device.spki_sha256,
            "spki_sha256": request.spki_sha256.hex(),
            "slot": slot_id,
            **(note or {}),
        }
        serial = self.ledger.reserve(**details)
        certificate = self._authority.issue(
            chosen.subject_for(device),
            request.public_key,
            chosen.certificate_profile(device),
            chosen.issuance(serial, now),
        )
        self.ledger.note(
            "issued",
            serial,
            time=_text(now),
            subject=certificate.subject,
            certificate=base64.b64encode(certificate.der).decode(),
        )
        chain = (self.root.der, self.issuing.der, certificate.der)
        return Issued(serial, certificate, chain, chosen)

    def installed(self, issued: Issued, **details: object) -> None:
        """Write down that a device has the certificate and proved that it uses it.

        Raises:
            ConfigurationError: the ledger cannot be written.
        """
        self.ledger.note("installed", issued.serial, time=_text(self._clock()), **details)

    def failed(self, issued: Issued, why: str) -> None:
        """Write down that a certificate did not get into its device.

        Raises:
            ConfigurationError: the ledger cannot be written.
        """
        self.ledger.note("failed", issued.serial, time=_text(self._clock()), why=why[:1000])

    def revoke(self, serial: str, reason: str = "unspecified") -> Entry:
        """Revoke a certificate; the next revocation list has it.

        Args:
            serial: its serial number in hex.
            reason: a CRLReason of RFC 5280 5.3.1, "key_compromise" for example.

        Raises:
            ConfigurationError: no such certificate or reason, or it is revoked already.
        """
        entry = self.ledger.find(serial)
        RevokedCertificate.for_reason(entry.serial, self._clock(), reason)  # refuses unknown words
        self.ledger.revoke(entry.serial, time=_text(self._clock()), reason=reason)
        return entry

    def revocation_list(self) -> bytes:
        """A new CRL in DER, kept as `crl.der` too.

        Raises:
            ConfigurationError: the ledger or the file cannot be written.
            UnsupportedAlgorithm: the authority's key cannot sign lists here.
        """
        now = self._clock().replace(microsecond=0)
        until = now + dt.timedelta(days=self.configuration.authority.crl_days)
        # Under the ledger's lock: an older list must not come to lie over a newer one.
        with self.ledger.next_crl(time=_text(now), until=_text(until)) as number:
            revoked = [
                RevokedCertificate.for_reason(
                    entry.serial, dt.datetime.fromisoformat(entry.revoked_at), entry.reason
                )
                for entry in self.ledger.revoked
            ]
            crl = self._authority.revocation_list(revoked, number=number, issued=now, until=until)
            try:
                write_whole(self.folder / CRL, crl)
            except OSError as error:
                raise ConfigurationError(f"{self.folder / CRL}: {error.strerror}") from error
        return crl


def check_authority(folder: Path) -> None:
    """See that there is an authority in a folder.

    Raises:
        ConfigurationError: there is none.
    """
    if not (folder / CONFIGURATION).exists():
        raise ConfigurationError(
            f"{folder} is not an authority: it has no {CONFIGURATION}",
            hint=f"make one with: spdm ca init {folder}",
        )


def _certificate(path: Path) -> Certificate:
    found = load_certificates(read_bounded(path, MAX_FILE), source=str(path))
    if len(found) != 1:
        raise ConfigurationError(f"{path}: {len(found)} certificates, one is wanted")
    return found[0]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")

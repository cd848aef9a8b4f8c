"""`ca.toml`: which devices may be issued what.

The profiles are tried in order; the first one that names the attested device and the slot is used.
A device that none of them names is issued nothing.
"""

from __future__ import annotations

import datetime as dt
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from spdmkit.attestation.toml_file import Strict, TomlFile
from spdmkit.errors import AuthenticationError
from spdmkit.identity import (
    NO_END,
    CertificateModel,
    Identity,
    Issuance,
    Profile,
    VerifiedChain,
)
from spdmkit.identity.issue import escape_name_value

__all__ = ["CaConfiguration", "IssuingProfile", "Subject", "read_ca_configuration"]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
MODELS: Final = {
    "device": CertificateModel.DEVICE,
    "alias": CertificateModel.ALIAS,
    "generic": CertificateModel.GENERIC,
}
_FIELDS: Final = ("manufacturer", "product", "serial_number", "device_name", "subject")


@dataclass(frozen=True, slots=True)
class Subject:
    """The attested device that a certificate is for.

    Attributes:
        device_name: "manufacturer:product:serial number" of the attested certificate, or empty.
        subject: subject of the attested certificate in RFC 4514 text.
        spki_sha256: of the attested key, lower-case hex.
    """

    device_name: str
    subject: str
    spki_sha256: str

    @classmethod
    def of(cls, chain: VerifiedChain) -> Subject:
        """The device that a verified chain names."""
        identity: Identity = chain.identity
        name = identity.device_name
        return cls(
            device_name=name.text if name is not None and name.parts is not None else "",
            subject=identity.certificate.x509.subject.rfc4514_string(),
            spki_sha256=identity.spki_sha256.hex(),
        )

    def __str__(self) -> str:
        return self.device_name or self.subject


class IssuingProfile(Strict, frozen=True, kw_only=True):
    """[[profile]]: what is issued to whom.

    Attributes:
        name: what the ledger calls it.
        identities: who: "manufacturer:product:serial", "subject:RFC 4514 text" or
            "spki-sha256:HEX", with `*` for any text.
        slots: into which slots.
        model: certificate model: "device", "alias" (the device gets an authority and issues the
            alias certificates below it itself) or "generic".
        subject: name of the certificate, with {manufacturer}, {product}, {serial_number},
            {device_name} and {subject} of the attested device.
        days: how long it holds; 0 does not end (DSP0274 10.9.2 recommends that for devices).
        responder, requester: SPDM roles the key may authenticate in.
        path_length: authorities below it, in the alias model.
    """

    name: Text
    identities: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=1000)]
    slots: tuple[Annotated[int, msgspec.Meta(ge=0, le=7)], ...] = (1, 2, 3, 4, 5, 6, 7)
    model: Literal["device", "alias", "generic"] = "device"
    subject: Text = "{subject}"
    days: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    responder: bool = True
    requester: bool = False
    path_length: Annotated[int, msgspec.Meta(ge=0, le=8)] | None = None

    def names(self, device: Subject) -> bool:
        """Whether a device is one of `identities`."""
        return any(_matches(pattern, device) for pattern in self.identities)

    @property
    def certificate_model(self) -> CertificateModel:
        """`model` as SET_CERTIFICATE says it."""
        return MODELS[self.model]

    def certificate_profile(self, device: Subject) -> Profile:
        """The extensions of the certificate for a device."""
        if self.model == "alias":
            return Profile.device_authority(device.device_name, self.path_length)
        return Profile.leaf(
            self.certificate_model,
            device.device_name,
            responder=self.responder,
            requester=self.requester,
        )

    def subject_for(self, device: Subject) -> str:
        """The certificate's subject in RFC 4514 text."""
        manufacturer, product, serial = [*device.device_name.split(":"), "", "", ""][:3]
        values = {
            "manufacturer": manufacturer,
            "product": product,
            "serial_number": serial,
            "device_name": device.device_name,
        }
        escaped = {name: escape_name_value(value) for name, value in values.items()}
        return self.subject.format_map({**escaped, "subject": device.subject})

    def issuance(self, serial: int, now: dt.datetime) -> Issuance:
        """When the certificate holds, and its number."""
        begin = now.replace(microsecond=0)
        end = begin + dt.timedelta(days=self.days) if self.days else NO_END
        return Issuance(not_before=begin, not_after=end, serial_number=serial)


class AuthorityTable(Strict, frozen=True, kw_only=True):
    """[authority]: how the authority signs.

    Attributes:
        pss: RSASSA-PSS when its keys are RSA; PKCS #1 v1.5 otherwise.
        crl_days: how long a revocation list holds.
    """

    pss: bool = False
    crl_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30


class CaConfiguration(Strict, frozen=True, kw_only=True):
    """The whole of `ca.toml`."""

    profile: Annotated[tuple[IssuingProfile, ...], msgspec.Meta(min_length=1, max_length=1000)]
    authority: AuthorityTable = AuthorityTable()

    def profile_for(self, device: Subject, slot_id: int, name: str = "") -> IssuingProfile:
        """The first profile that names a device and a slot.

        Args:
            device: who was attested.
            slot_id: 0 to 7.
            name: consider only the profile with this name.

        Raises:
            AuthenticationError: step "ca-policy": none does.
        """
        for profile in self.profile:
            if name and profile.name != name:
                continue
            if slot_id in profile.slots and profile.names(device):
                return profile
        which = f"the profile {name!r} does not name" if name else "no profile names"
        raise AuthenticationError(
            "ca-policy",
            f"{which} {device} and slot {slot_id}",
            hint="ca.toml says which devices may be issued what",
        )


def read_ca_configuration(data: bytes, source: str) -> CaConfiguration:
    """Read `ca.toml`.

    Raises:
        ConfigurationError: it is wrong; the message begins with "file:line:".
    """
    file = TomlFile(data, source)
    configuration = file.convert(CaConfiguration)
    seen: set[str] = set()
    for number, profile in enumerate(configuration.profile):
        path = ("profile", number)
        if profile.name in seen:
            raise file.wrong((*path, "name"), f"{profile.name!r} is there already")
        seen.add(profile.name)
        reason = _template_fault(profile.subject)
        if reason:
            raise file.wrong((*path, "subject"), reason, hint=f"known: {', '.join(_FIELDS)}")
        if profile.path_length is not None and profile.model != "alias":
            raise file.wrong((*path, "path_length"), 'goes with model = "alias" only')
    return configuration


def _template_fault(template: str) -> str:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        return str(error)
    for _, name, form, conversion in parts:
        if name is not None and (name not in _FIELDS or form or conversion):
            return f"{{{name}}} is not known"
    return ""


def _matches(pattern: str, device: Subject) -> bool:
    kinds: Mapping[str, str] = {"subject": device.subject, "spki-sha256": device.spki_sha256}
    kind, _, text = pattern.partition(":")
    if kind == "spki-sha256":
        text = text.lower()
    if kind in kinds:
        return _fits(text, kinds[kind])
    if pattern == "*":
        return True
    return bool(device.device_name) and _fits(pattern, device.device_name)


def _fits(pattern: str, text: str) -> bool:
    """Whether a text is what a pattern says; only `*` stands for something else, any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None

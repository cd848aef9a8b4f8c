"""What a verified certificate claims: who the device is, and what DICE says it runs.

Claims are read only after the chain has been verified; `VerifiedChain.identity` gives them.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import cached_property
from string import hexdigits
from typing import Final

from cryptography.x509.oid import NameOID

from spdmkit.errors import AuthenticationError, ConfigurationError
from spdmkit.identity.certificate import Certificate, Extended
from spdmkit.identity.text import safe_text
from spdmkit.messages import CertificateModel

__all__ = ["DeviceName", "Identity", "IdentityExpectation"]


@dataclass(frozen=True, slots=True)
class DeviceName:
    """SPDM's otherName of a subject alternative name (DSP0274 10.9.2).

    Attributes:
        text: the whole value as it stands in the certificate, usually
            "manufacturer:product:serial number".
    """

    text: str

    @property
    def parts(self) -> tuple[str, str, str] | None:
        """Manufacturer, product and serial number, or None when there are not just these three."""
        parts = self.text.split(":")
        return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None

    @property
    def manufacturer(self) -> str:
        """First part, or empty."""
        return self.parts[0] if self.parts else ""

    @property
    def product(self) -> str:
        """Second part, or empty."""
        return self.parts[1] if self.parts else ""

    @property
    def serial_number(self) -> str:
        """Third part, or empty."""
        return self.parts[2] if self.parts else ""

    def __str__(self) -> str:
        """The value, safe to print."""
        return safe_text(self.text)


class Identity:
    """Who holds the leaf's key, as its issuers say.

    Attributes:
        certificate: the leaf.
        model: the certificate model: told by the peer, else what the SPDM marks show, else NONE.
        device_names: SPDM's names of the leaf; without any, those of the nearest certificate above
            that is marked as hardware identity (in the alias model it carries them).
        hardware_identity: a certificate of the chain is marked as hardware identity.
    """

    def __init__(self, chain: tuple[Certificate, ...], model: CertificateModel) -> None:
        """Read the claims of a chain, root first.

        Raises:
            DecodeError: an extension is not well formed.
        """
        self.certificate = chain[-1]
        self.model = model if model is not CertificateModel.NONE else infer_model(chain)
        marked = [item for item in chain if item.hardware_identity]
        self.hardware_identity = bool(marked)
        names = read_device_names(self.certificate)
        if not names and marked:
            names = read_device_names(marked[-1])
        self.device_names = names

    @property
    def subject(self) -> str:
        """The leaf's subject, safe to print."""
        return self.certificate.subject

    @property
    def issuer(self) -> str:
        """The leaf's issuer, safe to print."""
        return self.certificate.issuer

    @property
    def serial(self) -> str:
        """The leaf certificate's serial number in upper-case hex, two digits a byte."""
        number = self.certificate.serial_number
        return number.to_bytes((number.bit_length() + 7) // 8, "big").hex().upper()

    @property
    def device_name(self) -> DeviceName | None:
        """The first of SPDM's names, or None."""
        return self.device_names[0] if self.device_names else None

    @cached_property
    def device_serial(self) -> str:
        """The device's own serial number, safe to print: from its name or its subject; or empty."""
        if self.device_name is not None and self.device_name.serial_number:
            return safe_text(self.device_name.serial_number)
        found = self.certificate.x509.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
        return safe_text(str(found[0].value)) if found else ""

    @property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the leaf's SubjectPublicKeyInfo."""
        return self.certificate.spki_sha256

    @property
    def certificate_sha256(self) -> bytes:
        """SHA-256 of the leaf certificate."""
        return self.certificate.sha256

    @property
    def key_type(self) -> str:
        """Kind and size of the leaf's key."""
        return self.certificate.key_type

    def as_dict(self) -> dict[str, object]:
        """The claims for a JSON report."""
        name = self.device_name
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": self.serial,
            "san": None if name is None else str(name),
            "manufacturer": None if name is None else safe_text(name.manufacturer),
            "product": None if name is None else safe_text(name.product),
            "device_serial": self.device_serial or None,
            "spki_sha256": self.spki_sha256.hex(),
            "certificate_sha256": self.certificate_sha256.hex(),
            "key_type": self.key_type,
            "model": self.model.name.lower(),
            "hardware_identity": self.hardware_identity,
        }

    def __str__(self) -> str:
        """What to call the device: its SPDM name, else its subject."""
        return str(self.device_name) if self.device_name else self.subject

    def __repr__(self) -> str:
        return f"<Identity {self}>"


def infer_model(chain: tuple[Certificate, ...]) -> CertificateModel:
    """The model that the SPDM marks show when the peer does not tell it (7.2.1.1)."""
    leaf = chain[-1]
    if leaf.hardware_identity:
        return CertificateModel.DEVICE
    if leaf.mutable or any(item.hardware_identity for item in chain):
        return CertificateModel.ALIAS
    return CertificateModel.NONE


def read_device_names(certificate: Extended) -> tuple[DeviceName, ...]:
    """SPDM's otherName entries of a certificate, or of a request for one.

    Raises:
        DecodeError: an entry of SPDM's type is not a UTF8String.
    """
    return tuple(map(DeviceName, certificate.device_info))


_HEX_KINDS: Final = {"spki-sha256": 32, "cert-sha256": 32}


@dataclass(frozen=True, slots=True)
class IdentityExpectation:
    """Which device is expected, as a person writes it for `--expect-identity`.

    Attributes:
        kind: "san", "serial", "device-serial", "spki-sha256" or "cert-sha256".
        value: what it must be; hex without separators for numbers and digests.
    """

    kind: str
    value: str

    @classmethod
    def parse(cls, text: str) -> IdentityExpectation:
        """Read an expression.

        `serial:HEX` the leaf certificate's serial number; `device-serial:TEXT` the device's own, as
        its name or subject says; `spki-sha256:HEX` the leaf's key; `cert-sha256:HEX` the leaf
        certificate; `san:TEXT`, or anything else, SPDM's name "manufacturer:product:serial".

        Raises:
            ConfigurationError: empty, or not the hex digits it should be.
        """
        kind, separator, value = text.partition(":")
        kind = kind.lower()
        if not separator or kind not in {"san", "serial", "device-serial", *_HEX_KINDS}:
            kind, value = "san", text
        if kind == "serial" or kind in _HEX_KINDS:
            value = _hex_digits(text, value, _HEX_KINDS.get(kind))
        if not value:
            raise ConfigurationError(
                "an empty identity is expected",
                hint="give MANUFACTURER:PRODUCT:SERIAL, serial:HEX or spki-sha256:HEX",
            )
        return cls(kind, value)

    def matches(self, identity: Identity) -> bool:
        """Whether `identity` is the one expected."""
        if self.kind == "san":
            return any(name.text == self.value for name in identity.device_names)
        if self.kind == "device-serial":
            return bool(identity.device_serial) and identity.device_serial == safe_text(self.value)
        if self.kind == "serial":
            return int(self.value, 16) == identity.certificate.serial_number
        found = identity.spki_sha256 if self.kind == "spki-sha256" else identity.certificate_sha256
        return hmac.compare_digest(found.hex(), self.value)

    def check(self, identity: Identity) -> None:
        """Refuse any other device.

        Raises:
            AuthenticationError: step "identity", with what was expected and who answered.
        """
        if not self.matches(identity):
            raise AuthenticationError(
                "identity",
                f"expected {self}, but {identity} answered "
                f"(serial:{identity.serial}, spki-sha256:{identity.spki_sha256.hex()})",
                hint="another genuine device may stand behind this address",
            )

    def __str__(self) -> str:
        value = safe_text(self.value)
        return value if self.kind == "san" else f"{self.kind}:{value}"


def _hex_digits(text: str, value: str, size: int | None) -> str:
    digits = value.replace(":", "").replace(" ", "").lower().removeprefix("0x")
    if not digits or not set(digits) <= set(hexdigits):
        raise ConfigurationError(f"{safe_text(text)!r} is not in hex")
    if size is not None and len(digits) != 2 * size:
        raise ConfigurationError(f"{safe_text(text)!r} has not {size} bytes in hex")
    return digits

"""TCG DICE extensions: what a layer of firmware is, as the layer below it certified.

DiceTcbInfo (2.23.133.5.4.1) and DiceMultiTcbInfo (2.23.133.5.4.5) of the TCG DICE Attestation
Architecture 1.1 and 1.2. Devices made before it settled carry the earlier CompositeDeviceID under
the first identifier: a version, the device's public key and one FWID.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from spdmkit.crypto.der import INTEGER, Reader, context
from spdmkit.identity import oids
from spdmkit.identity.certificate import Certificate
from spdmkit.identity.text import safe_text

__all__ = ["Fwid", "TcbInfo", "decode_multi_tcb_info", "decode_tcb_info", "read_tcb_infos"]

_NAME: Final = "DiceTcbInfo"
_MAX_FWIDS: Final = 64
_MAX_LAYERS: Final = 64

FLAGS: Final = (
    "not-configured",
    "not-secure",
    "recovery",
    "debug",
    "not-replay-protected",
    "not-integrity-protected",
    "not-runtime-measured",
    "not-immutable",
    "not-tcb",
)
"""OperationalFlags by bit; bit 31 only fixes the width."""


@dataclass(frozen=True, slots=True)
class Fwid:
    """A firmware identifier: a digest and the algorithm that made it.

    Attributes:
        algorithm: name of the hash, or its dotted object identifier when unknown.
        digest: the digest.
    """

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """One layer. Text is as it stands in the certificate; print it through `safe_text`.

    Attributes:
        vendor, model, version: names, or None.
        svn: security version number, or None.
        layer, index: which layer, and which of several in it; or None.
        fwids: firmware identifiers.
        flags: names of the operational flags that are set.
        flags_mask: names of the flags that `flags` speaks of; None when all.
        vendor_info, kind: octets whose meaning is the vendor's, or None.
        registers: integrity registers (1.2) in DER, or None.
        device_key: SubjectPublicKeyInfo of the device key in the earlier form, or None.
    """

    vendor: str | None = None
    model: str | None = None
    version: str | None = None
    svn: int | None = None
    layer: int | None = None
    index: int | None = None
    fwids: tuple[Fwid, ...] = ()
    flags: frozenset[str] = frozenset()
    flags_mask: frozenset[str] | None = None
    vendor_info: bytes | None = None
    kind: bytes | None = None
    registers: bytes | None = None
    device_key: bytes | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, object]:
        """The claims that are there, for a JSON report; text escaped, octets in hex."""
        values: dict[str, object] = {
            "vendor": None if self.vendor is None else safe_text(self.vendor),
            "model": None if self.model is None else safe_text(self.model),
            "version": None if self.version is None else safe_text(self.version),
            "svn": self.svn,
            "layer": self.layer,
            "index": self.index,
            "fwids": [{"algorithm": f.algorithm, "digest": f.digest.hex()} for f in self.fwids],
            "flags": sorted(self.flags),
            "vendor_info": None if self.vendor_info is None else self.vendor_info.hex(),
            "type": None if self.kind is None else self.kind.hex(),
        }
        return {name: value for name, value in values.items() if value not in (None, [])}


def read_tcb_infos(certificate: Certificate) -> tuple[TcbInfo, ...]:
    """All layers that a certificate speaks of.

    Raises:
        DecodeError: an extension is neither form.
    """
    single = certificate.extension_value(oids.DICE_TCB_INFO)
    several = certificate.extension_value(oids.DICE_MULTI_TCB_INFO)
    return (() if single is None else (decode_tcb_info(single),)) + (
        () if several is None else decode_multi_tcb_info(several)
    )


def decode_tcb_info(der: bytes) -> TcbInfo:
    """Decode a DiceTcbInfo, or the earlier CompositeDeviceID.

    Raises:
        DecodeError: it is neither.
    """
    whole = Reader(der, structure=_NAME)
    body = whole.sequence(_NAME)
    whole.finish(_NAME)
    return _composite_device_id(body) if body.next_tag() == INTEGER else _tcb_info(body)


def decode_multi_tcb_info(der: bytes) -> tuple[TcbInfo, ...]:
    """Decode a DiceMultiTcbInfo: a SEQUENCE of DiceTcbInfo.

    Raises:
        DecodeError: it is none, or holds more than 64.
    """
    whole = Reader(der, structure="DiceMultiTcbInfo")
    entries = whole.sequence("DiceMultiTcbInfo")
    whole.finish("DiceMultiTcbInfo")
    infos: list[TcbInfo] = []
    while entries:
        if len(infos) == _MAX_LAYERS:
            raise entries.fail("DiceMultiTcbInfo", f"more than {_MAX_LAYERS} layers")
        infos.append(_tcb_info(entries.sequence(_NAME)))
    return tuple(infos)


def _tcb_info(body: Reader) -> TcbInfo:
    """The fields, each optional, in the order of their tags [0] to [11]."""

    def text(tag: int) -> str:
        return body.text("text", tag)

    def number(tag: int) -> int:
        return body.integer("number", tag)

    def octets(tag: int) -> bytes:
        return body.octets("octets", tag)

    fwids = context(6, constructed=True)
    info = TcbInfo(
        vendor=body.optional(context(0), text),
        model=body.optional(context(1), text),
        version=body.optional(context(2), text),
        svn=body.optional(context(3), number),
        layer=body.optional(context(4), number),
        index=body.optional(context(5), number),
        fwids=_fwids(body.enter(fwids, "fwids")) if body.next_tag() == fwids else (),
        flags=body.optional(context(7), lambda tag: _flags(body, tag)) or frozenset(),
        vendor_info=body.optional(context(8), octets),
        kind=body.optional(context(9), octets),
        flags_mask=body.optional(context(10), lambda tag: _flags(body, tag)),
        # The ASN.1 module of version 1.2 numbers the registers [11], its text [10]. Only they are
        # constructed, so either is told from flagsMask.
        registers=body.optional(context(10, constructed=True), octets)
        or body.optional(context(11, constructed=True), octets),
    )
    body.finish("integrityRegisters")
    return info


def _composite_device_id(body: Reader) -> TcbInfo:
    version = body.integer("version")
    if version != 1:
        raise body.fail("version", f"CompositeDeviceID version {version}, not 1")
    key = body.take_any("deviceID")
    fwid = _fwid(body.sequence("fwid"))
    body.finish("fwid")
    return TcbInfo(fwids=(fwid,), device_key=key)


def _fwids(body: Reader) -> tuple[Fwid, ...]:
    fwids: list[Fwid] = []
    while body:
        if len(fwids) == _MAX_FWIDS:
            raise body.fail("fwids", f"more than {_MAX_FWIDS}")
        fwids.append(_fwid(body.sequence("fwids")))
    if not fwids:
        raise body.fail("fwids", "is empty")
    return tuple(fwids)


def _fwid(body: Reader) -> Fwid:
    algorithm = body.object_identifier("hashAlg")
    digest = body.octets("digest")
    body.finish("digest")
    return Fwid(oids.HASHES.get(algorithm, algorithm), digest)


def _flags(body: Reader, tag: int) -> frozenset[str]:
    _, bits = body.bits("flags", tag)
    return frozenset(
        name
        for number, name in enumerate(FLAGS)
        if number // 8 < len(bits) and bits[number // 8] & 0x80 >> number % 8
    )

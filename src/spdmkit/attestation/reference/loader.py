"""From a file's bytes to reference values that may be used: format found, signature verified."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spdmkit.attestation.cose import ALG, Sign1
from spdmkit.attestation.files import read_bounded
from spdmkit.attestation.reference import corim
from spdmkit.attestation.reference.json_format import from_json, looks_like_json
from spdmkit.attestation.reference.model import Manifest
from spdmkit.attestation.reference.signers import STEP, SignerCheck, VerifiedSigner
from spdmkit.attestation.reference.tcg_rim import looks_like_xml, read_tcg_rim
from spdmkit.attestation.vendor import profile_by_name
from spdmkit.crypto.documents import algorithm_by_cose
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError

__all__ = ["MAX_FILE_SIZE", "Reference", "load_references", "read_references"]

MAX_FILE_SIZE: Final = 4 << 20
"""Largest file of reference values that is read, in bytes."""
_JUDGED_ANEW: Final = 3600
"""Seconds after which the signer of reference values is judged again in any case."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference values, where they came from, and who vouches for them.

    Attributes:
        manifest: the values.
        source: file name or store entry, for reports.
        sha256: of the file's bytes, lower-case hex.
        signer: the verified signer; None when the file is not signed.
    """

    manifest: Manifest
    source: str
    sha256: str
    signer: VerifiedSigner | None = None

    def holds(self, since: int, time: int) -> bool:
        """Whether what was verified at one time can be used at another without verifying again.

        Args:
            since: when it was verified, seconds since 1970.
            time: when it is to be used.
        """
        if not since <= time < since + _JUDGED_ANEW:
            return False
        signer = self.signer
        return signer is None or signer.checked_at is None or time <= signer.until

    def describe(self) -> str:
        """One line: what, and who signed it."""
        by = f"signed by {self.signer.subject}" if self.signer else "not signed"
        return f"{self.manifest.title} ({by})"


def read_references(
    data: bytes, check: SignerCheck, *, source: str = "reference values", profile: str = ""
) -> tuple[Reference, ...]:
    """Read reference values in any of the formats; a signature is verified before use.

    Args:
        data: the file's bytes.
        check: decides about signers.
        source: what to call the file in errors and reports.
        profile: vendor profile for manifests that do not show their own.

    Raises:
        AuthenticationError: step "reference-signature": signed by nobody we trust, altered, or
            its signer's certificates are not valid at the time.
        DecodeError: malformed.
        ConfigurationError: none of the formats, or unusable content.
    """
    if len(data) > MAX_FILE_SIZE:
        raise ConfigurationError(f"{source}: {len(data)} bytes, more than {MAX_FILE_SIZE}")
    try:
        manifests, signer = _read(data, check, profile, source)
    except AuthenticationError as error:
        raise AuthenticationError(
            error.step, f"{source}: {error.reason}", hint=error.hint
        ) from error
    except DecodeError as error:
        where = f"{source} ({error.message})"
        raise DecodeError(where, error.field, error.offset, error.reason) from error
    if signer is None and check.demand_signature:
        raise AuthenticationError(
            STEP,
            f"{source}: not signed, and the policy demands a signature",
            hint="a signed CoRIM or TCG RIM carries one",
        )
    sha256 = hashlib.sha256(data).hexdigest()
    return tuple(Reference(manifest, source, sha256, signer) for manifest in manifests)


def load_references(
    path: str | Path, check: SignerCheck, *, profile: str = ""
) -> tuple[Reference, ...]:
    """As `read_references`, from a file.

    Raises:
        ConfigurationError: the file cannot be read; and what `read_references` raises.
    """
    data = read_bounded(path, MAX_FILE_SIZE)
    return read_references(data, check, source=Path(path).name, profile=profile)


def _read(
    data: bytes, check: SignerCheck, profile: str, source: str
) -> tuple[tuple[Manifest, ...], VerifiedSigner | None]:
    if looks_like_json(data):
        manifest = from_json(data, source)
        profile_by_name(manifest.profile)  # refuses a profile that nobody here knows
        return (manifest,), None
    if looks_like_xml(data):
        manifest, signer = read_tcg_rim(data, check, profile=profile_by_name(profile))
        return (manifest,), signer
    if corim.looks_like_corim(data):
        return _read_corim(data, check)
    raise ConfigurationError(
        f"{source}: not reference values in a format that is known",
        hint="JSON of spdmkit, CoRIM (CBOR), or a TCG reference integrity manifest (SWID XML)",
    )


def _read_corim(
    data: bytes, check: SignerCheck
) -> tuple[tuple[Manifest, ...], VerifiedSigner | None]:
    signed = corim.open_signed(data)
    if signed is None:
        return corim.manifests_from_corim(data), None
    signer = _corim_signer(signed, check)
    validity = corim.signature_validity(signed)
    return corim.manifests_from_corim(signed.payload or b"", validity=validity), signer


def _corim_signer(signed: Sign1, check: SignerCheck) -> VerifiedSigner:
    algorithm = algorithm_by_cose(signed.protected.get(ALG))
    name = algorithm.name if algorithm is not None else "unknown"
    certificates = signed.certificates(what="CoRIM")
    if certificates:
        signer = check.chain(certificates, name)
        try:
            signed.verify(signer.public_key)
        except AuthenticationError as error:
            raise AuthenticationError(STEP, error.reason) from error
        return signer
    if check.anchors is None:
        check.chain((), name)  # refuses, with the hint
    for signer in check.anchored_keys(name):
        try:
            signed.verify(signer.public_key)
        except AuthenticationError:
            continue
        return signer
    raise AuthenticationError(
        STEP,
        f"brings no certificate, and was signed by none of our {len(check.anchors or ())} anchors",
        hint="give the signer's own certificate as a reference-signer anchor",
    )

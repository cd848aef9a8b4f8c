"""EAT attestation results (draft-ietf-rats-ear): a result that relying parties can check.

The token has one submodule, labelled `spdm-device`, with the trustworthiness vector of AR4SI
(draft-ietf-rats-ar4si):

    instance-identity  2 the expected device, 97 another one; absent when nothing was expected
    hardware           2 the chain hangs on an anchor of ours, 97 it does not
    executables        3 firmware and ROM match, 96 they do not, 32 security version too low,
                       1 not all of them can be judged
    configuration      2 configuration and device mode are as they should be, 96 they are not,
                       1 not all of it can be judged
    99 in each of them: a signature over the evidence does not hold

`ear_status` follows the verdict: affirming, contraindicated, or none for not-appraised. Two maps of
our own say more: `spdmkit_measurements` (index -> result) and `spdmkit_identity`; in CWT they have
the private keys -71001 and -71002.

The key decides the algorithm, both when signing and when reading.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spdmkit.attestation import cbor
from spdmkit.attestation.base64url import from_base64url, to_base64url
from spdmkit.attestation.cose import ALG, KID, Sign1, make_sign1
from spdmkit.attestation.dates import describe_time
from spdmkit.attestation.outcome import (
    AttestationResult,
    MeasurementOutcome,
    MeasurementResult,
    Verdict,
)
from spdmkit.crypto.documents import algorithm_for, sign_document, verify_document
from spdmkit.crypto.keys import PrivateKey, PublicKey
from spdmkit.errors import AuthenticationError, DecodeError
from spdmkit.identity import Outcome

__all__ = [
    "PROFILE",
    "SUBMODULE",
    "EarOptions",
    "claims",
    "read_cwt",
    "read_jwt",
    "to_cwt",
    "to_jwt",
]

PROFILE: Final = "tag:ietf.org,2026:rats/ear#03"
SUBMODULE: Final = "spdm-device"
DEVELOPER: Final = "spdmkit"

_TIER_OF_VERDICT: Final = {
    Verdict.TRUSTED: "affirming",
    Verdict.UNTRUSTED: "contraindicated",
    Verdict.NOT_APPRAISED: "none",
}
_TIERS: Final = {"none": 0, "affirming": 2, "warning": 32, "contraindicated": 96}
_VECTOR: Final = {"instance-identity": 0, "configuration": 1, "executables": 2, "hardware": 4}

# CWT claim keys (RFC 8392, RFC 9711, draft-ietf-rats-ear)
_EXP, _IAT, _NONCE, _EAT_PROFILE, _SUBMODS = 4, 6, 10, 265, 266
_STATUS, _TRUST_VECTOR, _RAW_EVIDENCE, _POLICY_IDS, _VERIFIER_ID = 1000, 1001, 1002, 1003, 1004
_OUR_MEASUREMENTS, _OUR_IDENTITY = -71001, -71002
_TYP: Final = 16  # COSE header parameter (RFC 9596)

_MAX_TOKEN: Final = 32 << 20
_EXECUTABLES: Final = frozenset(
    {"immutable-rom", "mutable-firmware", "mutable-firmware-version", "mutable-firmware-svn",
     "hash-extend"}
)  # fmt: skip
_CONFIGURATION: Final = frozenset(
    {"hardware-configuration", "firmware-configuration", "device-mode"}
)

_AFFIRMED, _BOOTED, _UNKNOWN, _VULNERABLE, _REFUSED, _UNRECOGNISED, _NOT_CRYPTOGRAPHIC = (
    2, 3, 1, 32, 96, 97, 99,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EarOptions:
    """What a token says besides the result.

    Attributes:
        issued_at: seconds since 1970.
        expires_at: seconds since 1970, or None.
        nonce: the relying party's, 8 to 64 bytes, or empty.
        raw_evidence: the evidence file to put in, or empty.
    """

    issued_at: int
    expires_at: int | None = None
    nonce: bytes = b""
    raw_evidence: bytes = b""


def claims(result: AttestationResult, options: EarOptions) -> dict[str, Any]:
    """The claims set in its JSON form."""
    tier = _TIER_OF_VERDICT[result.verdict]
    submodule: dict[str, Any] = {"ear_status": tier}
    vector = trust_vector(result)
    if vector:
        submodule["ear_trustworthiness_vector"] = vector
    if result.policy:
        submodule["ear_appraisal_policy_ids"] = [result.policy]
    if result.nonces:
        submodule["eat_nonce"] = to_base64url(bytes.fromhex(result.nonces[-1]))
    if result.measurements:
        submodule["spdmkit_measurements"] = {
            str(each.index): str(each.result) for each in result.measurements
        }
    identity = {name: value for name, value in result.identity.items() if value is not None}
    if identity:
        submodule["spdmkit_identity"] = identity
    found: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": options.issued_at,
        "ear_verifier_id": {"developer": DEVELOPER, "build": _build()},
        "ear_status": tier,
        "submods": {SUBMODULE: submodule},
    }
    if options.expires_at is not None:
        found["exp"] = options.expires_at
    if options.nonce:
        found["eat_nonce"] = to_base64url(options.nonce)
    if options.raw_evidence:
        found["ear_raw_evidence"] = to_base64url(options.raw_evidence)
    return found


def trust_vector(result: AttestationResult) -> dict[str, int]:
    """The trustworthiness vector (AR4SI 2.3); claims about which nothing is known are left out."""
    outcomes = {step.name: step.outcome for step in result.steps}
    unauthentic = [
        name
        for name in ("decode", "chain-hash", "challenge", "session", "signature")
        if outcomes.get(name) is Outcome.FAILED
    ]
    if unauthentic:
        return dict.fromkeys(_VECTOR, _NOT_CRYPTOGRAPHIC)
    found: dict[str, int] = {}
    chain = outcomes.get("chain")
    if chain is not None:
        found["hardware"] = _AFFIRMED if chain is Outcome.PASSED else _UNRECOGNISED
    identity = outcomes.get("identity")
    if identity in (Outcome.PASSED, Outcome.FAILED):
        found["instance-identity"] = _AFFIRMED if identity is Outcome.PASSED else _UNRECOGNISED
    executables = _of_measurements(result, _EXECUTABLES, _BOOTED)
    if outcomes.get("security-version") is Outcome.FAILED and executables != _REFUSED:
        executables = _VULNERABLE
    configuration = _of_measurements(result, _CONFIGURATION, _AFFIRMED)
    if outcomes.get("device-mode") is Outcome.FAILED:
        configuration = _REFUSED
    found |= {
        name: value
        for name, value in (("executables", executables), ("configuration", configuration))
        if value is not None
    }
    return found


def _of_measurements(result: AttestationResult, kinds: frozenset[str], affirmed: int) -> int | None:
    """The claim about measurements of some kinds; None when there are none."""
    bad = (MeasurementOutcome.MISMATCH, MeasurementOutcome.MALFORMED, MeasurementOutcome.MISSING)
    judged = [
        each
        for each in result.measurements
        if each.result is not MeasurementOutcome.NOT_REQUIRED and _is_of(each, kinds)
    ]
    if not judged:
        return None
    if any(each.result in bad for each in judged):
        return _REFUSED
    if all(each.result is MeasurementOutcome.MATCH for each in judged):
        return affirmed
    return affirmed if result.verdict is Verdict.TRUSTED else _UNKNOWN


def _is_of(each: MeasurementResult, kinds: frozenset[str]) -> bool:
    """Of these kinds; what is missing has none and counts as executable."""
    return each.type in kinds or (not each.type and "mutable-firmware" in kinds)


# --- JWT ---------------------------------------------------------------------------------------


def to_jwt(result: AttestationResult, key: PrivateKey, options: EarOptions) -> str:
    """The result as a signed JWT in compact form (RFC 7519, 7515).

    Raises:
        UnsupportedAlgorithm: JOSE has no algorithm for the key.
    """
    header = {
        "alg": algorithm_for(key).name,
        "typ": "eat+jwt",
        "kid": to_base64url(key.public_key.spki_sha256()),
    }
    signed = f"{_segment(header)}.{_segment(claims(result, options))}"
    return f"{signed}.{to_base64url(sign_document(key, signed.encode()))}"


def read_jwt(token: str, keys: Sequence[PublicKey], *, now: int) -> dict[str, Any]:
    """The claims of a JWT that one of the keys signed.

    Args:
        token: the compact form.
        keys: keys of verifiers that are trusted.
        now: seconds since 1970, for its expiry.

    Raises:
        AuthenticationError: step "ear": none of them did, or it has expired.
        DecodeError: not a JWT, or not an EAR of this profile.
    """
    if len(token) > _MAX_TOKEN or token.count(".") != 2:
        raise DecodeError("EAR", "token", 0, "not a JWT in compact form")
    signed, _, signature = token.rpartition(".")
    header, payload = (_json_segment(part) for part in signed.split("."))
    if header.get("crit") is not None:
        raise DecodeError("EAR", "crit", 0, "a critical header parameter is not understood")
    for key in keys:
        algorithm = algorithm_for(key)
        if header.get("alg") != algorithm.name:
            continue
        try:
            verify_document(key, algorithm, signed.encode(), _from_base64url(signature))
        except AuthenticationError:
            continue
        return _checked(payload, payload.get("eat_profile"), payload.get("exp"), now)
    raise AuthenticationError("ear", "signed by no verifier that is trusted")


# --- CWT ---------------------------------------------------------------------------------------


def to_cwt(result: AttestationResult, key: PrivateKey, options: EarOptions) -> bytes:
    """The result as a signed CWT (RFC 8392): COSE_Sign1 under tag 18.

    Raises:
        UnsupportedAlgorithm: COSE has no algorithm for the key.
    """
    payload = cbor.encode(_cwt_claims(claims(result, options)))
    protected = {_TYP: "application/eat+cwt", KID: key.public_key.spki_sha256()}
    return cbor.encode(make_sign1(key, payload, protected=protected))


def read_cwt(token: bytes, keys: Sequence[PublicKey], *, now: int) -> dict[int, Any]:
    """The claims of a CWT that one of the keys signed, with CWT's integer keys.

    Args:
        token: the COSE_Sign1.
        keys: keys of verifiers that are trusted.
        now: seconds since 1970, for its expiry.

    Raises:
        AuthenticationError: step "ear": none of them did, or it has expired.
        DecodeError: not a CWT, or not an EAR of this profile.
    """
    item = cbor.decode(token, what="EAR", limit=_MAX_TOKEN)
    signed = Sign1.read(item, what="EAR", understood=frozenset({_TYP, ALG}))
    for key in keys:
        try:
            signed.verify(key)
        except AuthenticationError:
            continue
        payload = cbor.thaw(cbor.decode(signed.payload or b"", what="EAR", limit=_MAX_TOKEN))
        if not isinstance(payload, dict):
            raise DecodeError("EAR", "claims", 0, "not a map")
        return _checked(payload, payload.get(_EAT_PROFILE), payload.get(_EXP), now)
    raise AuthenticationError("ear", "signed by no verifier that is trusted")


def _cwt_claims(found: Mapping[str, Any]) -> dict[int, Any]:
    """The claims set in its CBOR form."""
    verifier = found["ear_verifier_id"]
    mapped: dict[int, Any] = {
        _EAT_PROFILE: found["eat_profile"],
        _IAT: found["iat"],
        _VERIFIER_ID: {0: verifier["developer"], 1: verifier["build"]},
        _STATUS: _TIERS[found["ear_status"]],
        _SUBMODS: {
            label: _cwt_submodule(submodule) for label, submodule in found["submods"].items()
        },
    }
    if "exp" in found:
        mapped[_EXP] = found["exp"]
    if "eat_nonce" in found:
        mapped[_NONCE] = _from_base64url(found["eat_nonce"])
    if "ear_raw_evidence" in found:
        mapped[_RAW_EVIDENCE] = _from_base64url(found["ear_raw_evidence"])
    return mapped


def _cwt_submodule(submodule: Mapping[str, Any]) -> dict[int, Any]:
    mapped: dict[int, Any] = {_STATUS: _TIERS[submodule["ear_status"]]}
    if "ear_trustworthiness_vector" in submodule:
        vector = submodule["ear_trustworthiness_vector"]
        mapped[_TRUST_VECTOR] = {_VECTOR[name]: value for name, value in vector.items()}
    if "ear_appraisal_policy_ids" in submodule:
        mapped[_POLICY_IDS] = submodule["ear_appraisal_policy_ids"]
    if "eat_nonce" in submodule:
        mapped[_NONCE] = _from_base64url(submodule["eat_nonce"])
    if "spdmkit_measurements" in submodule:
        measurements = submodule["spdmkit_measurements"]
        mapped[_OUR_MEASUREMENTS] = {int(index): value for index, value in measurements.items()}
    if "spdmkit_identity" in submodule:
        mapped[_OUR_IDENTITY] = submodule["spdmkit_identity"]
    return mapped


# --- helpers -----------------------------------------------------------------------------------


def _checked(payload: dict[Any, Any], profile: object, expiry: object, now: int) -> dict[Any, Any]:
    if profile != PROFILE:
        raise DecodeError("EAR", "eat_profile", 0, f"{profile!r}, this reads {PROFILE}")
    if expiry is not None:
        if not isinstance(expiry, int) or isinstance(expiry, bool):
            raise DecodeError("EAR", "exp", 0, "not an integer")
        if expiry <= now:
            raise AuthenticationError("ear", f"expired at {describe_time(expiry)}")
    return payload


def _build() -> str:
    try:
        return f"spdmkit {importlib.metadata.version('spdmkit')}"
    except importlib.metadata.PackageNotFoundError:
        return "spdmkit"


def _from_base64url(text: str) -> bytes:
    return from_base64url(text, what="EAR", field="token")


def _segment(item: Mapping[str, Any]) -> str:
    return to_base64url(json.dumps(item, separators=(",", ":")).encode())


def _json_segment(segment: str) -> dict[str, Any]:
    try:
        found = json.loads(_from_base64url(segment))
    except (ValueError, RecursionError):
        raise DecodeError("EAR", "token", 0, "a segment is not JSON") from None
    if not isinstance(found, dict):
        raise DecodeError("EAR", "token", 0, "a segment is no JSON object")
    return found

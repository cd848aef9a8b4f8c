"""TCG reference integrity manifests: SWID tags (ISO/IEC 19770-2) in XML with an XML signature.

The signature is the risk here, so its shape is checked against a short list before anything is
verified, and only the element that the signature covered is read afterwards:

1. UTF-8, no document type declaration, no entities, nothing fetched, no processing instruction
2. one Signature, a child of the root; one Reference, to the whole document; transforms are
   "enveloped signature" and canonicalisation, nothing else; digest and signature from a list
3. the signer's certificates, taken from the signature, chain to a reference-signer anchor of ours
4. signxml verifies the signature by that signer's key and hands back what was signed
5. the values are read from what was handed back

lxml and signxml come with the extra `rim`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from spdmkit.attestation.reference.digests import canonical_digest
from spdmkit.attestation.reference.model import (
    AllowedDigest,
    AppliesTo,
    Manifest,
    ReferenceMeasurement,
)
from spdmkit.attestation.reference.signers import SignerCheck, VerifiedSigner
from spdmkit.attestation.vendor import VendorProfile, profile_for_manifest
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError

__all__ = ["MAX_RIM_SIZE", "looks_like_xml", "read_tcg_rim"]

MAX_RIM_SIZE: Final = 4 << 20
"""Largest manifest that is read, in bytes."""

_WHAT: Final = "TCG RIM"
_SWID: Final = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_DS: Final = "http://www.w3.org/2000/09/xmldsig#"
_ENVELOPED: Final = _DS + "enveloped-signature"
_CANONICALISATIONS: Final = frozenset(
    {
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    }
)
_SIGNATURES: Final = {
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256": "ECDSA_SHA256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384": "ECDSA_SHA384",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512": "ECDSA_SHA512",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256": "RSA_SHA256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384": "RSA_SHA384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512": "RSA_SHA512",
    "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1": "SHA256_RSA_MGF1",
    "http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1": "SHA384_RSA_MGF1",
    "http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1": "SHA512_RSA_MGF1",
}
_DIGESTS: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "SHA256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "SHA384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "SHA512",
}
_HASH_NAMESPACES: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha-256",
    "http://www.w3.org/2001/04/xmlenc#sha384": "sha-384",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha-384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha-512",
}
_HASH_ATTRIBUTE: Final = re.compile(r"Hash(\d{1,3})")
_MAX_ALTERNATIVES: Final = 256


def looks_like_xml(data: bytes) -> bool:
    """Whether a file may be a SWID tag: its first character opens an element or a declaration."""
    return data.removeprefix(b"\xef\xbb\xbf")[:256].lstrip()[:1] == b"<"


def read_tcg_rim(
    data: bytes, check: SignerCheck, *, profile: VendorProfile | None = None
) -> tuple[Manifest, VerifiedSigner]:
    """Read a manifest, its signature verified first.

    A manifest without a signature is refused: whoever can take a signature away could otherwise
    change the values, and manifests of this kind are signed (TCG RIM information model).

    Args:
        data: the file's bytes.
        check: decides about the signer's certificates.
        profile: the vendor profile to read it with; default the one of its manufacturer.

    Returns:
        The manifest, and its signer.

    Raises:
        AuthenticationError: step "reference-signature": the signature or its signer is not to be
            believed.
        DecodeError: not a manifest, or XML that is refused.
        ConfigurationError: it holds no usable value, or the extra `rim` is not installed.
    """
    root = _parse(data)
    signature = _the_signature(root)
    methods = _check_shape(root, signature)
    signer = check.chain(_certificates(signature), methods.signature)
    signed = _verify(root, signer, methods)
    return _manifest(signed, profile), signer


# --- XML ---------------------------------------------------------------------------------------


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(
            f"reading XML manifests needs {name.partition('.')[0]}, which is not installed",
            hint="install it with: pip install 'spdmkit[rim]'",
        ) from None


def _malformed(reason: str) -> DecodeError:
    return DecodeError(_WHAT, "content", 0, reason)


def _parse(data: bytes) -> Any:
    """The root element of a document that holds nothing dangerous."""
    if len(data) > MAX_RIM_SIZE:
        raise DecodeError(_WHAT, "size", 0, f"{len(data)} bytes, more than {MAX_RIM_SIZE}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DecodeError(_WHAT, "content", error.start, "not UTF-8") from None
    declared = re.match(r"\s*<\?xml[^>]*encoding\s*=\s*[\"']([^\"']*)", text)
    if declared is not None and declared[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise _malformed("declares another encoding than UTF-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _malformed("has a document type declaration, which is refused")
    etree = _library("lxml.etree")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=False,
        strip_cdata=False,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _malformed(f"not well-formed XML: {error}") from None
    info = root.getroottree().docinfo
    if info.internalDTD is not None or info.externalDTD is not None:
        raise _malformed("has a document type declaration, which is refused")
    if next(root.iter(etree.Entity), None) is not None:
        raise _malformed("has an entity reference, which is refused")
    if next(root.iter(etree.ProcessingInstruction), None) is not None or _around(root, etree):
        raise _malformed("has a processing instruction, which is refused")
    if root.tag != f"{{{_SWID}}}SoftwareIdentity":
        raise _malformed("the root element is no SoftwareIdentity of ISO/IEC 19770-2:2015")
    return root


def _around(root: Any, etree: Any) -> bool:
    """Whether a processing instruction stands before or after the root element."""
    siblings = [*root.itersiblings(preceding=True), *root.itersiblings()]
    return any(sibling.tag is etree.ProcessingInstruction for sibling in siblings)


def _children(element: Any, namespace: str, name: str) -> list[Any]:
    return list(element.iterchildren(f"{{{namespace}}}{name}"))


def _the_child(element: Any, name: str) -> Any:
    found = _children(element, _DS, name)
    if len(found) != 1:
        raise _refused(f"{len(found)} {name} elements where one belongs")
    return found[0]


# --- signature ---------------------------------------------------------------------------------


def _refused(reason: str) -> AuthenticationError:
    return AuthenticationError("reference-signature", reason)


class _Methods:
    """Names of the algorithms a signature uses, as signxml calls them."""

    def __init__(self, signature: str, digest: str) -> None:
        self.signature = signature
        self.digest = digest


def _the_signature(root: Any) -> Any:
    everywhere = list(root.iter(f"{{{_DS}}}Signature"))
    if not everywhere:
        raise _refused("a reference integrity manifest without a signature")
    if len(everywhere) > 1 or everywhere[0].getparent() is not root:
        raise _refused("there has to be one signature, directly under the root element")
    return everywhere[0]


def _check_shape(root: Any, signature: Any) -> _Methods:
    """What the signature covers and by which algorithms, against what is accepted."""
    info = _the_child(signature, "SignedInfo")
    canonical = _the_child(info, "CanonicalizationMethod").get("Algorithm")
    if canonical not in _CANONICALISATIONS:
        raise _refused(f"canonicalisation {canonical!r} is not accepted")
    method = _the_child(info, "SignatureMethod").get("Algorithm")
    if method not in _SIGNATURES:
        raise _refused(f"signature algorithm {method!r} is not accepted")
    reference = _the_child(info, "Reference")
    if reference.get("URI") != "":
        raise _refused("the signature does not cover the whole document")
    transforms = [
        each.get("Algorithm")
        for each in _children(_the_child(reference, "Transforms"), _DS, "Transform")
    ]
    others = [each for each in transforms if each != _ENVELOPED]
    if (
        transforms[:1] != [_ENVELOPED]
        or len(others) != len(transforms) - 1
        or len(others) > 1
        or any(each not in _CANONICALISATIONS for each in others)
    ):
        raise _refused("transforms other than enveloped signature and canonicalisation")
    digest = _the_child(reference, "DigestMethod").get("Algorithm")
    if digest not in _DIGESTS:
        raise _refused(f"digest algorithm {digest!r} is not accepted")
    if _children(signature, _DS, "Object"):
        raise _refused("the signature carries objects of its own")
    if [each for each in root.iter() if each.get(f"{{{_DS}}}Id") is not None]:
        raise _refused("signature identifiers stand outside the signature")
    return _Methods(_SIGNATURES[method], _DIGESTS[digest])


def _certificates(signature: Any) -> tuple[bytes, ...]:
    """The signer's certificates in DER, in the order they stand: signer first."""
    data = _the_child(_the_child(signature, "KeyInfo"), "X509Data")
    found = []
    for element in _children(data, _DS, "X509Certificate"):
        try:
            found.append(base64.b64decode("".join((element.text or "").split()), validate=True))
        except (binascii.Error, ValueError):
            raise _malformed("a certificate of the signature is not base64") from None
    if not found:
        raise _refused("the signature brings no certificate of its signer")
    return tuple(found)


def _verify(root: Any, signer: VerifiedSigner, methods: _Methods) -> Any:
    """What the signature covered, after it was verified by the signer's key."""
    signxml = _library("signxml")
    configuration = signxml.SignatureConfiguration(
        require_x509=True,
        location="./",
        expect_references=1,
        signature_methods=frozenset({signxml.SignatureMethod[methods.signature]}),
        digest_algorithms=frozenset({signxml.DigestAlgorithm[methods.digest]}),
        # The chain was judged already, at the time that was asked for or by a stated rule; this
        # only keeps signxml from judging the signer's dates by today's.
        verification_time=signer.certificate.not_before + dt.timedelta(seconds=1),
    )
    try:
        result = signxml.XMLVerifier().verify(
            _library("lxml.etree").tostring(root),
            x509_cert=signer.certificate.x509,
            expect_config=configuration,
        )
    except (signxml.exceptions.SignXMLException, ValueError, TypeError, KeyError) as error:
        raise _refused(f"the XML signature does not verify: {error}") from None
    except _library("lxml.etree").LxmlError as error:
        raise _refused(f"the signature is not of the XML signature schema: {error}") from None
    if result.signed_xml is None or result.signed_xml.tag != root.tag:
        raise _refused("the signature covers something else than the manifest")
    return result.signed_xml


# --- values ------------------------------------------------------------------------------------


def _local(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes by local name; a name that stands in two namespaces is refused."""
    found: dict[str, str] = {}
    for qualified, value in attributes.items():
        name = qualified.rpartition("}")[2]
        if name in found:
            raise _malformed(f"attribute {name} stands twice")
        found[name] = value
    return found


def _manifest(root: Any, profile: VendorProfile | None) -> Manifest:
    metas = _children(root, _SWID, "Meta")
    payloads = _children(root, _SWID, "Payload")
    if len(metas) != 1 or len(payloads) != 1:
        raise _malformed("there has to be one Meta and one Payload")
    meta = _local(metas[0].attrib)
    rules = profile or profile_for_manifest(meta)
    release = meta.get("colloquialVersion", "")
    values, inactive, notes = _resources(payloads[0], rules)
    if not values:
        raise ConfigurationError("the manifest has no active measurement")
    entities = _children(root, _SWID, "Entity")
    return Manifest(
        root.get("tagId") or root.get("name") or "",
        tuple(values[index] for index in sorted(values)),
        name=root.get("name", ""),
        publisher=entities[0].get("name", "") if entities else "",
        revision=_number(root.get("tagVersion", "0"), "tagVersion"),
        component=rules.component(release) if rules else "",
        release=release,
        profile=rules.name if rules else "",
        applies_to=rules.applies_to(meta) if rules else _applies_to(meta),
        inactive=frozenset(inactive),
        format="tcg-rim",
        notes=tuple(notes),
    )


def _applies_to(meta: Mapping[str, str]) -> AppliesTo:
    def given(name: str) -> tuple[str, ...]:
        return (meta[name],) if meta.get(name) else ()

    return AppliesTo(given("PlatformManufacturerStr"), given("PlatformModel"))


def _resources(
    payload: Any, profile: VendorProfile | None
) -> tuple[dict[int, ReferenceMeasurement], set[int], list[str]]:
    offset = profile.index_offset if profile else 0
    values: dict[int, ReferenceMeasurement] = {}
    inactive: set[int] = set()
    skipped = 0
    for element in payload.iterchildren(tag="{*}*"):
        attributes = _local(element.attrib)
        if element.tag != f"{{{_SWID}}}Resource" or attributes.get("type") != "Measurement":
            skipped += 1
            continue
        index = _number(attributes.get("index", ""), "index") + offset
        if not 1 <= index <= 0xFE:
            raise _malformed(f"index {index - offset} is no measurement's")
        if index in values or index in inactive:
            raise _malformed(f"index {index - offset} is listed twice")
        if not _active(attributes):
            inactive.add(index)
            continue
        values[index] = ReferenceMeasurement(
            index,
            attributes.get("name", ""),
            digests=tuple(dict.fromkeys(_alternatives(element, attributes, index - offset))),
            condition=profile.conditions.get(index) if profile else None,
        )
    notes = [f"{skipped} elements of other kinds are not used"] if skipped else []
    return values, inactive, notes


def _active(attributes: Mapping[str, str]) -> bool:
    active = attributes.get("active", "True")
    if active not in ("True", "true", "False", "false"):
        raise _malformed(f"active is {active!r}")
    return active.lower() == "true"


def _alternatives(
    element: Any, attributes: Mapping[str, str], index: int
) -> Iterator[AllowedDigest]:
    """Hash0 to HashN of an element; their namespace names the hash."""
    found: dict[int, AllowedDigest] = {}
    for qualified, value in element.attrib.items():
        namespace, _, name = qualified.removeprefix("{").rpartition("}")
        match = _HASH_ATTRIBUTE.fullmatch(name)
        if match is None:
            continue
        algorithm = _HASH_NAMESPACES.get(namespace)
        if algorithm is None:
            raise ConfigurationError(f"index {index}: hash algorithm {namespace!r} is not accepted")
        try:
            digest = bytes.fromhex(value)
        except ValueError:
            raise _malformed(f"index {index}: {name} is not hexadecimal") from None
        found[int(match[1])] = canonical_digest(algorithm, digest, f"index {index}")
    count = _number(attributes.get("alternatives", str(len(found))), "alternatives")
    if not 0 < len(found) <= _MAX_ALTERNATIVES or sorted(found) != list(range(count)):
        raise _malformed(f"index {index}: {count} alternatives are announced, {len(found)} stand")
    size = attributes.get("size")
    if size is not None and any(
        len(each.value) != _number(size, "size") for each in found.values()
    ):
        raise _malformed(f"index {index}: a digest has not the size that is announced")
    yield from (found[number] for number in range(count))


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _malformed(f"{name} is {text!r}, no number")
    return int(text)

"""What a verified leaf claims, what is expected of it, and what DICE adds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spdmkit.crypto.der import (
    BIT_STRING,
    OCTET_STRING,
    context,
    encode_integer,
    encode_object_identifier,
    sequence,
    tlv,
)
from spdmkit.errors import AuthenticationError, ConfigurationError, DecodeError
from spdmkit.identity import (
    Certificate,
    CertificateModel,
    ChainPolicy,
    DeviceName,
    Fwid,
    Identity,
    IdentityExpectation,
    TcbInfo,
    oids,
    read_tcb_infos,
    safe_text,
)
from spdmkit.identity.dice import decode_multi_tcb_info, decode_tcb_info

from .helpers import (
    ALIAS_LEAF,
    DEVICE_CA,
    ISSUER,
    LEAF,
    ROOT,
    Spec,
    device_name,
    forge_all,
    forge_chain,
    key,
    spdm_marks,
    verify,
)


def identity(*specs: Spec, model: CertificateModel = CertificateModel.NONE) -> Identity:
    return verify(forge_chain(*specs), policy=ChainPolicy(model=model)).identity


DEVICE = identity(ROOT, ISSUER, replace(LEAF, serial=0x0A0B0C))


class TestIdentity:
    def test_claims(self) -> None:
        leaf = DEVICE.certificate
        assert DEVICE.as_dict() == {
            "subject": "CN=Test Device,O=Tests",
            "issuer": "CN=Test Issuer,O=Tests",
            "serial": "0A0B0C",
            "san": "Maker:Widget:0001",
            "manufacturer": "Maker",
            "product": "Widget",
            "device_serial": "0001",
            "spki_sha256": key("leaf").public_key.spki_sha256().hex(),
            "certificate_sha256": leaf.sha256.hex(),
            "key_type": "ec-p256",
            "model": "device",
            "hardware_identity": True,
        }
        assert json.loads(json.dumps(DEVICE.as_dict()))
        assert str(DEVICE) == "Maker:Widget:0001"

    def test_without_spdm_name(self) -> None:
        found = identity(ROOT, ISSUER, ALIAS_LEAF.extended(SUBJECT_ALTERNATIVE_NAME=None))
        assert found.device_name is None
        assert found.as_dict()["san"] is None
        assert str(found) == "CN=Test Device,O=Tests"
        assert found.device_serial == ""
        assert found.model is CertificateModel.NONE
        assert not found.hardware_identity

    def test_device_serial_from_the_subject(self) -> None:
        leaf = LEAF.extended(SUBJECT_ALTERNATIVE_NAME=None)
        found = identity(ROOT, ISSUER, replace(leaf, subject="CN=x,2.5.4.5=S-77"))
        assert found.device_serial == "S-77"
        assert found.subject == "CN=x,serialNumber=S-77"

    def test_alias_leaf_is_named_by_its_hardware_identity(self) -> None:
        leaf = ALIAS_LEAF.extended(SUBJECT_ALTERNATIVE_NAME=None)
        found = identity(ROOT, ISSUER, DEVICE_CA, leaf)
        assert str(found) == "Maker:Widget:0001"
        assert found.model is CertificateModel.ALIAS
        assert found.hardware_identity

    def test_the_leafs_own_name_goes_first(self) -> None:
        leaf = ALIAS_LEAF.extended(SUBJECT_ALTERNATIVE_NAME=device_name("Maker:Layer:2"))
        assert str(identity(ROOT, ISSUER, DEVICE_CA, leaf)) == "Maker:Layer:2"

    def test_an_unmarked_authority_names_nobody(self) -> None:
        leaf = ALIAS_LEAF.extended(SUBJECT_ALTERNATIVE_NAME=None)
        authority = DEVICE_CA.extended(SPDM_EXTENSION=None)
        assert identity(ROOT, ISSUER, authority, leaf).device_name is None

    def test_mutable_leaf_is_an_alias(self) -> None:
        leaf = LEAF.extended(SPDM_EXTENSION=spdm_marks(oids.MUTABLE_CERTIFICATE))
        assert identity(ROOT, ISSUER, leaf).model is CertificateModel.ALIAS

    def test_the_model_told_wins(self) -> None:
        found = identity(ROOT, ISSUER, LEAF, model=CertificateModel.GENERIC)
        assert found.model is CertificateModel.GENERIC

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("M:P:S", ("M", "P", "S")),
            ("M:P:", ("M", "P", "")),
            ("M:P", None),
            ("M:P:aa:bb:cc", None),
            ("", None),
        ],
    )
    def test_names_with_other_than_three_parts_stay_whole(
        self, text: str, parts: tuple[str, str, str] | None
    ) -> None:
        leaf = LEAF.extended(SUBJECT_ALTERNATIVE_NAME=device_name(text))
        name = identity(ROOT, ISSUER, leaf).device_name
        assert name == DeviceName(text)
        assert name.parts == parts
        assert (name.manufacturer, name.product, name.serial_number) == (parts or ("", "", ""))

    def test_names_are_printed_escaped_and_compared_as_they_are(self) -> None:
        evil = "M:\x1b[2J:\u202e1"
        found = identity(ROOT, ISSUER, LEAF.extended(SUBJECT_ALTERNATIVE_NAME=device_name(evil)))
        assert str(found) == "M:\\x1b[2J:\\u202e1"
        assert all(str(value).isprintable() for value in found.as_dict().values())
        assert IdentityExpectation.parse(evil).matches(found)
        assert not IdentityExpectation.parse(str(found)).matches(found)


SPKI = DEVICE.spki_sha256.hex()


class TestExpectation:
    @pytest.mark.parametrize(
        "text",
        [
            "Maker:Widget:0001",
            "san:Maker:Widget:0001",
            "serial:0A0B0C",
            "serial:a0b0c",
            "serial:0x0A:0B:0C",
            "SERIAL:0a0b0c",
            "device-serial:0001",
            f"spki-sha256:{SPKI}",
            f"spki-sha256:{SPKI.upper()}",
            pytest.param(f"cert-sha256:{DEVICE.certificate_sha256.hex()}", id="cert-sha256"),
        ],
    )
    def test_matches(self, text: str) -> None:
        expectation = IdentityExpectation.parse(text)
        assert expectation.matches(DEVICE)
        expectation.check(DEVICE)

    @pytest.mark.parametrize(
        "text",
        [
            "Maker:Widget:0002",
            "maker:widget:0001",
            "Maker:Widget",
            "serial:0001",
            "serial:0A0B0C00",
            "device-serial:1",
            "device-serial:0A0B0C",
            f"spki-sha256:{'00' * 32}",
            f"cert-sha256:{SPKI}",
            "spki-sha1:00",
        ],
    )
    def test_any_other_device_is_refused(self, text: str) -> None:
        expectation = IdentityExpectation.parse(text)
        assert not expectation.matches(DEVICE)
        with pytest.raises(AuthenticationError) as caught:
            expectation.check(DEVICE)
        assert caught.value.step == "identity"
        assert "Maker:Widget:0001" in caught.value.reason
        assert caught.value.hint

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "san:",
            "serial:",
            "serial:xyz",
            "serial:-1",
            "serial:1_0",
            "spki-sha256:00",
            "cert-sha256:zz",
        ],
    )
    def test_unreadable(self, text: str) -> None:
        with pytest.raises(ConfigurationError):
            IdentityExpectation.parse(text)

    def test_a_device_without_a_serial_matches_no_serial(self) -> None:
        leaf = LEAF.extended(SUBJECT_ALTERNATIVE_NAME=None)
        found = identity(ROOT, ISSUER, leaf)
        assert not IdentityExpectation("device-serial", "").matches(found)


def fwid(oid: str = "2.16.840.1.101.3.4.2.2", digest: bytes = b"\xab" * 48) -> bytes:
    return sequence(encode_object_identifier(oid), tlv(OCTET_STRING, digest))


FULL = sequence(
    tlv(context(0), b"ACME"),
    tlv(context(1), b"Widget"),
    tlv(context(2), b"1.2.3"),
    encode_integer(7, context(3)),
    encode_integer(1, context(4)),
    encode_integer(0, context(5)),
    tlv(context(6, constructed=True), fwid(), fwid("1.2.3.4", b"\x01")),
    tlv(context(7), b"\x04\x10"),
    tlv(context(8), b"vendor"),
    tlv(context(9), b"kind"),
    tlv(context(10), b"\x00\xff\x80"),
    tlv(context(11, constructed=True), sequence()),
)


class TestDice:
    def test_every_field(self) -> None:
        assert decode_tcb_info(FULL) == TcbInfo(
            vendor="ACME",
            model="Widget",
            version="1.2.3",
            svn=7,
            layer=1,
            index=0,
            fwids=(Fwid("sha384", b"\xab" * 48), Fwid("1.2.3.4", b"\x01")),
            flags=frozenset({"debug"}),
            vendor_info=b"vendor",
            kind=b"kind",
            flags_mask=frozenset(
                {
                    "not-configured",
                    "not-secure",
                    "recovery",
                    "debug",
                    "not-replay-protected",
                    "not-integrity-protected",
                    "not-runtime-measured",
                    "not-immutable",
                    "not-tcb",
                }
            ),
            registers=sequence(),
        )

    def test_in_words_for_a_report(self) -> None:
        claims = decode_tcb_info(FULL).as_dict()
        assert claims["svn"] == 7
        assert claims["fwids"][0] == {"algorithm": "sha384", "digest": "ab" * 48}  # type: ignore[index] # JSON
        assert claims["flags"] == ["debug"]
        assert claims["vendor_info"] == b"vendor".hex()
        assert json.loads(json.dumps(claims)) == claims

    def test_nothing_at_all(self) -> None:
        assert decode_tcb_info(sequence()) == TcbInfo()
        assert decode_tcb_info(sequence()).as_dict() == {}

    def test_index_zero_is_a_claim(self) -> None:
        assert decode_tcb_info(sequence(encode_integer(0, context(5)))).as_dict() == {"index": 0}

    def test_the_earlier_form(self) -> None:
        spki = key("leaf").public_key.spki()
        info = decode_tcb_info(sequence(encode_integer(1), spki, fwid()))
        assert info == TcbInfo(fwids=(Fwid("sha384", b"\xab" * 48),), device_key=spki)

    def test_registers_numbered_as_the_text_of_version_1_2_does(self) -> None:
        der = sequence(tlv(context(10, constructed=True), sequence()))
        assert decode_tcb_info(der) == TcbInfo(registers=sequence())

    def test_several_layers(self) -> None:
        infos = decode_multi_tcb_info(sequence(FULL, sequence()))
        assert [info.svn for info in infos] == [7, None]

    @pytest.mark.parametrize(
        "der",
        [
            b"",
            b"\x05\x00",
            sequence() + b"\0",
            sequence(tlv(context(1), b"x"), tlv(context(0), b"y")),
            sequence(tlv(context(0), b"x"), tlv(context(0), b"y")),
            sequence(tlv(context(0), b"\xff")),
            sequence(tlv(context(3), b"")),
            sequence(tlv(context(6, constructed=True))),
            sequence(tlv(context(6, constructed=True), sequence())),
            sequence(tlv(context(6, constructed=True), *(fwid(),) * 65)),
            sequence(tlv(context(7), b"")),
            sequence(tlv(context(12), b"x")),
            sequence(encode_integer(2), sequence(), fwid()),
            sequence(encode_integer(1), sequence()),
            sequence(encode_integer(1), sequence(), fwid(), fwid()),
        ],
    )
    def test_refused(self, der: bytes) -> None:
        with pytest.raises(DecodeError):
            decode_tcb_info(der)

    def test_too_many_layers(self) -> None:
        with pytest.raises(DecodeError, match="more than 64"):
            decode_multi_tcb_info(sequence(*(sequence(),) * 65))

    def test_flags_need_whole_bit_strings(self) -> None:
        with pytest.raises(DecodeError):
            decode_tcb_info(sequence(tlv(context(7), b"\x04\x1f")))
        assert decode_tcb_info(sequence(tlv(context(7), tlv(BIT_STRING, b"\0")[2:]))).flags == set()

    def test_of_a_certificate(self) -> None:
        leaf = LEAF.also(oids.DICE_TCB_INFO, False, FULL).also(
            oids.DICE_MULTI_TCB_INFO, False, sequence(sequence())
        )
        infos = read_tcb_infos(Certificate(forge_all(ROOT, ISSUER, leaf)[2]))
        assert [info.svn for info in infos] == [7, None]
        assert read_tcb_infos(Certificate(forge_all(ROOT, ISSUER, LEAF)[2])) == ()

    def test_text_in_reports_is_escaped(self) -> None:
        info = decode_tcb_info(sequence(tlv(context(0), b"a\x1b[2J\n")))
        assert info.vendor == "a\x1b[2J\n"
        assert info.as_dict() == {"vendor": "a\\x1b[2J\\x0a"}


class TestSafeText:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain", "plain"),
            ("häß 日本", "häß 日本"),
            ("a\nb\tc\0", "a\\x0ab\\x09c\\x00"),
            ("\x1b[31m", "\\x1b[31m"),
            ("\u202e\U000e0001", "\\u202e\\U000e0001"),
            ("back\\slash", "back\\\\slash"),
            ("\x85\xa0", "\\x85\\xa0"),
        ],
    )
    def test_escapes(self, text: str, shown: str) -> None:
        assert safe_text(text) == shown
        assert shown.isprintable()

    def test_long_text_is_cut(self) -> None:
        assert safe_text("x" * 600) == "x" * 512 + "..."
        assert safe_text("abcdef", longest=3) == "abc..."

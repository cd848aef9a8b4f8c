"""The dissector walks a declaration as our own field tree does: random messages of every kind."""

from __future__ import annotations

import itertools
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spdmkit.capture.decode import Decoder
from spdmkit.capture.events import ConversationEvent, EventKind
from spdmkit.capture.sources import open_recording
from spdmkit.capture.wireshark.dissector import install
from spdmkit.capture.wireshark.layouts import Layouts
from spdmkit.capture.writer import CaptureWriter
from spdmkit.messages import (
    MESSAGES,
    V10,
    V11,
    V12,
    V13,
    VERSIONS,
    Algorithms,
    AlgorithmStructure,
    AlgType,
    Capabilities,
    Context,
    GetCapabilities,
    GetVersion,
    Message,
    NegotiateAlgorithms,
    Version,
)

from ..messages.generate import structures
from .support import TSHARK, needs_tshark

NEGOTIATION = frozenset((GetVersion.code, GetCapabilities.code, NegotiateAlgorithms.code))
SHA_384, P_384, SECP384R1, AES_256_GCM = 1 << 1, 1 << 7, 1 << 4, 1 << 1


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("plugin"))


def negotiation(version: int) -> list[Message]:
    tables = [
        AlgorithmStructure.of(AlgType.DHE, SECP384R1),
        AlgorithmStructure.of(AlgType.AEAD, AES_256_GCM),
        AlgorithmStructure.of(AlgType.REQ_BASE_ASYM_ALG, P_384),
    ]
    structured = tables if version >= V11 else []
    return [
        GetVersion(),
        Version(version_number_entries=[version << 8]),
        GetCapabilities(data_transfer_size=4096, max_spdm_msg_size=4096),
        Capabilities(data_transfer_size=4096, max_spdm_msg_size=4096),
        NegotiateAlgorithms(
            base_asym_algo=P_384, base_hash_algo=SHA_384, algorithm_structures=structured
        ),
        Algorithms(
            base_asym_sel=P_384,
            base_hash_sel=SHA_384,
            measurement_hash_algo=1 << 2,
            opaque_data_format=2 if version >= V12 else 0,
            algorithm_structures=structured,
        ),
    ]


@st.composite
def conversations(draw: Any, version: int) -> list[bytes]:
    """A negotiation, then one request of each kind with its response."""
    context = Context(
        version=version,
        hash_size=48,
        signature_size=96,
        req_signature_size=96 if version >= V11 else 0,
        measurement_hash_size=48,
        exchange_request_size=96,
        exchange_response_size=96,
        opaque_format=2 if version >= V12 else 0,
    )
    messages = [
        message.encode(Context(version=V10 if number < 2 else version))
        for number, message in enumerate(negotiation(version))
    ]
    for code, kind in sorted(MESSAGES.items()):
        if code < 0x80 or code in NEGOTIATION or kind.since > version:
            continue
        request = draw(structures(kind, context))
        messages.append(request.encode(context))
        answer = MESSAGES.get(code & 0x7F)
        if answer is not None and answer.since <= version:
            answering = context.answering(request)
            messages.append(draw(structures(answer, answering)).encode(answering))
    return messages


def write(path: Path, messages: list[bytes]) -> None:
    clock = itertools.count(1_800_000_000_000_000_000, 1_000_000).__next__
    with CaptureWriter(path, clock=clock) as writer:
        mctp = writer.mctp(8, 9)
        for message in messages:
            ours = message[1] >= 0x80
            (mctp.sent if ours else mctp.received)(b"\x05" + message, owner=ours)


Fields = set[tuple[int, int, str]]
"""Offset in the message, length, and label of each field."""


def by_our_tree(event: ConversationEvent) -> Fields | None:
    tree = event.tree()
    if tree is None:
        return None
    nodes = itertools.islice(tree.walk(), 1, None)
    return {(node.offset, node.length, node.name or "Padding") for node in nodes if node.length}


def flag_fields() -> Iterator[str]:
    """Fields for single flags of an integer, which our own tree has in the integer's text."""
    layouts = Layouts()
    for table in (*layouts.messages.values(), *layouts.structures.values()):
        for element in table["elements"]:
            for one in (element, element.get("item", {})):
                yield from (f"spdm.{name}" for name in one.get("flags") or ())


FLAGS = frozenset(flag_fields())
NAMES = {f"spdm.{message.name.lower()}" for message in MESSAGES.values()}
LABEL = re.compile(r"(?:[.01 ]+ = )?([^:]+?)(?:: .*|:)?$", re.DOTALL)


def by_wireshark(packet: ET.Element) -> Fields | None:
    """The fields of the outermost message of a packet; None when it is malformed."""
    root = next(each for each in packet.iter("field") if each.get("name") in NAMES)
    start = int(root.get("pos", "0"))
    own = list(_own(root))
    if any("malformed" in each.get("name", "") for each in own):
        return None
    return {
        (int(each.get("pos", "0")) - start, int(each.get("size", "0")), _label(each))
        for each in own
        if each.get("size", "0") != "0" and each.get("name") not in FLAGS
        if not each.get("name", "").startswith(("_ws.", "spdm.expert"))
    }


def _own(element: ET.Element) -> Iterator[ET.Element]:
    """The fields below, without those of a message inside."""
    for child in element:
        if child.get("name") not in NAMES and child.get("name") != "spdm":
            yield child
            yield from _own(child)


def _label(field: ET.Element) -> str:
    match = LABEL.match(field.get("showname") or field.get("show") or "")
    assert match is not None
    return match[1]


@needs_tshark
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: f"1.{version & 15}")
@settings(
    max_examples=3,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
@given(data=st.data())
def test_every_field_where_our_own_tree_has_it(
    data: st.DataObject, version: int, plugin: Path, tmp_path: Path
) -> None:
    messages = data.draw(conversations(version))
    path = tmp_path / "c.pcapng"
    write(path, messages)
    with Decoder(open_recording(str(path)), verify=False) as decoder:
        events = [event for event in decoder if event.kind is EventKind.MESSAGE]
    done = subprocess.run(
        [TSHARK, "-n", "-X", f"lua_script:{plugin}", "-r", str(path), "-Tpdml"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"Lua" not in done.stderr
    packets = ET.fromstring(done.stdout).findall("packet")
    assert len(events) == len(packets) == len(messages)
    for event, packet in zip(events, packets, strict=True):
        assert by_wireshark(packet) == by_our_tree(event), event.name
    if version >= V13:
        assert sum(event.message is not None for event in events) > 45

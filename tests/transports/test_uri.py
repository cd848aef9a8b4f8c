"""Endpoint addresses: what they mean, how they print, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spdmkit.errors import ConfigurationError
from spdmkit.transports.framing import Dialect, Role, Side
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.registry import (
    available_schemes,
    framing_for,
    register_transport,
    transport_for,
)
from spdmkit.transports.uri import (
    ANY_EID,
    EndpointUri,
    Host,
    MctpAddress,
    Records,
    SerialLine,
    parse_uri,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://192.0.2.1", EndpointUri("tcp", Host("192.0.2.1", 4194))),
        ("tcp://bmc.example:9", EndpointUri("tcp", Host("bmc.example", 9))),
        ("tcp://bmc/", EndpointUri("tcp", Host("bmc", 4194))),
        ("TCP://[::1]", EndpointUri("tcp", Host("::1", 4194))),
        ("tcp://[2001:DB8:0:0::1]:65535", EndpointUri("tcp", Host("2001:db8::1", 65535))),
        ("tcp://[fe80::1%25eth0]", EndpointUri("tcp", Host("fe80::1%eth0", 4194))),
        ("tcp://bücher.example", EndpointUri("tcp", Host("xn--bcher-kva.example", 4194))),
        ("emu+tcp://h", EndpointUri("emu+tcp", Host("h", 4194))),
        ("emu+mctp://h", EndpointUri("emu+mctp", Host("h", 2323))),
        ("emu+doe://h:1", EndpointUri("emu+doe", Host("h", 1))),
        ("emu+none://h", EndpointUri("emu+none", Host("h", 2323))),
        ("mctp://1/9", EndpointUri("mctp", MctpAddress(1, 9))),
        ("mctp+serial:///dev/ttyS1", EndpointUri("mctp+serial", SerialLine("/dev/ttyS1"))),
        (
            "mctp+serial:///dev/tty%20x?eid=9&baud=115200",
            EndpointUri("mctp+serial", SerialLine("/dev/tty x", 9, 115200)),
        ),
        (
            "tcp://h?dialect=libspdm&records=mctp&timeout=2.5",
            EndpointUri("tcp", Host("h", 4194), Dialect.LIBSPDM, Records.MCTP, 2.5),
        ),
        (
            "tcp://h?dialect=auto&records=auto",
            EndpointUri("tcp", Host("h", 4194), None, Records.AUTO),
        ),
        (
            "emu+mctp://h?end=shutdown&hello=no",
            EndpointUri("emu+mctp", Host("h", 2323), shutdown=True, hello=False),
        ),
    ],
)
def test_parses(text: str, expected: EndpointUri) -> None:
    assert parse_uri(text) == expected


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp://[0:0::1]", "tcp://[::1]:4194"),
        ("emu+doe://h", "emu+doe://h:2323"),
        ("tcp://h?timeout=5&dialect=strict", "tcp://h:4194?dialect=strict&timeout=5"),
        ("tcp://h?dialect=auto&records=tcp", "tcp://h:4194"),
        ("emu+mctp://h?end=shutdown&hello=no", "emu+mctp://h:2323?end=shutdown&hello=no"),
        ("mctp://1/9?timeout=1", "mctp://1/9?timeout=1"),
        ("mctp+serial:///dev/ttyS1?eid=9", "mctp+serial:///dev/ttyS1?eid=9"),
    ],
)
def test_prints_its_canonical_text_which_parses_to_the_same(text: str, canonical: str) -> None:
    assert str(parse_uri(text)) == canonical
    assert parse_uri(canonical) == parse_uri(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no scheme"),
        ("192.0.2.1:4194", "no scheme"),
        ("http://h", "unknown scheme 'http'"),
        ("tcp://", "no host"),
        ("tcp://:4194", "no host"),
        ("tcp://h:0", "port 0"),
        ("tcp://h:65536", "port '65536'"),
        ("tcp://h:-1", "port '-1'"),
        ("tcp://h:", "port ''"),
        ("tcp://h:4194x", "port '4194x'"),
        ("tcp://h:\u0661", "port"),
        ("tcp://::1", "brackets"),
        ("tcp://[::1", "without"),
        ("tcp://[::g]", "no IPv6"),
        ("tcp://[::1]4194", "no port"),
        ("tcp://256.1.1.1", "no IPv4"),
        ("tcp://1.2.3", "no IPv4"),
        ("tcp://-h", "no host name"),
        ("tcp://a..b", "no host name"),
        ("tcp://" + "a" * 64, "no host name"),
        ("tcp://h/path", "path"),
        ("tcp://user@h", "user name"),
        ("tcp://h#f", "'#'"),
        ("tcp://h\n", "white space"),
        ("tcp://h?dialect=loose", "dialect is one of auto, strict, libspdm"),
        ("tcp://h?records=doe", "records is one of"),
        ("tcp://h?timeout=0", "timeout"),
        ("tcp://h?timeout=nan", "timeout"),
        ("tcp://h?timeout=inf", "timeout"),
        ("tcp://h?timeout=soon", "timeout"),
        ("tcp://h?colour=red", "unknown option 'colour'"),
        ("tcp://h?end=shutdown", "means nothing here"),
        ("emu+mctp://h?dialect=strict", "means nothing here"),
        ("tcp://h?timeout=1&timeout=2", "twice"),
        ("mctp://9", "network and an endpoint"),
        ("mctp:///9", "network and an endpoint"),
        ("mctp://1/7", "endpoint id '7'"),
        ("mctp://1/255", "endpoint id '255'"),
        ("mctp://x/9", "network 'x'"),
        ("mctp://1/any", "listened on"),
        ("mctp+serial://ttyS1", "no tty"),
        ("mctp+serial:///", "no tty"),
        ("mctp+serial:///dev/x?eid=300", "endpoint id '300'"),
        ("mctp+serial:///dev/x?baud=0", "baud '0'"),
    ],
)
def test_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_uri(text)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_listener_may_leave_host_and_port_open() -> None:
    assert parse_uri("tcp://:0", listen=True).address == Host("", 0)
    assert parse_uri("tcp://", listen=True).address == Host("", 4194)
    assert parse_uri("mctp://0/any", listen=True).address == MctpAddress(0, ANY_EID)


def test_the_port_a_listener_got() -> None:
    uri = parse_uri("tcp://[::1]:0?dialect=strict", listen=True)
    assert str(uri.with_port(9)) == "tcp://[::1]:9?dialect=strict"
    with pytest.raises(ConfigurationError, match="no host"):
        parse_uri("mctp://1/9").with_port(9)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(max_size=40).map(lambda text: f"tcp://{text}")))
def test_any_text_parses_or_is_a_configuration_error(text: str) -> None:
    try:
        uri = parse_uri(text)
    except ConfigurationError:
        return
    assert parse_uri(str(uri)) == uri


# -- transports and framings of addresses ---------------------------------------------------------


class _NoTransport:
    def dial(self, uri: EndpointUri, *, role: Role, timeout: float) -> object:
        raise NotImplementedError

    def listen(self, uri: EndpointUri, *, roles: object) -> object:
        raise NotImplementedError


def test_a_scheme_without_transport_names_those_that_have_one() -> None:
    uri = EndpointUri("carrier+pigeon", Host("h", 1))
    with pytest.raises(ConfigurationError) as caught:
        transport_for(uri)
    assert "carrier+pigeon" in str(caught.value)
    assert "emu+mctp" in caught.value.hint
    assert "tcp" in available_schemes()


def test_a_transport_can_be_added_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spdmkit.transports.registry._factories", {})
    transport = _NoTransport()
    register_transport("carrier+pigeon", transport)  # type: ignore[arg-type]  # never called
    found: object = transport_for(EndpointUri("carrier+pigeon", Host("h", 1)))
    assert found is transport
    assert "carrier+pigeon" in available_schemes()
    for scheme in ("carrier+pigeon", "tcp"):
        with pytest.raises(ConfigurationError, match="already"):
            register_transport(scheme, transport)  # type: ignore[arg-type]  # never called


def test_the_framing_follows_the_address() -> None:
    requester = (Side.INITIATOR, [Role.REQUESTER])
    strict = framing_for(parse_uri("tcp://h?dialect=strict"), *requester)
    assert (strict.name, strict.dialect) == ("tcp", Dialect.STRICT)
    assert framing_for(parse_uri("tcp://h"), *requester).dialect is None
    assert framing_for(parse_uri("emu+doe://h"), *requester).name == "emu+doe"
    with pytest.raises(ConfigurationError, match="who dials"):
        framing_for(parse_uri("emu+mctp://h"), Side.LISTENER, [Role.REQUESTER])
    with pytest.raises(ConfigurationError, match="not reached over a socket"):
        framing_for(parse_uri("mctp://1/9"), *requester)


# -- memory of dialects ---------------------------------------------------------------------------


def test_a_memory_forgets_by_age_and_by_number() -> None:
    memory = DialectMemory(limit=2, lifetime=10)
    memory.remember("a", Dialect.LIBSPDM, 0)
    assert memory.recall("a", 10) is Dialect.LIBSPDM
    assert memory.recall("a", 10.1) is None
    assert len(memory) == 0
    for name in ("b", "c", "b", "d"):
        memory.remember(name, Dialect.STRICT, 0)
    assert (memory.recall("b", 0), memory.recall("c", 0)) == (Dialect.STRICT, None)
    assert len(memory) == 2

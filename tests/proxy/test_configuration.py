"""The proxy's configuration file; mistakes are named with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from spdmkit.errors import ConfigurationError
from spdmkit.proxy.configuration import parse_configuration, read_configuration

WHOLE = """\
[proxy]
metrics = "127.0.0.1:9494"
status_file = "/run/spdm-proxy.json"
journal = "/var/log/spdm-proxy.jsonl"
allow = ["192.0.2.0/24", "2001:db8::/32"]

[limits]
waiting = 4
answer = 20.5

[[device]]
name = "nic"
to = "mctp+serial:///dev/ttyS1?peer=20"
listen = ["tcp://192.0.2.10", "tcp://[2001:db8::1]:4195"]
dial = "tcp://verifier.example"
every = 60
allow = "192.0.2.7"

[[device]]
to = "emu+mctp://127.0.0.1"
listen = "tcp://:4196"

[[bus]]
name = "backplane"
to = "mctp://1"
eids = [9, "20-22", 21]
listen = "tcp://192.0.2.10"
first_port = 4200
rescan = 30
"""


def parsed(text: str) -> object:
    return parse_configuration(text.encode(), "proxy.toml")


def test_everything() -> None:
    found = parse_configuration(WHOLE.encode(), "proxy.toml")
    nic, other = found.devices
    assert (nic.name, str(nic.to)) == ("nic", "mctp+serial:///dev/ttyS1?peer=20")
    assert [str(uri) for uri in nic.listen] == [
        "tcp://192.0.2.10:4194",
        "tcp://[2001:db8::1]:4195",
    ]
    assert [str(uri) for uri in nic.dial] == ["tcp://verifier.example:4194"]
    assert (nic.every, len(nic.allow), len(other.allow)) == (60.0, 1, 2)
    assert (nic.limits.waiting, nic.limits.answer, nic.limits.idle) == (4, 20.5, 60.0)
    assert other.name == "emu+mctp://127.0.0.1:2323"
    [bus] = found.buses
    assert bus.eids == (9, 20, 21, 22)
    route = bus.route(20)
    assert (route.name, str(route.to)) == ("backplane-20", "mctp://1/20")
    assert str(route.listen[0]) == "tcp://192.0.2.10:4220"
    assert found.metrics == ("127.0.0.1", 9494)
    assert (found.status_file, found.journal) == (
        Path("/run/spdm-proxy.json"),
        Path("/var/log/spdm-proxy.jsonl"),
    )


DEVICE = '[[device]]\nto = "mctp://1/9"\nlisten = "tcp://:4194"\n'
LINE = '[[device]]\nto = "mctp+serial:///dev/x"\nlisten = "tcp://:1"\n'
BUS = '[[bus]]\nto = "mctp://1"\neids = [9]\nlisten = "tcp://:1"\nfirst_port = 4200\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "proxy.toml: no [[device]]"),
        ("[[device]]\nto = 'x", "proxy.toml:2:"),
        ('[[device]]\nlisten = "tcp://:1"\n', "proxy.toml:1: device needs to"),
        ('[[device]]\nto = "mctp://1/9"\n', "proxy.toml:1: device needs listen or dial"),
        ('\n[[device]]\nto = "mctp://1/3"\n', "proxy.toml:3: device.to is wrong: endpoint 'mctp"),
        ('[[device]]\nto = "tcp://h"\n', "proxy.toml:2: device.to is wrong: devices are reached"),
        ("[[device]]\nto = 9\n", "proxy.toml:2: device.to must be text"),
        (DEVICE + 'lisen = "tcp://:1"\n', "proxy.toml:4: device.lisen means nothing here, did you"),
        (DEVICE + "zzz = 1\n", "known are to, listen, dial"),
        (DEVICE + 'dial = "emu+mctp://h"\n', "proxy.toml:4: device.dial is wrong: verifiers"),
        (DEVICE + "every = 0\n", "proxy.toml:4: device.every must be a number of seconds"),
        (DEVICE + "every = true\n", "proxy.toml:4: device.every must be a number of seconds"),
        (DEVICE + 'allow = ["192.0.2.300"]\n', "proxy.toml:4: device.allow must hold addresses"),
        (DEVICE + DEVICE, "proxy.toml:5: to 1/9 belongs to device 1 already"),
        (
            DEVICE + DEVICE.replace("1/9", "1/10") + 'name = "x"\n',
            "proxy.toml:6: listen :4194 belongs to device 1",
        ),
        (DEVICE + "[limits]\nidle = -1\n", "proxy.toml:5: limits.idle must be a number"),
        (DEVICE + "[limits]\nwaiting = 1.5\n", "proxy.toml:5: limits.waiting must be a number"),
        (DEVICE + "[limits]\nidel = 1\n", "proxy.toml:5: limits.idel means nothing here, did you"),
        ("[proxy]\nmetrics = 'x:y:z'\n" + DEVICE, "proxy.toml:2: proxy.metrics is wrong"),
        ("proxy = 1\n" + DEVICE, "proxy.toml:1: proxy must be a table"),
        ("device = 1\n", "proxy.toml:1: device must be tables"),
        ("[proxies]\n" + DEVICE, "proxy.toml:1: proxies means nothing here, did you mean proxy"),
        (BUS.replace("[9]", "[7]"), "proxy.toml:3: bus.eids holds 7; endpoint ids are from 8"),
        (BUS.replace("[9]", '["9-8"]'), "proxy.toml:3: bus.eids holds 9-8"),
        (BUS.replace("[9]", '["x"]'), "proxy.toml:3: bus.eids must hold endpoint ids"),
        (BUS.replace("mctp://1", "mctp://1/9"), "proxy.toml:2: bus.to must be an MCTP network"),
        (BUS.replace("mctp://1", "mctp+serial:///dev/x?peer=9"), "proxy.toml:2: bus.to must not"),
        (
            LINE + LINE.replace("x", "x?peer=9").replace(":1", ":2"),
            "proxy.toml:2: several devices on one line need peer=",
        ),
        (
            LINE.replace("x", "x?peer=9") + LINE.replace("x", "x?mtu=64&peer=9"),
            "proxy.toml:5: to /dev/x endpoint 9 belongs to device 1 already",
        ),
        (BUS.replace("4200", "65300"), "proxy.toml:5: bus.first_port must be a port"),
        (BUS.replace("first_port = 4200\n", ""), "proxy.toml:1: bus needs first_port"),
        ("\xff", "proxy.toml"),
    ],
)
def test_mistakes_name_their_line(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text.encode("latin-1"), "proxy.toml")
    assert complaint in str(caught.value)


def test_a_line_with_a_bridge() -> None:
    text = BUS.replace("mctp://1", "mctp+serial:///dev/ttyS1?mtu=128").replace("[9]", '["9-10"]')
    found = parse_configuration(text.encode(), "proxy.toml")
    assert found.shared_lines() == {"/dev/ttyS1"}
    route = found.buses[0].route(10)
    assert str(route.to) == "mctp+serial:///dev/ttyS1?peer=10&mtu=128"
    assert route.name == "mctp+serial:///dev/ttyS1-10"
    text = LINE.replace("x", "x?peer=9") + LINE.replace("x", "x?peer=10").replace(":1", ":2")
    assert parse_configuration(text.encode(), "proxy.toml").shared_lines() == {"/dev/x"}
    assert parse_configuration(LINE.encode(), "proxy.toml").shared_lines() == frozenset()


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    with pytest.raises(ConfigurationError, match="No such file"):
        read_configuration(path)
    path.write_text(DEVICE)
    assert len(read_configuration(path).devices) == 1

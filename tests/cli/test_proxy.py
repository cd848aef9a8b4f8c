"""`spdm proxy` as a person types it: what it refuses, and what it says about a running one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from spdmkit.cli.root import spdm as group
from spdmkit.errors import ConfigurationError, TransportError
from spdmkit.proxy.configuration import ProxyConfiguration, device_address, tcp_address
from spdmkit.proxy.device import DeviceRoute
from spdmkit.proxy.journal import Silent
from spdmkit.proxy.service import Proxy


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(group, ["proxy", *map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "needs --to and --listen or --dial"),
        (("--to", "mctp://1/9"), "needs --to and --listen or --dial"),
        (("--listen", "tcp://:1"), "needs --to"),
        (("--listen", "tcp://:1", "--to", "tcp://h"), "devices are reached by"),
        (("--listen", "emu+mctp://:1", "--to", "mctp://1/9"), "verifiers are reached by tcp"),
        (("--listen", "tcp://:1", "--to", "mctp://1/9", "--allow", "x"), "--allow"),
        (("--dial", "tcp://h", "--to", "mctp://1/9", "--every", "0"), "--every"),
        (("--config", "nowhere.toml", "--to", "mctp://1/9"), "not both"),
        (("--config", "nowhere.toml"), "No such file"),
        (("--status", "x:y:z"), "IPv6 address stands in brackets"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises((ConfigurationError, click.ClickException)) as caught:
        run(*arguments)
    assert complaint in str(caught.value)


def test_a_configuration_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[[device]]\nto = "mctp://1/9"\nlisten = "tcp://127.0.0.1:4194"\n')
    assert run("--config", path, "--check") == "the configuration is right\n"
    assert json.loads(run("--config", path, "--check", "--json")) == {"devices": 1, "buses": 0}
    path.write_text('[[device]]\nto = "mctp://1/9"\nlisten = 4194\n')
    with pytest.raises(ConfigurationError, match=r"proxy.toml:3: device.listen must be text"):
        run("--config", path, "--check")


def test_the_example_of_the_manual_is_right(tmp_path: Path) -> None:
    manual = Path(__file__).parents[2] / "docs" / "how-to" / "bmc-proxy.md"
    example = manual.read_text().split("```toml\n")[1].split("```")[0]
    path = tmp_path / "proxy.toml"
    path.write_text(example)
    assert json.loads(run("--config", path, "--check", "--json")) == {"devices": 2, "buses": 1}


@pytest.fixture
def page() -> Iterator[tuple[str, int]]:
    """The status page of a proxy, in a thread of its own."""
    route = DeviceRoute(
        "nic", device_address("mctp://1/9"), (tcp_address("tcp://127.0.0.1:0", listen=True),)
    )
    proxy = Proxy(ProxyConfiguration((route,), metrics=("127.0.0.1", 0)), Silent())
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with proxy:
            started.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    assert proxy.page is not None
    yield proxy.page
    stop.set()
    thread.join()


def test_status(page: tuple[str, int]) -> None:
    document: dict[str, Any] = json.loads(run("--status", f"{page[0]}:{page[1]}", "--json"))
    assert document["devices"][0]["name"] == "nic"
    text = run("--status", f"{page[0]}:{page[1]}")
    assert "nic" in text
    assert "0 leases" in text


def test_status_of_nothing(unused_tcp_port: int) -> None:
    with pytest.raises(TransportError, match="no proxy tells its status"):
        run("--status", f"127.0.0.1:{unused_tcp_port}")

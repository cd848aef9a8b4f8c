"""`spdm proxy`: the BMC that carries SPDM between verifiers on TCP and devices on MCTP."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spdmkit.cli.capturing import Capture, capture_option
from spdmkit.cli.options import common, example
from spdmkit.errors import ConfigurationError, TransportError

if TYPE_CHECKING:
    from spdmkit.proxy.configuration import ProxyConfiguration
    from spdmkit.proxy.device import ProxiedDevice
    from spdmkit.proxy.journal import Journal

__all__ = ["command"]

_LARGEST_STATUS = 0x100_0000


@click.command(
    name="proxy",
    epilog=example(
        "spdm proxy --listen tcp://:4194 --to mctp+serial:///dev/ttyS1",
        "spdm proxy --to mctp://1/9 --dial tcp://verifier.example",
        "spdm proxy --config /etc/spdm-proxy.toml",
        "spdm proxy --status 127.0.0.1:9494",
    ),
)
@click.option("--listen", multiple=True, help="tcp://... where verifiers connect; port 0: any.")
@click.option("--to", help="The device: mctp://, mctp+serial:// or emu+mctp://.")
@click.option("--dial", multiple=True, help="A verifier to call for the device (reach-out).")
@click.option("--every", type=float, help="Seconds between two calls to a verifier.")
@click.option("--allow", multiple=True, help="An address or network that may connect.")
@click.option("--metrics", help="HOST:PORT for /metrics (Prometheus) and /status (JSON).")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file.")
@click.option("--check", is_flag=True, help="Read the configuration, say whether it is right, end.")
@click.option("--status", help="HOST:PORT of a running proxy's --metrics: show how it goes, end.")
@capture_option
@common
def command(
    config: Path | None,
    status: str | None,
    check: bool,
    capture: Capture,
    as_json: bool,
    verbose: bool,
    **given: Any,
) -> int:
    """Carry SPDM between verifiers and devices on MCTP until SIGINT or SIGTERM.

    It holds no keys and answers nothing for a device. What it did goes to standard error, one
    line of JSON for each lease; with -v also for each message, never with what is in it.
    """
    if status is not None:
        return _show_status(status, as_json=as_json)
    configuration = _configuration(config, given)
    configuration = _captured(configuration, capture)
    if check:
        found = {"devices": len(configuration.devices), "buses": len(configuration.buses)}
        click.echo(json.dumps(found) if as_json else "the configuration is right")
        return 0
    from spdmkit.transports import loops

    _warn(configuration)
    with ExitStack() as stack:
        journal = _journal(configuration, stack, messages=verbose)
        loops.run(_run(configuration, journal, as_json=as_json))
    return 0


def _configuration(path: Path | None, given: dict[str, Any]) -> ProxyConfiguration:
    from spdmkit.proxy.configuration import (
        ProxyConfiguration,
        device_address,
        page_address,
        read_configuration,
        tcp_address,
    )
    from spdmkit.proxy.device import DeviceRoute, parse_network

    metrics = page_address(given["metrics"]) if given["metrics"] else None
    if path is not None:
        if given["to"] or given["listen"] or given["dial"] or given["allow"] or given["every"]:
            raise ConfigurationError("give --config, or --to and the rest, not both")
        from dataclasses import replace

        configuration = read_configuration(path)
        return replace(configuration, metrics=metrics) if metrics else configuration
    if not given["to"] or not (given["listen"] or given["dial"]):
        raise ConfigurationError(
            "a proxy needs --to and --listen or --dial",
            hint="or --config FILE for several devices",
        )
    try:
        allow = tuple(parse_network(text) for text in given["allow"])
    except ValueError as error:
        raise ConfigurationError(f"--allow: {error}") from None
    every = 300.0 if given["every"] is None else given["every"]
    if every <= 0:
        raise ConfigurationError("--every must be more than 0 seconds")
    route = DeviceRoute(
        name=given["to"],
        to=device_address(given["to"]),
        listen=tuple(tcp_address(text, listen=True) for text in given["listen"]),
        dial=tuple(tcp_address(text, listen=False) for text in given["dial"]),
        every=every,
        allow=allow,
    )
    return ProxyConfiguration((route,), metrics=metrics)


def _captured(configuration: ProxyConfiguration, capture: Capture) -> ProxyConfiguration:
    """With taps on both sides of each device, when there is something to capture to."""
    from dataclasses import replace

    taps = (capture.accepted, capture.dialled)
    devices = tuple(replace(route, taps=taps) for route in configuration.devices)
    return replace(configuration, devices=devices)


def _warn(configuration: ProxyConfiguration) -> None:
    """Whoever can connect can keep a device busy: say so where nobody limits it."""
    for route in configuration.devices:
        open_to_all = [
            uri for uri in route.listen if uri.host.name not in ("127.0.0.1", "::1", "localhost")
        ]
        if open_to_all and not route.allow:
            click.echo(
                f"spdm: every address may connect to {open_to_all[0]}; --allow limits it", err=True
            )


def _journal(configuration: ProxyConfiguration, stack: ExitStack, *, messages: bool) -> Journal:
    from spdmkit.proxy.journal import Journal

    if configuration.journal is None:
        return Journal(sys.stderr, messages=messages)
    out = stack.enter_context(configuration.journal.open("a", encoding="utf-8"))
    return Journal(out, messages=messages)


async def _run(configuration: ProxyConfiguration, journal: Journal, *, as_json: bool) -> None:
    from spdmkit.proxy.service import Proxy

    def listening(device: ProxiedDevice) -> None:
        for uri in device.uris:
            if as_json:
                click.echo(json.dumps({"listening": str(uri), "device": device.route.name}))
            else:
                click.echo(f"listening on {uri} for {device.route.name}")
        for uri in device.route.dial:
            if as_json:
                click.echo(json.dumps({"calling": str(uri), "device": device.route.name}))
            else:
                click.echo(f"calling {uri} for {device.route.name}")

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Proxy(configuration, journal, on_listening=listening) as proxy:
        if proxy.page is not None:
            click.echo(f"metrics on http://{proxy.page[0]}:{proxy.page[1]}/metrics", err=True)
        await stop.wait()


def _show_status(address: str, *, as_json: bool) -> int:
    document = _fetch(address)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return 0
    from spdmkit.cli.report import show_pairs

    pairs = [("uptime", f"{document['uptime']:.0f} s")]
    for device in document["devices"]:
        up = {True: "up", False: "down", None: "not seen yet"}[device["up"]]
        leased = f", leased by {device['leased_by']}" if device["leased_by"] else ""
        failed = sum(device["failures"].values()) + sum(device["refused"].values())
        counts = ", ".join(f"{device[name]} {name}" for name in ("waiting", "leases", "answers"))
        pairs.append((device["name"], f"{up}{leased}, {counts}, {failed} failed or refused"))
    show_pairs(pairs)
    return 0


def _fetch(address: str) -> dict[str, Any]:
    import http.client

    from spdmkit.proxy.configuration import page_address

    host, port = page_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        data = response.read(_LARGEST_STATUS)
        document = json.loads(data)
        if response.status != 200 or not isinstance(document["devices"], list):
            raise TransportError(f"{address} is no status page of a proxy")
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(f"no proxy tells its status at {address}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TransportError(f"{address} is no status page of a proxy") from error
    finally:
        connection.close()
    return dict(document)

"""`spdm bench`: what things cost, beside the floor measured in the same run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from spdmkit.cli.options import common, example

if TYPE_CHECKING:
    from spdmkit.bench.measuring import Result

__all__ = ["command"]


@click.group(name="bench")
def command() -> None:
    """Measure what things cost beside the cryptography in them.

    Figures are CPU time, figure and floor are measured in turns, and the spread says how far the
    rounds of the run lie apart. Other work on the machine makes it wider.
    """


_algorithm = click.option(
    "--algorithm", default="ecdsa-p384", show_default=True, help="The device's keys."
)


@command.command(
    name="attest", epilog=example("spdm bench attest --count 200", "spdm bench attest --asyncio")
)
@_algorithm
@click.option("--count", type=click.IntRange(1), default=220, show_default=True, help="How often.")
@click.option("--asyncio", "with_asyncio", is_flag=True, help="The asyncio driver, many at once.")
@click.option(
    "--in-flight",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    help="How many at once, with --asyncio.",
)
@click.option(
    "--sleeping-device",
    "sleeping",
    is_flag=True,
    help="The device sleeps between messages, and waking it counts as our cost.",
)
@common
def attest(
    algorithm: str,
    count: int,
    with_asyncio: bool,
    in_flight: int,
    sleeping: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """CPU time of one attestation, over loopback, on a fresh connection."""
    from spdmkit.bench.attest import measure_attest

    driver = "asyncio" if with_asyncio else "blocking"
    found = measure_attest(algorithm, count, driver=driver, in_flight=in_flight, awake=not sleeping)
    return _show(found, as_json=as_json, verbose=verbose)


@command.command(name="handshake", epilog=example("spdm bench handshake --count 200"))
@_algorithm
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="How often.")
@common
def handshake(algorithm: str, count: int, as_json: bool, verbose: bool) -> int:
    """CPU time of opening a session: KEY_EXCHANGE to FINISH_RSP, the chain verified before."""
    from spdmkit.bench.handshake import measure_handshake

    return _show(measure_handshake(algorithm, count), as_json=as_json, verbose=verbose)


@command.command(name="session", epilog=example("spdm bench session --count 5000"))
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Records.")
@common
def session(count: int, as_json: bool, verbose: bool) -> int:
    """CPU time of application data in a session, both ends, in records of nearly 64 KiB."""
    from spdmkit.bench.session import measure_session

    return _show(measure_session(count), as_json=as_json, verbose=verbose)


@command.command(name="connections", epilog=example("spdm bench connections --count 1000"))
@click.option(
    "--count", type=click.IntRange(1, 20_000), default=1000, show_default=True, help="Connections."
)
@common
def connections(count: int, as_json: bool, verbose: bool) -> int:
    """Memory that an idle connection with a session takes at the responder."""
    from spdmkit.bench.connections import measure_connections

    return _show(measure_connections(count), as_json=as_json, verbose=verbose)


@command.command(name="appraise", epilog=example("spdm bench appraise --count 500"))
@_algorithm
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="How often.")
@common
def appraise(algorithm: str, count: int, as_json: bool, verbose: bool) -> int:
    """CPU time of appraising recorded evidence, and what a chain validated before saves."""
    from spdmkit.bench.appraise import measure_appraise

    return _show(measure_appraise(algorithm, count), as_json=as_json, verbose=verbose)


def _show(found: Result, *, as_json: bool, verbose: bool) -> int:
    """Print a result; benchmarks judge nothing, so that the exit code is 0."""
    document = found.document()
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return 0
    click.echo(f"figure   {found.figure:10.3f} {found.unit}: {found.what}")
    click.echo(f"floor    {found.floor:10.3f} {found.unit}: {found.of_what}")
    low, high = found.spread
    click.echo(f"ratio    {found.ratio:10.2f} (rounds {low:.2f} to {high:.2f}, bar {found.bar:g})")
    for name, value in found.details.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")
    if verbose:
        for name, value in document["machine"].items():  # type: ignore[attr-defined] # a dict, see Result
            click.echo(f"{name}: {value}", err=True)
    return 0


@command.command(name="decode", epilog=example("spdm bench decode --count 50000"))
@click.option(
    "--count", type=click.IntRange(1), default=20_000, show_default=True, help="Messages."
)
@common
def decode(count: int, as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """Messages a second that a capture is decoded at, without checking signatures."""
    from spdmkit.bench.decode import measure_decode

    figures = measure_decode(count)
    if as_json:
        document = {
            "messages": figures.messages,
            "records": figures.records,
            "mean_bytes": round(figures.mean_size, 1),
            "seconds": round(figures.seconds, 4),
            "messages_per_second": round(figures.rate),
            "memory_growth_kib": figures.memory_growth // 1024,
        }
        click.echo(json.dumps(document, indent=2))
        return 0
    click.echo(f"messages      {figures.messages:10,}, {figures.records:,} of them in records")
    click.echo(f"mean size     {figures.mean_size:10.0f} bytes on the wire")
    click.echo(f"CPU           {figures.seconds:10.3f} s")
    click.echo(f"rate          {figures.rate:10,.0f} messages a second")
    click.echo(f"memory        {figures.memory_growth // 1024:10,} KiB more for the longest file")
    return 0


@command.command(name="verifier", epilog=example("spdm bench verifier --devices 500"))
@click.option(
    "--devices", type=click.IntRange(1), default=500, show_default=True, help="Dial at once."
)
@click.option(
    "--identities", type=click.IntRange(1), default=8, show_default=True, help="Different ones."
)
@click.option("--algorithm", default="ecdsa-p384", show_default=True, help="Their keys.")
@click.option(
    "--at-once", type=click.IntRange(1), default=32, show_default=True, help="Served at a time."
)
@common
def verifier(
    devices: int,
    identities: int,
    algorithm: str,
    at_once: int,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """Many devices dial one verifier at the same moment; each is verified, none is lost."""
    from spdmkit.bench.verifier import measure_verifier

    figures = measure_verifier(devices, identities=identities, algorithm=algorithm, at_once=at_once)
    if as_json:
        document = {
            "devices": figures.devices,
            "identities": figures.identities,
            "trusted": figures.trusted,
            "lost": figures.lost,
            "retries": figures.retries,
            "seconds": round(figures.seconds, 3),
            "cpu_seconds": round(figures.cpu, 3),
            "devices_per_second": round(figures.rate, 1),
            "memory_kib": figures.memory // 1024,
            "memory_kib_per_device": round(figures.memory / 1024 / figures.devices, 1),
            "most_open": figures.most_open,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(f"devices       {figures.devices:8}, {figures.identities} different ones")
        click.echo(f"trusted       {figures.trusted:8}, {figures.lost} lost")
        click.echo(f"time          {figures.seconds:8.2f} s, {figures.rate:.0f} devices a second")
        click.echo(f"CPU           {figures.cpu:8.2f} s of the verifier")
        share = figures.memory / 1024 / figures.devices
        click.echo(
            f"memory        {figures.memory / 1048576:8.1f} MiB more, {share:.0f} KiB a device"
        )
        click.echo(f"most open     {figures.most_open:8} connections at once")
    return 0 if figures.trusted == figures.devices and not figures.lost else 1


@command.command(name="hostile", epilog=example("spdm bench hostile --hostile 4900 --honest 100"))
@click.option(
    "--hostile", type=click.IntRange(1), default=4900, show_default=True, help="Hostile clients."
)
@click.option(
    "--honest", type=click.IntRange(1), default=100, show_default=True, help="Honest clients."
)
@common
def hostile(
    hostile: int,
    honest: int,
    as_json: bool,
    verbose: bool,  # noqa: ARG001 - every command has -v
) -> int:
    """What honest clients of a device notice of a crowd of hostile ones.

    The crowd is silent (40 %), sends a byte a second (20 %), garbage, oversize frames, half a
    frame, or half a negotiation (10 % each), and comes back when it is thrown out.
    """
    import statistics

    from spdmkit.bench.hostile import measure_hostile

    found = measure_hostile(hostile, honest)
    alone, beside = statistics.median(found.alone), statistics.median(found.beside)
    document = {
        "benchmark": "hostile",
        "hostile": found.hostile,
        "honest": found.honest,
        "median_alone_ms": round(alone * 1000, 1),
        "median_beside_ms": round(beside * 1000, 1),
        "ratio": round(found.ratio, 2),
        "ratio_95th_percentile": round(found.worst_ratio, 2),
        "bar": 2.0,
        "failed": found.failed,
    }
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        for name, value in document.items():
            click.echo(f"{name.replace('_', ' '):24} {value}")
    return 0 if not found.failed else 1


@command.command(name="proxy", epilog=example("spdm bench proxy --count 5000"))
@click.option(
    "--count", type=click.IntRange(50), default=6000, show_default=True, help="How often."
)
@click.option(
    "--size", type=click.IntRange(4, 60_000), default=300, show_default=True, help="Bytes."
)
@common
def proxy(count: int, size: int, as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """What the proxy adds to a round trip, beside what a bare relay of bytes adds."""
    from spdmkit.bench.proxy import measure_proxy

    figures = measure_proxy(count, size)
    if as_json:
        document = {
            "count": figures.count,
            "size": figures.size,
            "straight_us": round(figures.straight, 1),
            "relay_us": round(figures.relay, 1),
            "proxy_us": round(figures.proxy, 1),
            "relay_adds_us": round(figures.relay_adds, 1),
            "proxy_adds_us": round(figures.proxy_adds, 1),
            "serial_us": round(figures.serial, 1),
            "ratio": round(figures.ratio, 3),
        }
        click.echo(json.dumps(document, indent=2))
        return 0
    click.echo(f"straight      {figures.straight:8.1f} us a round trip, median of {figures.count}")
    click.echo(f"bare relay    {figures.relay:8.1f} us, adds {figures.relay_adds:.1f}")
    click.echo(f"proxy         {figures.proxy:8.1f} us, adds {figures.proxy_adds:.1f}")
    click.echo(f"proxy, serial {figures.serial:8.1f} us, in MCTP packets over a pseudo terminal")
    click.echo(f"ratio         {figures.ratio:8.2f}")
    return 0

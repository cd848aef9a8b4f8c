"""`spdm bench`: what things cost, beside the floor measured in the same run."""

from __future__ import annotations

import json

import click

from spdmkit.cli.options import common, example

__all__ = ["command"]


@click.group(name="bench")
def command() -> None:
    """Measure what things cost beside the cryptography in them."""


@command.command(name="attest", epilog=example("spdm bench attest --count 200"))
@click.option("--algorithm", default="ecdsa-p384", show_default=True, help="The device's keys.")
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="How often.")
@common
def attest(algorithm: str, count: int, as_json: bool, verbose: bool) -> int:  # noqa: ARG001 - every command has -v
    """CPU time of one attestation, over loopback, on a fresh connection."""
    from spdmkit.bench.attest import VERIFICATIONS, measure_attest

    figures = measure_attest(algorithm, count)
    if as_json:
        document = {
            "algorithm": figures.algorithm,
            "count": figures.count,
            "attest_ms": round(figures.attest, 3),
            "verify_ms": round(figures.verify, 3),
            "floor_ms": round(figures.floor, 3),
            "ratio": round(figures.ratio, 3),
        }
        click.echo(json.dumps(document, indent=2))
        return 0
    click.echo(f"attestation   {figures.attest:8.3f} ms of CPU, median of {figures.count}")
    what = f"{VERIFICATIONS} {figures.algorithm} verifications"
    click.echo(f"floor         {figures.floor:8.3f} ms: {what}")
    click.echo(f"ratio         {figures.ratio:8.2f}")
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

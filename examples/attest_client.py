"""Attest a device from a program, end to end: with a blocking socket, or with asyncio.

    spdm device init mydevice
    spdm device serve mydevice --listen tcp://127.0.0.1:4194 &
    python examples/attest_client.py tcp://127.0.0.1:4194 mydevice/trust-anchor.pem \
        mydevice/reference.json [--async]

The conversation is the same generator both times; only who drives it differs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from spdmkit.attestation.collect import Wanted
from spdmkit.attestation.outcome import AttestationResult
from spdmkit.attestation.verifier import Attested, Sources, Verifier
from spdmkit.errors import SpdmError
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import requester_settings
from spdmkit.transports import aio, blocking
from spdmkit.transports.requesters import requester_factory

make_endpoint = requester_factory(requester_settings(sessions=True))


def wanted(uri: str) -> Wanted:
    """What to collect: measurements, read in a session."""
    return Wanted(session=True, target=uri, now=int(time.time()))


def attest(uri: str, verifier: Verifier) -> Attested:
    """Attest a device over a blocking socket."""
    with blocking.connect(uri, make_endpoint) as connection:
        link = Link(connection.endpoint.connection)
        return connection.run(verifier.attest(link, wanted(uri)))


async def attest_async(uri: str, verifier: Verifier) -> Attested:
    """The same over asyncio; many of these can run at once on one event loop."""
    async with await aio.connect(uri, make_endpoint) as connection:
        link = Link(connection.endpoint.connection)
        return await connection.run(verifier.attest(link, wanted(uri)))


def show(result: AttestationResult) -> None:
    """What a program would act on."""
    print(f"verdict  {result.verdict}")
    print(f"device   {result.identity.get('san')}")
    for each in result.measurements:
        print(f"  {each.index:3}  {each.type:26} {each.result}")
    for reason in result.reasons:
        print(f"because  {reason}")


def main() -> int:
    """Read the arguments, attest, and say what was found."""
    parser = argparse.ArgumentParser(description="Attest a device.")
    parser.add_argument("uri")
    parser.add_argument("trust_anchor")
    parser.add_argument("reference")
    parser.add_argument("--async", action="store_true", dest="use_asyncio")
    given = parser.parse_args()
    verifier = Verifier.from_files(
        Sources(trust_anchors=[given.trust_anchor], references=[given.reference])
    )
    try:
        if given.use_asyncio:
            attested = asyncio.run(attest_async(given.uri, verifier))
        else:
            attested = attest(given.uri, verifier)
    except SpdmError as error:
        print(f"could not attest {given.uri}: {error} {error.hint}", file=sys.stderr)
        return error.exit_code
    show(attested.result)
    return attested.result.exit_code()


if __name__ == "__main__":
    sys.exit(main())

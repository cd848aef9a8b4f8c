"""A verifier of a data centre: devices dial in, each is verified and told the results.

    spdm device init mydevice
    spdm device init verifier --requester
    cp verifier/trust-anchor.pem mydevice/requesters.pem
    # in mydevice/device.toml: requester_trust_anchors = ["requesters.pem"]

    python examples/data_centre.py tcp://127.0.0.1:4194 verifier \
        mydevice/trust-anchor.pem mydevice/reference.json --stop-after 1 &
    spdm device dial mydevice tcp://127.0.0.1:4194 --want verify

Devices that cannot say what they want are measured all the same. A device that is not trusted is
put on the list of those to quarantine: what that means is up to the network.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.device.folder import FolderDevice
from spdmkit.errors import SpdmError
from spdmkit.identity import ChainCache
from spdmkit.services.listening import Report, VerifierService
from spdmkit.services.provider import Provider, gifts_from


class DataCentre:
    """Keeps the book on who may talk to whom.

    Attributes:
        trusted, quarantined: names of devices.
    """

    def __init__(self, stop_after: int | None) -> None:
        """Nobody has called yet."""
        self.trusted: set[str] = set()
        self.quarantined: set[str] = set()
        self.done = asyncio.Event()
        self._left = stop_after

    def note(self, report: Report) -> None:
        """A device's connection is over, or it told of a change."""
        name = str(report.identity.get("san") or report.peer)
        if report.verdict == "trusted":
            self.quarantined.discard(name)
            self.trusted.add(name)
        elif report.verdict == "untrusted":
            self.trusted.discard(name)
            self.quarantined.add(name)
        services = ", ".join(each.service for each in report.services)
        why = "" if report.error is None else f" ({report.error})"
        print(f"{report.verdict:13} {name} {services}{why}", flush=True)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.done.set()


async def serve(given: argparse.Namespace) -> int:
    """Listen until a signal comes, or as many devices as were asked for have called."""
    verifier = Verifier.from_files(
        Sources(trust_anchors=[given.trust_anchor], references=[given.reference]),
        cache=ChainCache(),
    )
    centre = DataCentre(given.stop_after)
    service = VerifierService(
        Provider(verifier, gifts=gifts_from([given.reference])),
        credentials=FolderDevice.load(given.identity).credentials,
        on_report=centre.note,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, centre.done.set)
    async with await service.listen(given.listen) as listener:
        print(f"listening on {listener.uri}", flush=True)
        await centre.done.wait()
    print(f"{len(centre.trusted)} trusted, {len(centre.quarantined)} in quarantine", flush=True)
    return 1 if centre.quarantined else 0


def main() -> int:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="Verify devices that dial in.")
    parser.add_argument("listen", help="for example tcp://:4194")
    parser.add_argument("identity", help="folder with our own identity")
    parser.add_argument("trust_anchor")
    parser.add_argument("reference")
    parser.add_argument("--stop-after", type=int, help="stop after so many devices")
    try:
        return asyncio.run(serve(parser.parse_args()))
    except SpdmError as error:
        print(f"cannot serve: {error} {error.hint}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

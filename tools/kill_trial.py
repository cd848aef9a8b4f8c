"""Kill a device with SIGKILL while it is provisioned, again and again; no slot may ever be lost.

    python tools/kill_trial.py --rounds 200

Each round serves the device in a process of its own, provisions a slot over TCP, and kills the
process at a random moment of the conversation. Then the folder is opened again: slot 0 must be as
it was, the slot that was written must hold either the chain it held before or the new one, whole,
and a chain whose provisioning was confirmed must be there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from spdmkit.attestation.verifier import Sources, Verifier
from spdmkit.cli.connecting import pre_shared_key, requester_factory
from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.errors import SpdmError
from spdmkit.protocol.link import Link
from spdmkit.protocol.settings import requester_settings
from spdmkit.provisioning.authority import CertificateAuthority
from spdmkit.provisioning.flow import Access, Job, provision
from spdmkit.provisioning.install import Order
from spdmkit.transports.blocking import connect

UNDISTURBED = 3
"""Provisionings without a kill, to see how long one takes here and now."""
PATIENCE = 30.0
"""Seconds that one may take at most."""


def main() -> int:
    """Run the trial; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="repeat the same moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spdm-kill-") as name:
        counts = trial(Path(name), options.rounds, random.Random(options.seed))  # noqa: S311 - moments, not secrets
    print(", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    return 0


def trial(folder: Path, rounds: int, moments: random.Random) -> Counter[str]:
    """The trial; counts what the killed device was found with.

    Args:
        folder: empty, for the device and the authority.
        rounds: how often to kill.
        moments: when.

    Raises:
        AssertionError: a slot was lost or broken.
    """
    device = folder / "device"
    initialise(device, algorithm="ecdsa-p256")
    configuration = device / "device.toml"
    text = configuration.read_text()
    configuration.write_text(text.replace("may_provision = []", 'may_provision = ["psk:*"]'))
    authority = CertificateAuthority.create(folder / "ca", "trial", algorithm="ecdsa-p256")
    counts: Counter[str] = Counter()
    times = [_round(device, authority, 1 + n % 3, PATIENCE)[1] for n in range(UNDISTURBED)]
    longest = 1.1 * min(times)
    before = _slots(device)
    for number in range(rounds):
        slot = 1 + number % 3
        confirmed, _ = _round(device, authority, slot, moments.uniform(0, longest))
        after = _slots(device)
        others = {key: value for key, value in before.items() if key != slot}
        if {key: value for key, value in after.items() if key != slot} != others:
            raise AssertionError(f"round {number}: another slot than {slot} changed")
        if confirmed is not None and after.get(slot) != confirmed:
            raise AssertionError(f"round {number}: what was confirmed is gone")
        if slot in before and slot not in after:
            raise AssertionError(f"round {number}: slot {slot} is lost")
        old = after.get(slot) == before.get(slot)
        counts["confirmed" if confirmed else "old chain" if old else "new chain"] += 1
        before = after
    return counts


def _slots(device: Path) -> dict[int, tuple[bytes, ...]]:
    """All chains, read as a device that starts again reads them: whole, or an error."""
    slots = FolderDevice.load(device).credentials.slots
    return {slot_id: slot.certificates for slot_id, slot in slots.items()}


def _round(
    device: Path, authority: CertificateAuthority, slot: int, delay: float
) -> tuple[tuple[bytes, ...] | None, float]:
    """Provision a slot of a device that is killed after `delay` seconds, or when it is done.

    Returns:
        The chain if it was confirmed, and how many seconds it took.
    """
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "spdmkit", "device", "serve", str(device)),
            *("--listen", "tcp://127.0.0.1:0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    with server:
        line = server.stdout.readline() if server.stdout else ""
        uri = line.removeprefix("listening on ").strip()
        done = threading.Event()
        killer = threading.Thread(target=_kill, args=(server, done, delay))
        started = time.monotonic()
        killer.start()
        confirmed = None
        with contextlib.suppress(SpdmError):
            confirmed = _provision(uri, device, authority, slot)
        took = time.monotonic() - started
        done.set()
        killer.join()
    return confirmed, took


def _kill(server: subprocess.Popen[str], done: threading.Event, delay: float) -> None:
    done.wait(delay)
    server.kill()


def _provision(
    uri: str, device: Path, authority: CertificateAuthority, slot: int
) -> tuple[bytes, ...]:
    verifier = Verifier.from_files(Sources(trust_anchors=[device / "trust-anchor.pem"]))
    job = Job(verifier, Access.PSK, pre_shared_key(device / "psk.toml"))
    factory = requester_factory(requester_settings(sessions=True, psk=True))
    with connect(uri, factory) as connection:
        link = Link(connection.endpoint.connection)
        _, made = connection.run(provision(link, authority, Order(slot), job))
    return made.issued.chain


if __name__ == "__main__":
    sys.exit(main())

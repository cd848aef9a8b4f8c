"""A proxy that means harm, without sockets: verifier and device as bytes in, bytes out.

What it does to one write of one side is a function from that write to what goes on instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spdmkit.attestation.collect import Collected
from spdmkit.attestation.verification import DeviceTrust
from spdmkit.protocol import records
from spdmkit.protocol.endpoint import RequesterEndpoint
from spdmkit.protocol.link import Link
from spdmkit.transports.conduit import Conduit, ConnectionInfo
from spdmkit.transports.framing import Dialect, Role, Side
from spdmkit.transports.tcp import TcpBinding
from spdmkit.transports.uri import Records

from .real import attesting, device_factory, everything, verifier_factory

__all__ = ["Harm", "Rig", "Run"]

Harm = Callable[["Run", int, bytes], list[bytes]]
"""(the run so far, number of the write, the write) -> what goes on instead of it."""
UP, DOWN = 0, 1


def unharmed(_run: Run, _number: int, data: bytes) -> list[bytes]:
    return [data]


@dataclass
class Run:
    """One attestation through the proxy.

    Attributes:
        log: (direction, write) of all that it saw, before the harm.
        harmed: something went on otherwise than it came.
        collected: what the verifier believes in the end, or None.
        error: why it believes nothing.
    """

    log: list[tuple[int, bytes]] = field(default_factory=list)
    harmed: bool = False
    collected: Collected | None = None
    error: BaseException | None = None


class Rig:
    """A device, and a verifier that attests it in a session, again and again."""

    def __init__(self, folder: Path, trust: DeviceTrust) -> None:
        self.trust = trust
        self._device = device_factory(folder)
        self._verifier = verifier_factory()

    def run(self, harm: Harm = unharmed, dialect: Dialect = Dialect.STRICT) -> Run:
        run = Run()
        sides = [self._conduit(side, dialect) for side in Side]
        verifier, device = sides
        for each in sides:
            each.opened()
        endpoint = verifier.endpoint
        assert isinstance(endpoint, RequesterEndpoint)
        link = Link(endpoint.connection)
        ticket = endpoint.submit(attesting(link, self.trust, session=True, then=everything))
        now = 1000.0
        for _ in range(400):
            if ticket.done:
                break
            moved = self._carry(run, harm, UP, verifier, device, now)
            moved |= self._carry(run, harm, DOWN, device, verifier, now)
            for one, other in ((verifier, device), (device, verifier)):
                if one.closing and not other.closing:
                    other.ended()
                    moved = True
            if not moved:
                deadline = verifier.next_deadline()
                assert deadline is not None, "the verifier waits for ever"
                now = deadline
                verifier.on_time(now)
        assert ticket.done, "it never ends"
        try:
            run.collected = ticket.result()
            run.collected.verified(self.trust)
        except Exception as error:  # any error is examined by the test
            run.collected, run.error = None, error
        return run

    def _conduit(self, side: Side, dialect: Dialect) -> Conduit:
        role = Role.REQUESTER if side is Side.INITIATOR else Role.RESPONDER
        framing = TcpBinding(side, [role], guess=dialect, sequence_sizes=(2,))
        info = ConnectionInfo("rig", "tcp", role, side, "", "", records.MCTP)
        factory = self._verifier if role is Role.REQUESTER else self._device
        return Conduit(framing, factory, info, records_of=Records.MCTP)

    def _carry(
        self, run: Run, harm: Harm, direction: int, sender: Conduit, receiver: Conduit, now: float
    ) -> bool:
        moved = False
        for job in sender.jobs():
            try:
                outcome = job.call()
            except Exception as error:  # as a driver does: whoever asked for it decides
                outcome = error
            assert not inspect.isawaitable(outcome)
            sender.complete(job.token, outcome, now)
            moved = True
        for data in sender.output(now):
            number = len(run.log)
            run.log.append((direction, data))
            pieces = harm(run, number, data)
            run.harmed |= pieces != [data]
            for piece in pieces:
                if not receiver.closing:
                    receiver.received(piece, now)
            moved = True
        return moved

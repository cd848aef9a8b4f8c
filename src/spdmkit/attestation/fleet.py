"""Attesting devices over the network: one, or many at once with a bound on how many.

An `Order` says how one device is reached and judged; `attest_one` carries it out over the blocking
driver, `attest_all` many of them over asyncio. Whatever goes wrong with one device is told in its
`Delivery` and concerns no other. One identity that answers at two targets makes both untrusted:
`one_identity_twice`, after all have answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from spdmkit.attestation.collect import Wanted
from spdmkit.attestation.outcome import AttestationResult, Verdict
from spdmkit.attestation.verifier import Attested, Verifier
from spdmkit.errors import DeadlineExceeded, SpdmError
from spdmkit.identity import Outcome, Step
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.transports import aio, blocking
from spdmkit.transports.memory import DialectMemory
from spdmkit.transports.workpool import WorkPool

if TYPE_CHECKING:
    from spdmkit.protocol.requester.sessions import PreSharedKey
    from spdmkit.transports.conduit import EndpointFactory, TapFactory
    from spdmkit.transports.framing import Dialect
    from spdmkit.transports.uri import EndpointUri

__all__ = [
    "CONCURRENCY",
    "PATIENCE",
    "Delivery",
    "Order",
    "attest_all",
    "attest_one",
    "one_identity_twice",
]

CONCURRENCY: Final = 32
"""Devices that are attested at the same time."""
PATIENCE: Final = 60.0
"""Seconds that one device may take for everything."""
_NAMED: Final = 3
"""Other addresses of a device that its result names."""


@dataclass(frozen=True, slots=True)
class Order:
    """One device to attest.

    Attributes:
        name: what to call it in results.
        uri: where it is.
        verifier: whom and what its verdict goes by.
        factory: makes our endpoint, with settings that keep messages.
        wanted: what to collect; the time of collection is filled in.
        psk: the pre-shared key to open a session by, when it is known by one.
        time: the time of the appraisal, seconds since 1970; None for now.
    """

    name: str
    uri: EndpointUri
    verifier: Verifier
    factory: EndpointFactory
    wanted: Wanted
    psk: PreSharedKey | None = None
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an order: a result, or why there is none.

    Attributes:
        order: the order.
        attested: the result; None when it could not be done.
        error: why it could not be done.
        seconds: how long it took.
    """

    order: Order
    attested: Attested | None
    error: Exception | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """What a command that had this one device would exit with."""
        if self.attested is not None:
            return self.attested.result.exit_code()
        return self.error.exit_code if isinstance(self.error, SpdmError) else SpdmError.exit_code


def attest_one(
    order: Order,
    *,
    known_keys: Mapping[str, str] | None = None,
    tap: TapFactory | None = None,
) -> Attested:
    """Attest one device; the thread that calls waits.

    Args:
        order: the device.
        known_keys: `KnownDevices.keys`.
        tap: sees all bytes, for a capture.

    Raises:
        SpdmError: it could not be done: configuration, network, protocol, or the peer refused.
    """
    started = time.perf_counter()
    with blocking.connect(order.uri, order.factory, tap=tap) as connection:
        connected = time.perf_counter()
        link = Link(connection.endpoint.connection)
        attested = connection.run(_attestation(order, link, known_keys))
        attested = _reached(attested, connection.dialect)
    return _timed(attested, started, connected)


async def attest_all(
    orders: Iterable[Order],
    *,
    known_keys: Mapping[str, str] | None = None,
    concurrency: int = CONCURRENCY,
    patience: float = PATIENCE,
    tap: TapFactory | None = None,
    on_delivery: Callable[[Delivery], None] | None = None,
) -> list[Delivery]:
    """Attest many devices, a bounded number of them at the same time.

    Args:
        orders: the devices; taken one by one as there is room.
        known_keys: `KnownDevices.keys`.
        concurrency: how many at the same time.
        patience: seconds for each of them.
        tap: sees all bytes, for a capture.
        on_delivery: told of each one as it is done.

    Returns:
        One delivery for each order, in the order in which they were done.

    Raises:
        Exception: what `on_delivery` raised; the devices that are not done are left.
    """
    deliveries: list[Delivery] = []
    queue = iter(orders)
    memory = DialectMemory()
    pool = WorkPool()

    async def work() -> None:
        for order in queue:
            delivery = await _deliver(order, known_keys, patience, memory, pool, tap)
            deliveries.append(delivery)
            if on_delivery is not None:
                on_delivery(delivery)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, concurrency)):
                group.create_task(work())
    except ExceptionGroup as failures:  # what `on_delivery` raised: as it is, and one is enough
        raise failures.exceptions[0] from None
    finally:
        pool.close()
    return deliveries


async def _deliver(
    order: Order,
    known_keys: Mapping[str, str] | None,
    patience: float,
    memory: DialectMemory,
    pool: WorkPool,
    tap: TapFactory | None,
) -> Delivery:
    started = time.perf_counter()

    def done(attested: Attested | None, error: Exception | None = None) -> Delivery:
        return Delivery(order, attested, error, time.perf_counter() - started)

    try:
        async with asyncio.timeout(patience):
            connection = await aio.connect(
                order.uri, order.factory, memory=memory, pool=pool, tap=tap
            )
            connected = time.perf_counter()
            async with connection:
                link = Link(connection.endpoint.connection)
                attested = await connection.run(_attestation(order, link, known_keys))
                attested = _reached(attested, connection.dialect)
    except TimeoutError:
        return done(None, DeadlineExceeded(f"not done within {patience:g} s"))
    except Exception as error:  # noqa: BLE001 - one device must not end the others, whatever it is
        return done(None, error)
    return done(_timed(attested, started, connected))


def _attestation(
    order: Order, link: Link, known_keys: Mapping[str, str] | None
) -> Exchange[Attested]:
    wanted = replace(order.wanted, now=int(time.time()))
    return order.verifier.attest(
        link, wanted, time=order.time, psk=order.psk, known_keys=known_keys
    )


def _reached(attested: Attested, dialect: Dialect | None) -> Attested:
    """How the device was reached, as precisely as is known now: "tcp strict"."""
    if dialect is None:
        return attested
    result, evidence = attested.result, attested.evidence
    transport = f"{result.transport} {dialect.value}"
    if evidence is not None:
        evidence = replace(evidence, transport=transport)
    return replace(attested, result=replace(result, transport=transport), evidence=evidence)


def _timed(attested: Attested, started: float, connected: float) -> Attested:
    now = time.perf_counter()
    timings = {"connect": round(connected - started, 6), "total": round(now - started, 6)}
    return replace(attested, result=replace(attested.result, timings=timings))


def one_identity_twice(deliveries: Sequence[Delivery]) -> dict[str, AttestationResult]:
    """Results for devices that answered at more than one target: untrusted, by name of the order.

    One device cannot be at two addresses: somebody passes on what it says. A device is known again
    by its key, or by its SPDM name (manufacturer, product and serial number).
    """
    places: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        for identity in _identities(delivery):
            places.setdefault(identity, []).append(delivery)
    found: dict[str, AttestationResult] = {}
    for identity, answered in places.items():
        if len({str(each.order.uri.address) for each in answered}) < 2:
            continue
        for delivery in answered:
            others = [
                str(each.order.uri) for each in answered if each.order.uri != delivery.order.uri
            ]
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            if delivery.attested is not None and delivery.order.name not in found:
                found[delivery.order.name] = _relayed(
                    delivery.attested.result,
                    f"{identity} answered at {', '.join(others[:_NAMED])}{more} too: one device "
                    "cannot be at two addresses",
                )
    return found


def _identities(delivery: Delivery) -> list[str]:
    if delivery.attested is None:
        return []
    identity = delivery.attested.result.identity
    found = [f"spki-sha256:{delivery.attested.key}"] if delivery.attested.key else []
    if identity.get("san") and identity.get("device_serial"):
        found.append(str(identity["san"]))
    return found


def _relayed(result: AttestationResult, reason: str) -> AttestationResult:
    steps = tuple(
        Step(step.name, Outcome.FAILED, reason) if step.name == "identity" else step
        for step in result.steps
    )
    return replace(
        result,
        verdict=Verdict.UNTRUSTED,
        reasons=(f"identity: {reason}", *result.reasons),
        steps=steps,
    )

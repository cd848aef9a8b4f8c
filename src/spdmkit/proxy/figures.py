"""What was carried, counted: as Prometheus text and as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DeviceFigures", "Traffic", "prometheus"]

_PREFIX = "spdm_proxy"


@dataclass(slots=True)
class Traffic:
    """Messages of one kind in one direction.

    Attributes:
        messages: how many.
        octets: how many bytes, without any framing.
    """

    messages: int = 0
    octets: int = 0


@dataclass(slots=True)
class DeviceFigures:
    """Figures of one device.

    Attributes:
        name: the device's.
        to: its address.
        up: it was reached when last tried; None before.
        leased_by: whose it is now, empty for nobody.
        waiting: clients that wait.
        leases: how many there were.
        lease_seconds: what they lasted together.
        traffic: (direction, message type) -> how much; directions are "request", "response".
        answers: requests that were answered.
        answer_seconds: what the answers took together.
        retries: requests sent again on the MCTP side.
        refused: why -> clients refused.
        failures: why -> leases that ended otherwise than by the client's closing.
    """

    name: str
    to: str
    up: bool | None = None
    leased_by: str = ""
    waiting: int = 0
    leases: int = 0
    lease_seconds: float = 0.0
    traffic: dict[tuple[str, int], Traffic] = field(default_factory=dict)
    answers: int = 0
    answer_seconds: float = 0.0
    retries: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def counting(self, direction: str, message_type: int) -> Traffic:
        """What to count messages of this kind in."""
        return self.traffic.setdefault((direction, message_type), Traffic())

    @property
    def messages(self) -> dict[tuple[str, int], int]:
        """How many messages, for those kinds that there were."""
        return {key: each.messages for key, each in self.traffic.items() if each.messages}

    @property
    def octets(self) -> dict[tuple[str, int], int]:
        """The same, in bytes of SPDM messages and records."""
        return {key: each.octets for key, each in self.traffic.items() if each.messages}

    def status(self) -> dict[str, Any]:
        """For `--status`."""
        return {
            "name": self.name,
            "to": self.to,
            "up": self.up,
            "leased_by": self.leased_by or None,
            "waiting": self.waiting,
            "leases": self.leases,
            "lease_seconds": round(self.lease_seconds, 3),
            "messages": _by_direction(self.messages),
            "bytes": _by_direction(self.octets),
            "answers": self.answers,
            "answer_seconds": round(self.answer_seconds, 6),
            "retries": self.retries,
            "refused": dict(self.refused),
            "failures": dict(self.failures),
        }


def _by_direction(counter: dict[tuple[str, int], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {"request": {}, "response": {}}
    for (direction, message_type), count in sorted(counter.items()):
        found[direction][f"0x{message_type:02X}"] = count
    return found


_Sample = tuple[dict[str, str], float]


def prometheus(devices: Iterable[DeviceFigures], *, started: float) -> str:
    """The text format of Prometheus, version 0.0.4; `started` is seconds since 1970."""
    devices = list(devices)
    lines = [
        f"# TYPE {_PREFIX}_uptime_seconds gauge",
        f"{_PREFIX}_uptime_seconds {max(time.time() - started, 0):.3f}",
        f"# TYPE {_PREFIX}_devices gauge",
        f"{_PREFIX}_devices {len(devices)}",
    ]
    for name, kind, help_text, samples in _families(devices):
        if samples:
            lines.append(f"# HELP {_PREFIX}_{name} {help_text}")
            lines.append(f"# TYPE {_PREFIX}_{name} {kind}")
            lines += [f"{_PREFIX}_{name}{_labels(labels)} {value:g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _families(devices: list[DeviceFigures]) -> list[tuple[str, str, str, list[_Sample]]]:
    def each(attribute: str) -> list[_Sample]:
        return [({"device": one.name}, float(getattr(one, attribute))) for one in devices]

    def by(attribute: str, *labels: str) -> list[_Sample]:
        return [
            ({"device": one.name, **dict(zip(labels, _key(key), strict=True))}, float(count))
            for one in devices
            for key, count in sorted(getattr(one, attribute).items())
        ]

    up = [({"device": one.name}, float(one.up)) for one in devices if one.up is not None]
    leased = [({"device": one.name}, float(bool(one.leased_by))) for one in devices]
    return [
        ("device_up", "gauge", "1 if the device was reached when last tried.", up),
        ("device_leased", "gauge", "1 while a client has the device.", leased),
        ("clients_waiting", "gauge", "Clients that wait for the device.", each("waiting")),
        ("leases_total", "counter", "Leases begun.", each("leases")),
        ("lease_seconds_total", "counter", "What ended leases lasted.", each("lease_seconds")),
        (
            "messages_total",
            "counter",
            "Messages carried, by MCTP message type.",
            by("messages", "direction", "type"),
        ),
        (
            "bytes_total",
            "counter",
            "Bytes of the messages carried.",
            by("octets", "direction", "type"),
        ),
        ("answers_total", "counter", "Requests that were answered.", each("answers")),
        ("answer_seconds_total", "counter", "What answers took.", each("answer_seconds")),
        ("retries_total", "counter", "Requests sent again to the device.", each("retries")),
        ("refused_total", "counter", "Clients refused.", by("refused", "reason")),
        ("failures_total", "counter", "Leases that failed.", by("failures", "reason")),
    ]


def _key(key: object) -> tuple[str, ...]:
    if isinstance(key, tuple):
        return (str(key[0]), f"0x{key[1]:02X}")
    return (str(key),)


def _labels(labels: dict[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + inside + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

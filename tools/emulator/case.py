"""What one case of the matrix says."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from emulator.suite import Suite
from spdmkit.protocol.session import MutualAuth

__all__ = ["Case", "Ours", "version_text"]


class Ours(enum.Enum):
    """Which side we are."""

    REQUESTER = "requester"
    RESPONDER = "responder"


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation between us and the emulator.

    Attributes:
        group: what the case is about.
        what: what distinguishes it in its group.
        ours: which side we are.
        transport: "mctp", "tcp" or "doe".
        version: SPDM version byte.
        suite: the algorithms.
        steps: as requester, what we do, in this order (`requester.STEPS`); as responder, what the
            emulator must have asked us in the end (`record.Record.asked`).
        capabilities: flags we announce beyond the usual ones.
        without: usual flags we do not announce.
        settings: our other settings.
        emulator: more options for the emulator.
        mutual: how the requester proves itself in KEY_EXCHANGE.
        slot: the responder's slot, 0xFF for a provisioned key.
        proves: the requester has an identity, even where no other field says so.
        slots: slots that we fill ourselves.
        key_only: the requester has no chain, only a key that the responder knows.
        spare_keys: key pairs of our device that belong to no slot, before those that do.
        provisions: our device lets anyone write its slots and keys.
        command: words of our command line instead of steps, with {uri}, {anchor} and {identity}.
        exit_status: of that command.
        reach_out: the responder dials and sends Role-Inquiry (DSP0287 6.2); over TCP only.
        served: `spdm device serve` serves our device, rather than this process.
        resumes: a second connection goes on with what the first negotiated.
        at_once: how many of the emulator's requesters visit our served device at the same time.
        refused: requests that the emulator makes and we are right to refuse.
        proxied: the emulator is a device behind our proxy.
    """

    group: str
    what: str
    ours: Ours
    transport: str
    version: int
    steps: tuple[str, ...]
    suite: Suite = field(default_factory=Suite)
    capabilities: int = 0
    without: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    emulator: tuple[str, ...] = ()
    mutual: MutualAuth = MutualAuth.NONE
    slot: int = 0
    slots: tuple[int, ...] = (0,)
    proves: bool = False
    key_only: bool = False
    spare_keys: int = 0
    provisions: bool = False
    command: tuple[str, ...] = ()
    exit_status: int = 0
    reach_out: bool = False
    served: bool = False
    at_once: int = 1
    resumes: bool = False
    refused: tuple[str, ...] = ()
    proxied: bool = False

    @property
    def name(self) -> str:
        """A name that no other case has, to select it by."""
        way = f"proxy+{self.transport}" if self.proxied else self.transport
        parts = (self.ours.value, way, version_text(self.version), self.group, self.what)
        return "/".join(parts)

    @property
    def proves_itself(self) -> bool:
        """The requester has an identity."""
        return self.proves or bool(self.mutual) or self.key_only or "basic-mutual" in self.steps

    def options(self) -> list[str]:
        """The emulator's options."""
        trans = {"mctp": "MCTP", "tcp": "TCP", "doe": "PCI_DOE"}[self.transport]
        words = ["--trans", trans, "--ver", version_text(self.version)]
        words += self.suite.options(self.version)
        if self.reach_out:
            words += ["--tcp_sub", "RI"]
        return [*words, *self.emulator]


def version_text(version: int) -> str:
    """0x12 -> "1.2"."""
    return f"{version >> 4}.{version & 15}"

"""Many devices in one process that dial a verifier at the same moment, for `spdm bench verifier`.

python -m spdmkit.bench.callers URI COUNT FOLDER...
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from spdmkit.device.folder import FolderDevice
from spdmkit.messages.dsp0287 import ServiceId
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.dialling import Caller
from spdmkit.services.wishes import Wish
from spdmkit.transports.loops import raise_descriptor_limit

__all__ = ["call_all"]


async def call_all(uri: str, count: int, folders: list[Path]) -> dict[str, float]:
    """Dial `count` times at once, as the devices in the folders by turns.

    Returns:
        How many calls were fulfilled, how many connections it took, and the seconds.
    """
    callers = []
    for folder in folders:
        device = FolderDevice.load(folder)
        desk = ServiceDesk(device)
        device.register_vendor(desk)
        callers.append(Caller(device, desk))
    wishes = [Wish.of(ServiceId.GET_MEASUREMENTS)]
    started = time.monotonic()
    calls = await asyncio.gather(
        *(callers[number % len(callers)].call(uri, wishes) for number in range(count))
    )
    return {
        "fulfilled": sum(call.done for call in calls),
        "connections": sum(call.tries for call in calls),
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    raise_descriptor_limit()
    found = asyncio.run(
        call_all(sys.argv[1], int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
    )
    sys.stdout.write(json.dumps(found))

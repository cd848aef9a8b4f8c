"""A device whose measurements change ends the sessions that did not leave that to it (10.16)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spdmkit.device.folder import FolderDevice
from spdmkit.device.initialise import initialise
from spdmkit.device.responders import responder_factory
from spdmkit.errors import SpdmError
from spdmkit.protocol.actions import Exchange
from spdmkit.protocol.link import Link
from spdmkit.protocol.requester.measurements import SignedMeasurements, get_signed_measurements
from spdmkit.sessions import Terms, aio
from spdmkit.transports.server import listen


async def test_sessions_end_with_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    initialise(folder, algorithm="ecdsa-p256")
    terms = Terms.trusting(folder / "trust-anchor.pem")
    async with await listen(
        "tcp://127.0.0.1:0", responder_factory(FolderDevice.load(folder))
    ) as listener:
        strict = await aio.open_session(listener.uri, terms)
        lenient = await aio.open_session(listener.uri, replace(terms, termination_policy=True))
        another = await aio.open_session(listener.uri, terms)

        def measured(link: Link) -> Exchange[SignedMeasurements]:
            key = another.opened.key
            assert key is not None
            return get_signed_measurements(link, key, fresh=True)

        before = await another.run(measured)
        assert await strict.request(b"x") == b"x"
        (folder / "firmware" / "main.bin").write_bytes(b"an update")
        after = await another.run(measured)
        assert before.blocks != after.blocks
        with pytest.raises(SpdmError):
            await strict.heartbeat()
        assert not strict.alive
        assert await lenient.request(b"x") == b"x"
        await lenient.heartbeat()
        for session in (strict, lenient, another):
            await session.close()

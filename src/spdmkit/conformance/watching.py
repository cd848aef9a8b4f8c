"""Serving a device that is wrong on purpose, to one requester after another."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spdmkit.conformance.requester import (
    RequesterCase,
    Trial,
    WatchedResponder,
    judge,
    sane_result,
)
from spdmkit.errors import DeadlineExceeded
from spdmkit.protocol.connection import Connection, Role
from spdmkit.transports.server import Happening, Listener, ListenerEvent, listen

if TYPE_CHECKING:
    from spdmkit.conformance.outcome import CaseResult
    from spdmkit.device.folder import FolderDevice
    from spdmkit.transports.conduit import ConnectionInfo, TapFactory

__all__ = ["Watch", "watch"]

_RUN_OVER = 120.0
"""Seconds that a requester's command may take."""


class Watch:
    """A listener whose device is wrong in the way that the trial at hand says."""

    def __init__(self, device: FolderDevice, command: Sequence[str], patience: float) -> None:
        """Nothing listens yet.

        Args:
            device: the device; all its connections are watched.
            command: the requester as a command, `{uri}` standing for the address; empty to wait
                for somebody to connect, once for each trial.
            patience: seconds to wait for a connection, without a command.
        """
        self._device = device
        self._settings = device.configuration.settings()
        self._command = command
        self._patience = patience
        self._trial = Trial()
        self._ended = asyncio.Event()

    def make(self, info: ConnectionInfo) -> WatchedResponder:
        """An endpoint factory."""
        connection = Connection(
            Role.RESPONDER,
            self._settings,
            clock=time.monotonic,
            random=os.urandom,
            record_profile=info.record_profile,
        )
        return WatchedResponder(connection, self._device, self._trial, name=info.name)

    def heard(self, event: ListenerEvent) -> None:
        """A listener's sink: connections of earlier trials end nothing."""
        connection = event.connection
        if event.what is not Happening.ENDED or connection is None:
            return
        endpoint = connection.conduit.endpoint
        if isinstance(endpoint, WatchedResponder) and endpoint.trial is self._trial:
            self._ended.set()

    async def run(self, listener: Listener, trial: Trial) -> Trial:
        """One trial.

        Raises:
            DeadlineExceeded: nobody connected, or the command does not end.
        """
        self._trial = trial
        self._ended.clear()
        if self._command:
            words = [word.replace("{uri}", str(listener.uri)) for word in self._command]
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                trial.exit_code = await asyncio.wait_for(process.wait(), _RUN_OVER)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise DeadlineExceeded(f"{words[0]} does not end") from None
            return trial
        try:
            await asyncio.wait_for(self._ended.wait(), self._patience)
        except TimeoutError:
            raise DeadlineExceeded(
                "no requester connected", hint="have it connect again for each case, or use --run"
            ) from None
        return trial


async def watch(
    device: FolderDevice,
    uri: str,
    cases: Sequence[RequesterCase],
    *,
    command: Sequence[str] = (),
    patience: float = 60.0,
    ready: Callable[[str], None] = lambda _uri: None,
    progress: Callable[[CaseResult], None] = lambda _result: None,
    tap: TapFactory | None = None,
) -> list[CaseResult]:
    """Judge a requester.

    Args:
        device: a device that the requester takes for genuine.
        uri: where to listen.
        cases: which wrong answers.
        command: the requester as a command; empty to wait for it.
        patience: seconds to wait for each connection.
        ready: told the address.
        progress: told of each result.
        tap: sees all bytes, for a capture.

    Raises:
        DeadlineExceeded: nobody connected, or the command does not end.
    """
    watched = Watch(device, command, patience)
    listener = await listen(uri, watched.make, on_event=watched.heard, tap=tap)
    results: list[CaseResult] = []

    def told(result: CaseResult) -> None:
        results.append(result)
        progress(result)

    try:
        ready(str(listener.uri))
        sane = await watched.run(listener, Trial())
        told(sane_result("sanity.first", sane))
        for case in cases:
            trial = await watched.run(listener, Trial(misbehaviour=case.breaks))
            told(judge(case, sane, trial))
        told(sane_result("sanity.last", await watched.run(listener, Trial())))
    finally:
        await listener.close()
    return results

"""A conversation recorded as it passes, and decoded afterwards: a second opinion on each case.

The decoder shares no state with the two endpoints. It recomputes every hash, verifies every
signature and HMAC and decrypts every record, so that a case passes only when what went over the
wire holds by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from spdmkit.capture.decode import Decoder
from spdmkit.capture.events import ConversationEvent, EventKind
from spdmkit.capture.keylog import KeyLog
from spdmkit.capture.secretfiles import load_secrets
from spdmkit.capture.sources import open_recording
from spdmkit.capture.writer import CaptureWriter
from spdmkit.crypto.keys import PublicKey
from spdmkit.protocol.events import KeyLogged, ProtocolEvent
from spdmkit.transports.conduit import Tap

__all__ = ["Record"]
_REQUEST = 0x80
"""The bit that request codes have and response codes have not."""
_NO_REFUSAL = ("LargeResponse", "ResponseNotReady")
"""ERRORs after which the response follows, in chunks or later."""


class Record:
    """The record of one case.

    Attributes:
        events: what our endpoint told, secrets left out.
        asked: how often each request was made, by its name; "session:" stands before those made in
            a session and "inside:" before those that another message brought.
        errors: what was refused: the request's name and the ERROR.
    """

    def __init__(self, folder: Path) -> None:
        """Files for the record in `folder`."""
        self.events: list[ProtocolEvent] = []
        self.asked: Counter[str] = Counter()
        self.errors: list[tuple[str, str]] = []
        self._capture = folder / "case.pcapng"
        self._secrets = folder / "case.keys"
        self._writer = CaptureWriter(self._capture)
        self._log = KeyLog(self._secrets)

    def dialling(self, local: str, peer: str) -> Tap:
        """The tap of a connection that we opened."""
        return self._writer.tcp(_address(local), _address(peer), initiator=True)

    def listening(self, local: str, peer: str) -> Tap:
        """The tap of a connection that the emulator opened."""
        return self._writer.tcp(_address(local), _address(peer), initiator=False)

    def sink(self, event: ProtocolEvent) -> None:
        """Take an event of our endpoint."""
        if isinstance(event, KeyLogged):
            self._log(event)
        else:
            self.events.append(event)

    def judge(
        self,
        anchors: Iterable[bytes] = (),
        keys: Iterable[PublicKey] = (),
        *,
        known: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Decode all of it, and say what does not hold or cannot be decoded or decrypted.

        Args:
            anchors: roots that the chains hang on.
            keys: public keys that were provisioned.
            known: names of messages that do not hold because the case is about that.
        """
        self._writer.close()
        self._log.close()
        wrong: list[str] = []
        with Decoder(
            open_recording(str(self._capture)),
            secrets=load_secrets(self._secrets),
            anchors=list(anchors),
            public_keys=list(keys),
        ) as decoder:
            requests: dict[int, str] = {}
            for event in decoder:
                for each in event.walk():
                    self._note(each, requests)
                    if each.name not in known:
                        wrong += _wrong(each)
        summary = decoder.summary
        if summary.records != summary.records_decrypted:
            wrong.append(f"{summary.records - summary.records_decrypted} records not decrypted")
        return [f"decoded: {each}" for each in wrong]

    def _note(self, event: ConversationEvent, requests: dict[int, str]) -> None:
        if event.kind is not EventKind.MESSAGE:
            return
        if len(event.raw) > 1 and event.raw[1] & _REQUEST:
            name = event.name
            if event.number:
                requests[event.number] = name
            else:
                name = f"inside:{name}"
            if event.session_id is not None:
                name = f"session:{name}"
            self.asked[name] += 1
        elif event.name == "ERROR" and not event.summary.startswith(_NO_REFUSAL):
            self.errors.append((requests.get(event.answers, "?"), event.summary))


def _wrong(event: ConversationEvent) -> Iterator[str]:
    if event.error:
        yield f"{event.name or event.kind.value}: {event.error}"
    if event.kind is EventKind.LOST:
        yield "bytes that are no frame"
    for check in event.checks:
        # A chain's purpose and dates are the endpoint's business, and judged there.
        if check.verdict.value == "failed":
            yield f"{event.name}: {check.name}: {check.reason}"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)

"""Sessions as a listener follows them: keys from whatever secrets there are, and their records.

An endpoint knows when keys change. A listener may have missed the message that said so; so it
tries, where the expected key does not fit, the key that would follow it, and a few records ahead.
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spdmkit.capture.channels import Channel
from spdmkit.capture.events import Party, Verdict
from spdmkit.capture.keylog import Label, SessionRandom
from spdmkit.capture.negotiated import Negotiation
from spdmkit.capture.secretfiles import LooseSecret, Secrets, SessionSecrets
from spdmkit.crypto.aead import Cipher
from spdmkit.crypto.hashes import HashAlgorithm
from spdmkit.crypto.keyschedule import DirectionSecret, DirectionSecrets, KeySchedule
from spdmkit.crypto.registry import Aead
from spdmkit.errors import AuthenticationError
from spdmkit.protocol import records
from spdmkit.protocol.records import ApplicationData, RecordProfile
from spdmkit.protocol.transcript import Transcript

__all__ = ["DerivedSink", "KeySink", "Opened", "SessionFollower"]

DerivedSink = Callable[[str, bytes], None]
"""Told of every value that is derived or computed: its name, as recorded conversations use it."""

KeySink = Callable[[str, SessionRandom, bytes], None]
"""Told of every secret that protects records: its label, the session's name, the secret."""

_LOOK_AHEAD = 32
"""Records that the capture may miss in a row before decryption is given up."""
_MAX_CANDIDATES = 4096
_TAG = 16

_PROFILES = {
    "tcp": records.TCP_LIBSPDM,
    "mctp": records.MCTP,
    "doe": records.DOE,
    "none": records.NONE,
}


class _Stream:
    """One direction: its current key, and how many records it has protected.

    Key, IV and cipher are made when the first record comes: many keys never see one.
    """

    __slots__ = ("_aead", "_cipher", "_iv", "generation", "secret", "sequence")

    def __init__(self, secret: DirectionSecret, aead: Aead, generation: int = 0) -> None:
        self.secret = secret
        self.generation = generation
        self.sequence = 0
        self._aead = aead
        self._cipher: Cipher | None = None
        self._iv = 0

    def open(self, sequence: int, sealed: bytes, associated_data: bytes) -> bytes | None:
        """Decrypt with the nonce of a sequence number; None when the tag is another.

        Raises:
            UnsupportedAlgorithm: no library here has the algorithm.
        """
        cipher = self._cipher
        if cipher is None:
            key, iv = self.secret.key_and_iv()
            cipher = self._cipher = self._aead.new(key)
            self._iv = int.from_bytes(iv, "little")
        nonce = (self._iv ^ sequence).to_bytes(self._aead.iv_size, "little")
        try:
            return cipher.open(nonce, sealed, associated_data)
        except AuthenticationError:
            return None


@dataclass(slots=True)
class _Candidate:
    """Handshake secrets that may be the session's.

    Attributes:
        secrets: S0 and S1.
        schedule: where they come from; None when they stood in a key log.
        label: name of the secret that the schedule began with.
        root: that secret.
    """

    secrets: DirectionSecrets
    schedule: KeySchedule | None = None
    label: Label | None = None
    root: bytes = b""

    def proves(self, party: Party, digest: bytes, verify_data: bytes) -> bool:
        """Is this the verify data that these secrets make?"""
        secrets = self.secrets
        secret = secrets.request if party is Party.REQUESTER else secrets.response
        return hmac.compare_digest(secret.finished(digest), verify_data)


@dataclass(slots=True)
class Opened:
    """What a record held.

    Attributes:
        content: the SPDM message, or application data.
        sender: whose keys it was under.
        note: what is to be said about it.
    """

    content: bytes | ApplicationData
    sender: Party
    note: str = ""


class SessionFollower:
    """One session, from the response that begins it.

    Attributes:
        session_id: its 32 bits.
        psk: it began with PSK_EXCHANGE.
        transcript: TH; None when something that belongs into it was not seen, or it is over.
        l1l2: what signed MEASUREMENTS in it cover; None as for `transcript`.
        clear_handshake: its handshake messages travel outside of it.
        established: the handshake is over.
        problem: why its records cannot be decrypted; empty when they can.
        reported: that was said.
        encapsulated_digests: ED, the first encapsulated DIGESTS response when multi-key.
        encapsulated_seen: an encapsulated response was seen in its handshake.
    """

    def __init__(
        self,
        session_id: int,
        negotiation: Negotiation,
        channel: Channel,
        *,
        random: SessionRandom,
        psk: bool = False,
        derived: DerivedSink | None = None,
        keys: KeySink | None = None,
    ) -> None:
        """A session without keys yet."""
        self.session_id = session_id
        self.psk = psk
        self.random = random
        self.transcript: Transcript | None = None
        self.l1l2: Transcript | None = None
        self.clear_handshake = negotiation.context.handshake_in_the_clear and not psk
        self.established = False
        self.problem = ""
        self.reported = False
        self.encapsulated_digests = b""
        self.encapsulated_seen = False
        self._channel = channel
        self._version = negotiation.context.version
        self._encrypt = negotiation.encrypts
        self._hash: HashAlgorithm | None = None
        self._aead: Aead | None = None
        if negotiation.selection is not None:
            self._hash = negotiation.selection.base_hash
            self._aead = negotiation.selection.aead
        self._derived = derived
        self._keys = keys
        self._known: SessionSecrets | None = None
        self._candidate: _Candidate | None = None
        self._loose: Iterator[LooseSecret] | None = None
        self._th1: bytes | None = None
        self._request: _Stream | None = None
        self._response: _Stream | None = None
        self._profile: RecordProfile | None = None

    # -- keys -----------------------------------------------------------------------------------

    def find_secrets(self, secrets: Secrets, th1: bytes | None) -> None:
        """Look for this session's secrets, and derive the handshake keys.

        Args:
            secrets: all there are.
            th1: the TH1 hash, None when it cannot be computed.
        """
        self._th1 = th1
        self._known = secrets.sessions.get(self.random)
        if self._hash is None or self._aead is None:
            self.problem = "the negotiation of its algorithms is not in the capture"
        elif not secrets:
            self.problem = "there are no secrets: give a key log"
        else:
            self.problem = "no secret of this session is in the key log"
            if self._known is not None:
                self._use_known(self._known)
            elif th1 is None:
                self.problem = "its handshake is not all in the capture"
            elif next(secrets.candidates(*self._labels), None) is not None:
                self._loose = secrets.candidates(*self._labels)
                self.problem = "which of the secrets is this session's does not show"

    def _use_known(self, known: SessionSecrets) -> None:
        """Secrets that name this session: S0 and S1, or what they come from."""
        request = known.secrets.get(Label.REQUEST_HANDSHAKE_SECRET)
        response = known.secrets.get(Label.RESPONSE_HANDSHAKE_SECRET)
        if request and response:
            secrets = DirectionSecrets(self._secret(request), self._secret(response))
            self._use_handshake(_Candidate(secrets))
            return
        for label in self._labels:
            root = known.secrets.get(label)
            if root and self._th1 is not None:
                self._use_handshake(self._derived_from(root, self._th1, label))
                return

    @property
    def _labels(self) -> tuple[Label, ...]:
        return (Label.PSK,) if self.psk else (Label.DHE_SECRET, Label.KEM_SECRET)

    def _secret(self, secret: bytes) -> DirectionSecret:
        base_hash, aead = self._algorithms()
        return DirectionSecret(secret, version=self._version, base_hash=base_hash, aead=aead)

    def _algorithms(self) -> tuple[HashAlgorithm, Aead]:
        if self._hash is None or self._aead is None:
            raise AuthenticationError("record", "the algorithms of the session are not known")
        return self._hash, self._aead

    def _derived_from(self, root: bytes, th1: bytes, label: Label | None) -> _Candidate:
        schedule = KeySchedule(self._version, *self._algorithms())
        secrets = schedule.start_handshake(root, th1, psk=self.psk)
        return _Candidate(secrets, schedule, label, root)

    @property
    def settled(self) -> bool:
        """Which secrets are this session's is known, or that there are none."""
        return self._candidate is not None or self._loose is None

    def confirm(
        self, party: Party, digest: bytes, verify_data: bytes, secrets: Secrets
    ) -> tuple[Verdict, str]:
        """Check the verify data of one side; of several secrets that may be it, this shows which.

        Args:
            party: whose verify data it is.
            digest: digest of the transcript that it covers.
            verify_data: as it stands in the message.
            secrets: where loose ones came from.
        """
        if self._candidate is not None:
            if self._candidate.proves(party, digest, verify_data):
                return Verdict.VERIFIED, ""
            return Verdict.FAILED, "the HMAC is another"
        if self._loose is None or self._th1 is None:
            return Verdict.UNVERIFIABLE, self.problem or "the handshake secrets are not known"
        for entry in itertools.islice(self._loose, _MAX_CANDIDATES):
            candidate = self._derived_from(entry.secret, self._th1, entry.label)
            if candidate.proves(party, digest, verify_data):
                secrets.fitted(entry)
                self._use_handshake(candidate)
                return Verdict.VERIFIED, ""
        self._loose = None
        self.problem = "no secret there is fits this session"
        return Verdict.UNVERIFIABLE, self.problem

    def _use_handshake(self, candidate: _Candidate) -> None:
        self._candidate = candidate
        if self._derived is not None and candidate.label is not None:
            self._derived(candidate.label.value.lower(), candidate.root)
        request, response = candidate.secrets
        if self._derived is not None:
            if not self.psk:
                self._derived("request_handshake_secret", request.reveal())
                self._derived("response_handshake_secret", response.reveal())
            self._derived("finished_key", request.finished_key())
            self._derived("finished_key", response.finished_key())
        self._tell_secrets("HANDSHAKE_SECRET", request, response)
        self._start(request, response)

    def start_application(self, th2: bytes | None) -> None:
        """The handshake is over: go on with the data keys.

        Args:
            th2: the TH2 hash, None when it cannot be computed.
        """
        self.established = True
        self.transcript = None
        if self._hash is None or self._aead is None:
            return
        known = self._known
        schedule = self._candidate.schedule if self._candidate is not None else None
        if known is not None and known.request_data and known.response_data:
            generations = min(known.request_data), min(known.response_data)
            request = self._secret(known.request_data[generations[0]])
            response = self._secret(known.response_data[generations[1]])
            self._tell_secrets("DATA_SECRET", request, response)
            self._start(request, response, generations)
        elif schedule is not None and th2 is not None:
            request, response = schedule.start_application(th2)
            if self._derived is not None and not self.psk:
                self._derived("request_data_secret", request.reveal())
                self._derived("response_data_secret", response.reveal())
                self._derived("export_master_secret", schedule.export_master_secret())
            self._tell_secrets("DATA_SECRET", request, response)
            self._start(request, response)
        else:
            self._request = self._response = None
            if not self.problem:
                self.problem = "its data secrets are not in the key log"

    def _start(
        self,
        request: DirectionSecret,
        response: DirectionSecret,
        generations: tuple[int, int] = (0, 0),
    ) -> None:
        _, aead = self._algorithms()
        if not aead.available:
            self.problem = f"{aead.name} is not available here: {aead.why_unavailable}"
            return
        self._request = _Stream(request, aead, generations[0])
        self._response = _Stream(response, aead, generations[1])
        self.problem = ""
        self._tell_keys(self._request)
        self._tell_keys(self._response)

    def _tell_secrets(
        self, which: str, request: DirectionSecret, response: DirectionSecret
    ) -> None:
        if self._keys is not None:
            self._keys(f"REQUEST_{which}", self.random, request.reveal())
            self._keys(f"RESPONSE_{which}", self.random, response.reveal())

    def _tell_keys(self, stream: _Stream) -> None:
        if self._derived is not None:
            key, iv = stream.secret.key_and_iv()
            self._derived("key", key)
            self._derived("iv", iv)

    def _updated(self, party: Party, stream: _Stream) -> _Stream:
        """The stream after the next key update."""
        _, aead = self._algorithms()
        generation = stream.generation + 1
        logged: dict[int, bytes] = {}
        if self._known is not None:
            requester = party is Party.REQUESTER
            logged = self._known.request_data if requester else self._known.response_data
        if generation in logged:
            return _Stream(self._secret(logged[generation]), aead, generation)
        return _Stream(stream.secret.updated(), aead, generation)

    # -- records --------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """There are keys for its records."""
        return self._request is not None

    def open(self, record: bytes, parties: tuple[Party, ...]) -> Opened:
        """Decrypt a record.

        Args:
            record: it, from the Session ID on.
            parties: who may have sent it, the likelier first.

        Raises:
            AuthenticationError: no key there is fits, or its layout is wrong.
        """
        if self._request is None:
            raise AuthenticationError("record", self.problem or "its keys are not known")
        if self._profile is None:
            self._profile = _profile(self._channel.transport, record)
        head = 6 + self._profile.sequence_size
        if len(record) < head + _TAG:
            raise AuthenticationError("record", f"{len(record)} bytes are no secured message")
        length = record[head - 2] | record[head - 1] << 8
        end = head + length
        if end > len(record) or length < _TAG:
            raise AuthenticationError(
                "record", f"Length {length} does not fit the {len(record)} bytes of the record"
            )
        for party in parties:
            plaintext, note = self._try(party, record, head, end)
            if plaintext is not None:
                return Opened(self._content(plaintext), party, note)
        raise AuthenticationError("record", "the tag does not match under any key there is")

    def _try(self, party: Party, record: bytes, head: int, end: int) -> tuple[bytes | None, str]:
        """Decrypt as one party's record: as the next one, after a key update, or after a gap."""
        stream = self._request if party is Party.REQUESTER else self._response
        if stream is None:
            return None, ""
        expected = stream.sequence
        start, ahead = expected, _LOOK_AHEAD
        size = head - 6
        if size:
            # The low bytes are on the wire: the next number that ends in them.
            told = int.from_bytes(record[4 : 4 + size], "little")
            start += told - start & (1 << 8 * size) - 1
            ahead = 1
        plaintext = self._under(stream, start, record, head, end)
        if plaintext is not None:
            stream.sequence = start + 1
            return plaintext, _gap(start - expected)
        updated = self._updated(party, stream) if self.established else None
        first = told if size else 0
        for gap in range(ahead):
            if updated is not None:
                plaintext = self._under(updated, first + gap, record, head, end)
                if plaintext is not None:
                    updated.sequence = first + gap + 1
                    self._switch(party, updated)
                    return plaintext, _gap(first + gap)
            plaintext = (
                self._under(stream, start + gap + 1, record, head, end) if not size else None
            )
            if plaintext is not None:
                stream.sequence = start + gap + 2
                return plaintext, _gap(gap + 1)
        return None, ""

    def _switch(self, party: Party, updated: _Stream) -> None:
        """One direction goes on under new keys."""
        if party is Party.REQUESTER:
            self._request = updated
        else:
            self._response = updated
        if self._derived is not None:
            side = "request" if party is Party.REQUESTER else "response"
            self._derived(f"{side}_data_secret_update", updated.secret.reveal())
        if self._keys is not None:
            side = "REQUEST" if party is Party.REQUESTER else "RESPONSE"
            self._keys(f"{side}_DATA_SECRET", self.random, updated.secret.reveal())
        self._tell_keys(updated)

    def _under(
        self, stream: _Stream, sequence: int, record: bytes, head: int, end: int
    ) -> bytes | None:
        if not self._encrypt:
            cut = end - _TAG
            if stream.open(sequence, record[cut:end], record[:cut]) is None:
                return None
            return record[head:cut]
        body = stream.open(sequence, record[head:end], record[:head])
        if body is None:
            return None
        length = body[0] | body[1] << 8 if len(body) >= 2 else 0xFFFF
        if 2 + length > len(body):
            raise AuthenticationError("record", "ApplicationDataLength exceeds the record")
        return body[2 : 2 + length]

    def _content(self, plaintext: bytes) -> bytes | ApplicationData:
        profile = self._profile
        if profile is None:
            return plaintext
        if profile.detect_inner:
            profile = self._profile = profile.showing(records.seen_inner(plaintext))
        return records.unwrap(profile, plaintext)

    def drop_keys(self) -> None:
        """The session is over."""
        self._request = self._response = None
        self._candidate = self._loose = None
        self.transcript = self.l1l2 = None


def _profile(transport: str, record: bytes) -> RecordProfile:
    """The record profile by what carries it, unless the record's lengths say otherwise.

    Records of an MCTP device keep their form when a proxy carries them over TCP.
    """
    profile = _PROFILES.get(transport, records.NONE)
    fits = [size for size in (0, 2) if _length_at(record, 4 + size) == len(record) - 6 - size]
    if fits and profile.sequence_size not in fits and transport != "doe":
        return records.MCTP if profile.sequence_size == 0 else records.NONE
    return profile


def _gap(records_missing: int) -> str:
    return f"{records_missing} records before it are not in the capture" if records_missing else ""


def _length_at(record: bytes, at: int) -> int:
    return int.from_bytes(record[at : at + 2], "little")

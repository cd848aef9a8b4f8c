"""Secured messages of DSP0277 1.0 to 1.3: one record in, one message out, and back.

    SessionID u32 | sequence number, low bytes, 0 or 2 | Length u16 | [ApplicationDataLength u16
    | application data | random] encrypted | tag 16

The *record profile* belongs to the far end of the session, not to the next hop: a device on MCTP
speaks MCTP records however far the bytes travelled (DSP0276), a device on TCP those of DSP0287.
Both ends count records with a 64-bit sequence number that starts at 0 with each key and never
returns to a value used: the nonce is the IV with that number exclusive-or'ed in.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from spdmkit.crypto.aead import Cipher
from spdmkit.crypto.registry import Aead
from spdmkit.errors import AuthenticationError, ProtocolViolation

__all__ = [
    "DOE",
    "MCTP",
    "NONE",
    "TCP_LIBSPDM",
    "TCP_STRICT",
    "ApplicationData",
    "Inner",
    "RecordProfile",
    "RecordReceiver",
    "RecordSender",
    "record_session_id",
]

TAG_SIZE = 16
"""MAC length of every AEAD that SPDM negotiates (DSP0287 figure 3)."""

MAX_PLAINTEXT = 0xFFFF - TAG_SIZE - 2
"""What the 16-bit Length leaves for application data and random data in an encrypted record."""

_LARGE = 0x4000
"""Bytes from which on a view is quicker than another copy."""

_SPDM_MESSAGE_TYPE = 0x05
_TCP_INNER = struct.Struct("<HBB")
_BINDING_VERSION = 1


class Inner(enum.Enum):
    """What stands in front of the SPDM message inside a record."""

    NOTHING = "nothing"
    """The SPDM message itself (DSP0287 6.5; DOE). Application data is marked by a zero byte."""
    TCP_HEADER = "tcp-header"
    """A second DSP0287 header, as the reference library writes it."""
    MCTP_TYPE = "mctp-type"
    """One MCTP message type byte (DSP0276)."""


@dataclass(frozen=True, slots=True)
class RecordProfile:
    """How records of one binding look.

    Attributes:
        name: as in endpoint URIs and reports.
        sequence_size: bytes of the sequence number on the wire, 0 or 2.
        random_max: up to this many random bytes follow the application data.
        inner: what precedes the SPDM message inside.
        detect_inner: take `inner` as a guess until the first record that decrypts shows it.
    """

    name: str
    sequence_size: int
    random_max: int
    inner: Inner
    detect_inner: bool = False

    def showing(self, inner: Inner) -> RecordProfile:
        """This profile with the inner form that the peer was seen to use."""
        return replace(self, inner=inner, detect_inner=False)


TCP_STRICT = RecordProfile("tcp", 0, 0, Inner.NOTHING, detect_inner=True)
TCP_LIBSPDM = RecordProfile("tcp", 0, 0, Inner.TCP_HEADER, detect_inner=True)
MCTP = RecordProfile("mctp", 2, 32, Inner.MCTP_TYPE)
DOE = RecordProfile("doe", 0, 0, Inner.NOTHING)
NONE = RecordProfile("none", 0, 0, Inner.NOTHING)


@dataclass(slots=True)
class ApplicationData:
    """What a record carried when it was no SPDM message.

    Attributes:
        data: the application's bytes.
        message_type: MCTP message type in MCTP records, else 0.
    """

    data: bytes
    message_type: int = 0


def record_session_id(record: bytes) -> int:
    """The Session ID of a record.

    Raises:
        ProtocolViolation: it is too short to have one.
    """
    if len(record) < 6 + TAG_SIZE:
        raise ProtocolViolation(f"a secured message of {len(record)} bytes is too short")
    return int.from_bytes(record[:4], "little")


def wrap_message(profile: RecordProfile, message: bytes) -> bytes:
    """An SPDM message as application data of a record."""
    if profile.inner is Inner.TCP_HEADER:
        return _TCP_INNER.pack(len(message) + 2, _BINDING_VERSION, _SPDM_MESSAGE_TYPE) + message
    if profile.inner is Inner.MCTP_TYPE:
        return b"\x05" + message
    return message


def wrap_application(profile: RecordProfile, data: bytes, message_type: int = 0) -> bytes:
    """Data that is not SPDM as application data of a record.

    No binding but MCTP says how to tell the two apart. Over TCP in strict form we put a zero byte
    in front, where an SPDM message has its version; the reference library takes what has no inner
    header for application data, so there it goes as it is.

    Raises:
        ProtocolViolation: the data would be taken for an SPDM message by the peer.
    """
    return application_prefix(profile, data, message_type) + data


def application_prefix(profile: RecordProfile, data: bytes, message_type: int = 0) -> bytes:
    """What `wrap_application` puts in front of the data."""
    if profile.inner is Inner.MCTP_TYPE:
        if message_type == _SPDM_MESSAGE_TYPE:
            raise ProtocolViolation("MCTP message type 5 is SPDM, not application data")
        return bytes((message_type,))
    if profile.inner is Inner.TCP_HEADER:
        if _has_tcp_header(data):
            raise ProtocolViolation("application data that looks like an inner TCP header")
        return b""
    return b"\x00"


def unwrap(profile: RecordProfile, plaintext: bytes | memoryview) -> bytes | ApplicationData:
    """The SPDM message (as bytes) or the application data that a record carried.

    Raises:
        ProtocolViolation: nothing in it.
    """
    if not plaintext:
        raise ProtocolViolation("a record without application data")
    if profile.inner is Inner.MCTP_TYPE:
        content = bytes(plaintext[1:])
        if plaintext[0] == _SPDM_MESSAGE_TYPE:
            return content
        return ApplicationData(content, plaintext[0])
    if profile.inner is Inner.TCP_HEADER:
        if _has_tcp_header(plaintext):
            return bytes(plaintext[4:])
        return ApplicationData(bytes(plaintext))
    return ApplicationData(bytes(plaintext[1:])) if plaintext[0] == 0 else bytes(plaintext)


def seen_inner(plaintext: bytes | memoryview) -> Inner:
    """Which of the two inner forms of TCP records this first plaintext shows."""
    return Inner.TCP_HEADER if _has_tcp_header(plaintext) else Inner.NOTHING


def _has_tcp_header(plaintext: bytes | memoryview) -> bool:
    if len(plaintext) < 5 or plaintext[2:4] != b"\x01\x05" or plaintext[4] >> 4 != 1:
        return False
    declared = plaintext[0] | plaintext[1] << 8
    return declared - (len(plaintext) - 4) in (0, 2)


class _Direction:
    """Key, IV and count of one direction under one key."""

    __slots__ = ("cipher", "iv", "limit", "sequence")

    def __init__(self, cipher: Cipher, iv: bytes, limit: int) -> None:
        self.cipher = cipher
        self.iv = int.from_bytes(iv, "little")
        self.sequence = 0
        # The all-ones number is never used: it would wrap (DSP0277, sequence numbers).
        self.limit = min(limit, (1 << 64) - 1)

    def nonce(self) -> bytes:
        return (self.iv ^ self.sequence).to_bytes(12, "little")


class RecordSender:
    """Seals messages into records, in order, under one key at a time.

    Attributes:
        profile: how records look; follows what the receiver of this session detects.
    """

    __slots__ = ("_aead", "_encrypt", "_random", "_session_id", "_state", "profile")

    def __init__(
        self,
        aead: Aead,
        session_id: int,
        profile: RecordProfile,
        *,
        encrypt: bool,
        random: Callable[[int], bytes],
    ) -> None:
        """Prepare for a session; `rekey` comes before the first record.

        Args:
            aead: negotiated algorithm.
            session_id: the 32-bit session id.
            profile: how records look.
            encrypt: encrypt and authenticate, or authenticate only.
            random: source of random bytes, for profiles that pad with them.
        """
        self._aead = aead
        self._session_id = session_id.to_bytes(4, "little")
        self._encrypt = encrypt
        self._random = random
        self._state: _Direction | None = None
        self.profile = profile

    def rekey(self, key: bytes, iv: bytes, limit: int = 1 << 64) -> None:
        """Seal what follows under this key, from sequence number 0; the old key is dropped."""
        self._state = _Direction(self._aead.new(key), iv, limit)

    def drop(self) -> None:
        """Forget the key; sealing is an error from now on."""
        self._state = None

    @property
    def records(self) -> int:
        """Records sealed under the current key."""
        return self._state.sequence if self._state else 0

    @property
    def room(self) -> int:
        """Records that may still be sealed under the current key (its AEAD limit)."""
        return self._state.limit - self._state.sequence if self._state else 0

    def message(self, message: bytes) -> bytes:
        """Seal an SPDM message."""
        return self.seal(wrap_message(self.profile, message))

    def application(self, data: bytes, message_type: int = 0) -> bytes:
        """Seal application data.

        Raises:
            ProtocolViolation: as `wrap_application` and `seal`.
        """
        return self._sealed(application_prefix(self.profile, data, message_type), data)

    def seal(self, plaintext: bytes) -> bytes:
        """Seal application data, its inner form included, into one record.

        Raises:
            ProtocolViolation: too long for a record, or the key's limit of records is reached.
        """
        return self._sealed(b"", plaintext)

    def _sealed(self, prefix: bytes, data: bytes) -> bytes:
        """Seal a prefix and what follows it, which may be long and is not copied to join them.

        Raises:
            ProtocolViolation: too long for a record, or the key's limit of records is reached.
        """
        state = self._state
        if state is None:
            raise ProtocolViolation("the session is over: its keys are gone")
        if state.sequence >= state.limit:
            raise ProtocolViolation("the AEAD limit of this key is reached: update keys")
        size = len(prefix) + len(data)
        if size > MAX_PLAINTEXT:
            raise ProtocolViolation(f"{size} bytes do not fit into one record")
        sequence = state.sequence.to_bytes(8, "little")[: self.profile.sequence_size]
        nonce = state.nonce()
        # Counted before use: not even a failure below may let a number come twice.
        state.sequence += 1
        if self._encrypt:
            padding = self._padding(size)
            length = 2 + size + len(padding) + TAG_SIZE
            header = self._session_id + sequence + length.to_bytes(2, "little")
            body = b"".join((size.to_bytes(2, "little"), prefix, data, padding))
            return header + state.cipher.seal(nonce, body, header)
        length = size + TAG_SIZE
        header = self._session_id + sequence + length.to_bytes(2, "little")
        aad = b"".join((header, prefix, data))
        return aad + state.cipher.seal(nonce, b"", aad)

    def _padding(self, size: int) -> bytes:
        """Random data to hide the size of what is sealed, where the profile has it."""
        if not self.profile.random_max:
            return b""
        room = min(self.profile.random_max, MAX_PLAINTEXT - size)
        count = self._random(1)[0] % (room + 1)
        return self._random(count)


class RecordReceiver:
    """Opens records in order, under one key, or two while a key update is being verified.

    Attributes:
        profile: how records look; its inner form is adopted from the first record when the
            profile asks for detection.
    """

    __slots__ = ("_aead", "_encrypt", "_next", "_session_id", "_state", "profile")

    def __init__(
        self, aead: Aead, session_id: int, profile: RecordProfile, *, encrypt: bool
    ) -> None:
        """Prepare for a session; `rekey` comes before the first record."""
        self._aead = aead
        self._session_id = session_id.to_bytes(4, "little")
        self._encrypt = encrypt
        self._state: _Direction | None = None
        self._next: _Direction | None = None
        self.profile = profile

    def rekey(self, key: bytes, iv: bytes, limit: int = 1 << 64) -> None:
        """Open what follows under this key only, from sequence number 0."""
        self._state = _Direction(self._aead.new(key), iv, limit)
        self._next = None

    def announce(self, key: bytes, iv: bytes, limit: int = 1 << 64) -> None:
        """Expect this key; the old one serves until a record proves that the peer has the new."""
        self._next = _Direction(self._aead.new(key), iv, limit)

    def drop(self) -> None:
        """Forget all keys; opening is an error from now on."""
        self._state = self._next = None

    @property
    def room(self) -> int:
        """Records that may still be opened under the current key."""
        return self._state.limit - self._state.sequence if self._state else 0

    @property
    def update_pending(self) -> bool:
        """True while an announced key has not been seen in use."""
        return self._next is not None

    def message(self, record: bytes) -> bytes | ApplicationData:
        """Open a record: the SPDM message in it (bytes), or the application data.

        Raises:
            AuthenticationError: the record is not authentic; the session must end.
            ProtocolViolation: its layout is wrong; the session must end.
        """
        plaintext = self._open(record)
        if self.profile.detect_inner:
            self.profile = self.profile.showing(seen_inner(plaintext))
        return unwrap(self.profile, plaintext)

    def open(self, record: bytes) -> bytes:
        """Open a record and return its application data, the inner form included.

        Zero bytes after the record are the transport's padding and are ignored.

        Raises:
            AuthenticationError: tag, session id or sequence number do not hold.
            ProtocolViolation: the lengths in it contradict each other.
        """
        return bytes(self._open(record))

    def _open(self, record: bytes) -> bytes | memoryview:
        """As `open`; of a large record a view, so that its content is copied only once.

        Raises:
            AuthenticationError: tag, session id or sequence number do not hold.
            ProtocolViolation: the lengths in it contradict each other.
        """
        state = self._state
        if state is None:
            raise ProtocolViolation("the session is over: its keys are gone")
        if self._next is not None:
            try:
                plaintext = self._open_under(self._next, record)
            except AuthenticationError:
                return self._open_under(state, record)
            self._state, self._next = self._next, None
            return plaintext
        return self._open_under(state, record)

    def _open_under(self, state: _Direction, record: bytes) -> bytes | memoryview:
        head = 6 + self.profile.sequence_size
        if len(record) < head + TAG_SIZE:
            raise ProtocolViolation(f"a secured message of {len(record)} bytes is too short")
        length = record[head - 2] | record[head - 1] << 8
        end = head + length
        if end > len(record) or length < TAG_SIZE:
            raise ProtocolViolation(f"Length {length} of a {len(record)} byte secured message")
        if end != len(record) and any(record[end:]):
            raise ProtocolViolation("bytes other than zero follow the secured message")
        if record[:4] != self._session_id:
            raise AuthenticationError("record", "the Session ID is not that of the session")
        if state.sequence >= state.limit:
            raise ProtocolViolation("the AEAD limit of this key is reached")
        if head > 6:
            expected = state.sequence.to_bytes(8, "little")[: head - 6]
            if record[4 : head - 2] != expected:
                raise AuthenticationError("record", "the sequence number is not the next one")
        nonce = state.nonce()
        data = memoryview(record) if end >= _LARGE else record
        plaintext: bytes | memoryview
        if self._encrypt:
            plaintext = _application_data(state.cipher.open(nonce, data[head:end], record[:head]))
        else:
            cut = end - TAG_SIZE
            state.cipher.open(nonce, data[cut:end], data[:cut])
            plaintext = data[head:cut]
        state.sequence += 1
        return plaintext


def _application_data(body: bytes) -> bytes | memoryview:
    if len(body) < 2:
        raise ProtocolViolation("no room for ApplicationDataLength in the record")
    length = body[0] | body[1] << 8
    if 2 + length > len(body):
        raise ProtocolViolation(f"ApplicationDataLength {length} exceeds the record")
    return (memoryview(body) if length >= _LARGE else body)[2 : 2 + length]

"""MCTP packets on a serial line (DSP0253 1.0), byte for byte as Linux's mctp-serial has them.

    0x7E | revision 1 | length u8 | packet, escaped | FCS high, low | 0x7E

Length counts the packet before escaping. 0x7E and 0x7D within the packet become 0x7D 0x5E and
0x7D 0x5D; revision, length and FCS are not escaped. The FCS is that of PPP without the final
inversion, over revision, length and packet.
"""

from __future__ import annotations

import binascii
from collections import Counter

__all__ = ["MAX_PACKET", "SerialDecoder", "encode", "fcs"]

FLAG, ESCAPE = 0x7E, 0x7D
REVISION = 1
MAX_PACKET = 0xFF
"""Largest packet, its MCTP header included: Length is one byte."""
_HEAD = 3
_TAIL = 3
_ESCAPED_ESCAPE = bytes((ESCAPE, ESCAPE & ~0x20))
_ESCAPED_FLAG = bytes((ESCAPE, FLAG & ~0x20))
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_FCS_START = 0xFFFF


def fcs(data: bytes) -> int:
    """The frame check sequence: CRC-16/CCITT, reflected, starting from 0xFFFF.

    Python's library has the same polynomial with the bits of each byte in the other order.
    """
    crc = binascii.crc_hqx(data.translate(_REVERSED), _FCS_START)
    return _REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]


def encode(packet: bytes) -> bytes:
    """A packet (MCTP header and payload, at most 255 bytes) as it goes over the line."""
    checked = bytes((REVISION, len(packet))) + packet
    escaped = packet.replace(b"\x7d", _ESCAPED_ESCAPE).replace(b"\x7e", _ESCAPED_FLAG)
    check = fcs(checked)
    return b"".join(
        (
            bytes((FLAG, REVISION, len(packet))),
            escaped,
            bytes((check >> 8, check & 0xFF, FLAG)),
        )
    )


class SerialDecoder:
    """Finds packets in what comes over a line; whatever is no frame is passed over and counted.

    Attributes:
        dropped: what was thrown away, counted by reason.
    """

    def __init__(self, max_packet: int = MAX_PACKET) -> None:
        """Nothing received yet; longer packets than `max_packet` are dropped."""
        self.dropped: Counter[str] = Counter()
        self._max_packet = max_packet
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole; a flag alone may be the last frame's end."""
        return len(self._buffer) if len(self._buffer) > 1 else 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take bytes; the packets that are whole now."""
        buffer = self._buffer
        buffer += data
        packets: list[bytes] = []
        position = 0
        while True:
            flag = buffer.find(FLAG, position)
            if flag < 0:
                if len(buffer) > position:
                    self.dropped["noise"] += 1
                position = len(buffer)
                break
            if flag > position:
                self.dropped["noise"] += 1
            position = flag
            if len(buffer) > position + 1 and buffer[position + 1] == FLAG:
                # One frame's end next to the next one's beginning.
                position += 1
                continue
            taken = self._frame(position, packets)
            if taken == 0:
                break
            position += taken
        del buffer[:position]
        return packets

    def _frame(self, at: int, packets: list[bytes]) -> int:
        """Take the frame that begins here; the bytes used up, 0 while it is not whole."""
        buffer = self._buffer
        if len(buffer) < at + _HEAD:
            if len(buffer) > at + 1 and buffer[at + 1] != REVISION:
                return self._reject("revision")
            return 0
        if buffer[at + 1] != REVISION:
            return self._reject("revision")
        length = buffer[at + 2]
        if not 0 < length <= self._max_packet:
            return self._reject("length")
        start = at + _HEAD
        end = start + length
        while True:
            # Each escape makes the packet one byte longer on the line.
            longer = start + length + buffer.count(ESCAPE, start, end)
            if longer > start + 2 * length:
                return self._reject("escapes")
            if longer == end:
                break
            end = longer
        if buffer.find(FLAG, start, min(end, len(buffer))) >= 0:
            return self._reject("cut off")
        if len(buffer) < end + _TAIL:
            return 0
        packet = _unescape(bytes(buffer[start:end]))
        if buffer[end + 2] != FLAG or len(packet) != length:
            return self._reject("end")
        check = buffer[end] << 8 | buffer[end + 1]
        if check != fcs(bytes((REVISION, length)) + packet):
            return self._reject("check sequence")
        packets.append(packet)
        # The flag stays: it may open the next frame as well.
        return end + _TAIL - 1 - at

    def _reject(self, reason: str) -> int:
        """What followed the flag is no frame: look for the next one after it."""
        self.dropped[reason] += 1
        return 1


def _unescape(data: bytes) -> bytes:
    if ESCAPE not in data:
        return data
    return data.replace(_ESCAPED_FLAG, b"\x7e").replace(_ESCAPED_ESCAPE, b"\x7d")

"""DSP0253: frames as Linux's mctp-serial makes them, found in whatever comes over the line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spdmkit.transports.mctp.serial import SerialDecoder, encode, fcs

PACKETS = st.binary(min_size=1, max_size=255)
HARD = st.lists(st.sampled_from([0x7E, 0x7D, 0x5E, 0x5D, 0x01, 0x00]), min_size=1, max_size=255)


def test_by_hand() -> None:
    """The check value of CRC-16/MCRF4XX, and a frame with both escapes."""
    assert fcs(b"123456789") == 0x6F91
    packet = bytes.fromhex("010908c7 057e7d")
    frame = encode(packet)
    check = fcs(b"\x01\x07" + packet)
    assert frame == bytes.fromhex("7e0107 010908c705 7d5e 7d5d") + check.to_bytes(2, "big") + b"~"
    assert SerialDecoder().feed(frame) == [packet]


@given(st.lists(PACKETS | HARD.map(bytes), max_size=5), st.integers(1, 40))
def test_there_and_back_cut_anywhere(packets: list[bytes], size: int) -> None:
    line = b"".join(map(encode, packets))
    decoder = SerialDecoder()
    found = [
        packet for at in range(0, len(line), size) for packet in decoder.feed(line[at : at + size])
    ]
    assert found == packets
    assert not decoder.dropped
    assert decoder.pending == 0


@given(PACKETS, PACKETS)
def test_one_flag_between_two_frames(one: bytes, other: bytes) -> None:
    assert SerialDecoder().feed(encode(one) + encode(other)[1:]) == [one, other]


@given(st.binary(max_size=300), PACKETS)
def test_noise_before_a_frame(noise: bytes, packet: bytes) -> None:
    """A few frames later at most the line is in step again, whatever came before."""
    decoder = SerialDecoder()
    decoder.feed(noise)
    found = [each for _ in range(12) for each in decoder.feed(encode(packet))]
    assert found[-1:] == [packet]


@given(st.lists(st.binary(max_size=600), max_size=20))
def test_garbage_is_bounded(chunks: list[bytes]) -> None:
    decoder = SerialDecoder()
    for chunk in chunks:
        for packet in decoder.feed(chunk):
            assert 1 <= len(packet) <= 255
        assert decoder.pending <= 3 + 2 * 255 + 3


def test_escapes_without_end_are_bounded() -> None:
    decoder = SerialDecoder()
    decoder.feed(b"\x7e\x01\xff" + b"\x7d" * 100_000)
    assert decoder.pending == 0
    assert decoder.dropped["escapes"] == 1


@given(PACKETS, st.data())
def test_a_flipped_bit(packet: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode(packet))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= 1 << data.draw(st.integers(0, 7))
    # A 16-bit check finds every single bit; escapes and lengths may only lose the frame.
    assert all(found == packet for found in SerialDecoder().feed(bytes(frame)))


def test_what_is_rejected_is_counted() -> None:
    decoder = SerialDecoder(max_packet=68)
    decoder.feed(b"\x7e\x02")
    decoder.feed(encode(bytes(69)))
    broken = bytearray(encode(b"\x01\x09\x08\xc0\x05"))
    broken[-2] ^= 1
    decoder.feed(bytes(broken))
    decoder.feed(encode(bytes(30))[:20] + encode(bytes(30)))
    counts = decoder.dropped
    assert (counts["check sequence"], counts["cut off"]) == (1, 1)
    assert counts["length"] == 1
    assert counts["revision"] >= 1

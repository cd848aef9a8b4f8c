"""Seeing what goes over the wire: captures, key logs, decoding, Wireshark.

    sources     `open_recording`: pcap, pcapng, recorded conversations, hex
    decode      `Decoder`: the events of a recording, decrypted and verified, and a summary
    events      what an event tells
    text        events and summaries as lines for people
    explain     what a code, name, field or message means
    writer      `CaptureWriter`: conversations as packets that any tool reads
    keylog      `KeyLog`: the file that SPDMKEYLOGFILE names
    secretfiles `load_secrets`: key logs, debug logs, single secrets
    wireshark   the dissector, generated from the declarations of the messages

Nothing is imported here, so that a command which only writes a capture loads no more than that.
"""

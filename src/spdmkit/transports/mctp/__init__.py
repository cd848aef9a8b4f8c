"""MCTP: packets and their reassembly, the control protocol, serial lines, Linux sockets.

    packets.py      DSP0236 packets; messages in pieces and whole again
    control.py      DSP0236 control messages that an endpoint and a bus owner need
    station.py      one endpoint: tags, requests and answers, retries, control answers
    serial.py       DSP0253 framing of packets on a serial line
    framing.py      the face that the drivers know, over the two
    tty.py          ttys and pseudo terminals
    kernel.py       AF_MCTP sockets of Linux

All but the last two do no I/O.
"""

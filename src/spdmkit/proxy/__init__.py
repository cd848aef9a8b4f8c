"""The BMC's proxy: SPDM over TCP on one side, a device on MCTP on the other, and no keys.

configuration.py   what to carry, from a TOML file or the command line
leases.py          who has a device, who waits for it, and for how long
carriage.py        one lease: frames of a client to its device and back, exactly once
client.py          the side of the verifier
line.py            the side of the device
device.py          one device: its listeners, its queue, its calls to verifiers
discovery.py       which endpoints announce SPDM
figures.py         what was carried, as metrics
journal.py         what happened, as lines of JSON
service.py         all devices of one process

It carries frames and answers nothing for a device: see docs/explanation/proxy.md.
"""

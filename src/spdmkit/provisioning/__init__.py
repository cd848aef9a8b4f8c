"""Putting certificates into devices: the authority that issues them, and the way into a slot.

`authority` is a certificate authority in a folder, `profile` its `ca.toml` with who may be issued
what, and `ledger` what it issued: no serial number twice. `install` is the way into a device:
GET_CSR, issue, SET_CERTIFICATE, read back, CHALLENGE (DSP0274 10.26).
"""

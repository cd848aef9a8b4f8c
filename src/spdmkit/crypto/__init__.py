"""Algorithms, keys, signatures, key exchange, records' ciphers and the key schedule.

Nothing is imported here, so that naming an algorithm (`spdmkit.crypto.registry`) does not load the
library that implements it. With `spdmkit.identity` this is the only place that touches pyca.

- `registry`: every algorithm DSP0274 numbers, with sizes and whether it can be used here
- `hashes`: running hashes, HMAC, HKDF
- `keys`, `signing`: asymmetric keys, and SPDMsign / SPDMsignatureVerify
- `exchange`: DHE and KEM
- `aead`: sealing and opening records
- `keyschedule`: clause 12 of DSP0274
"""

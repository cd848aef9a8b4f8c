"""Results for machines, for relying parties, for devices, and for people.

- `json_result`: our JSON, and the plain data that terminals show
- `ear`: EAT attestation result (draft-ietf-rats-ear) as JWT and CWT
- `dsp0287`: VERIFICATION_RESULTS for the device
- `html`: a report in one file
"""

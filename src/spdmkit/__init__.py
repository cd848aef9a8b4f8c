"""SPDM over TCP (DMTF DSP0287): attest, provision and debug devices."""

__version__ = "0.1.0"

"""Cases of interoperability with DMTF's spdm-emu, and what runs them (see ../interop.py)."""

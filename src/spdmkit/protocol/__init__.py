"""The protocol without I/O: records, sessions, transcripts, exchanges (DSP0274, DSP0277)."""

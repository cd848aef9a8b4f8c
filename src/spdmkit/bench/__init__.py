"""Benchmarks: our cost beside the floor of the cryptography in it, measured in the same run."""

"""Fuzzing: what bytes from a stranger may do, and what they may not.

    python -m tests.fuzz                          every target for a few seconds, from a fixed seed
    python -m tests.fuzz --seconds 600 messages   one target for longer
    python -m tests.fuzz --coverage messages      guided by coverage, where atheris is installed

`targets` lists the targets; each allows `SpdmError` and nothing else, and some check more.
"""

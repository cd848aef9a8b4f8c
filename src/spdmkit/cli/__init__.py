"""The command line `spdm`: parse, call, print.

`main` is the entry point. Commands are loaded when they are used: `spdm --help` imports neither
the protocol nor its libraries.
"""

from __future__ import annotations

from spdmkit.cli.root import main

__all__ = ["main"]

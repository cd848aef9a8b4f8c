"""Carry a file through a secure session, and make sure that it came back as it went.

    spdm device init mydevice
    spdm device serve mydevice --listen tcp://127.0.0.1:4194 &
    python examples/session_client.py tcp://127.0.0.1:4194 mydevice/trust-anchor.pem FILE

The software device echoes what it gets. A device of yours would do something with it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spdmkit.errors import SpdmError
from spdmkit.sessions import Terms, blocking

PIECE = 16_384
"""Bytes a record; a record takes 65,000 at most."""


def carry(session: blocking.Session, data: bytes) -> bytes:
    """Send all of it, piece by piece, and collect what comes back."""
    answers = [session.request(data[start : start + PIECE]) for start in range(0, len(data), PIECE)]
    return b"".join(answers)


def main() -> int:
    """Open a session, carry the file, say how it went."""
    parser = argparse.ArgumentParser(description="Carry a file through a secure session.")
    parser.add_argument("uri")
    parser.add_argument("trust_anchor")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    data = given.file.read_bytes()
    try:
        with blocking.open_session(given.uri, Terms.trusting(given.trust_anchor)) as session:
            same = carry(session, data) == data
            session.update_keys()
            same = same and session.request(b"once more, under new keys") != b""
    except SpdmError as error:
        print(f"{error} {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"{len(data)} bytes, {'as they went' if same else 'changed'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

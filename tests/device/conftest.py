"""What several tests of devices need."""

from __future__ import annotations

import pytest

from spdmkit.crypto.keys import PrivateKey
from spdmkit.identity import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Who issues certificates for devices."""
    return Authority.root("CN=Provisioner", PrivateKey.from_seed("ecdsa-p256", b"ca"))

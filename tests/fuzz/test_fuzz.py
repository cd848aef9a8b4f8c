"""A minute of fuzzing from a fixed seed, and inputs that once did what no input may do."""

from __future__ import annotations

import random

import pytest

from spdmkit.attestation.evidence import Evidence
from spdmkit.attestation.reference.loader import read_references
from spdmkit.attestation.reference.signers import SignerCheck
from spdmkit.errors import SpdmError
from tests.fuzz.__main__ import Found, campaign, feed
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Target

SECONDS = 2.0


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_what_it_may_not(name: str) -> None:
    assert campaign(TARGETS[name], SECONDS, seed=20_260_101) > len(TARGETS[name].seeds())


def test_an_exception_that_is_not_allowed_is_found() -> None:
    def fragile(data: bytes) -> None:
        if len(data) > 3:
            raise IndexError("beyond")

    with pytest.raises(Found, match="IndexError: beyond") as caught:
        campaign(Target(fragile, lambda: [b"abc"]), 5, seed=1)
    assert len(caught.value.data) > 3
    feed(Target(fragile, list, (IndexError,)), b"abcd")


def test_mutations_repeat_from_their_seed() -> None:
    def some() -> list[bytes]:
        rng = random.Random(7)
        return [mutate(b"hello world", [b"other"], rng) for _ in range(50)]

    assert some() == some()
    assert len(set(some())) > 30


@pytest.mark.parametrize("data", [b'{"a": "\xae"}', b'{"spdm_reference": 1, "id": "\xfe"}'])
def test_text_that_is_not_utf_8(data: bytes) -> None:
    with pytest.raises(SpdmError):
        Evidence.from_json(data)
    with pytest.raises(SpdmError):
        read_references(data, SignerCheck(None, 0))

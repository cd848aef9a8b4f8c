"""Certificates, anchors, claims, issuing."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.helpers")  # its assertions hold under python -O too

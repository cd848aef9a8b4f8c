"""Captures, key logs, and conversations read from them."""

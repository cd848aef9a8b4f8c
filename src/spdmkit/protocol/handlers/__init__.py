"""Requests answered: one handler each, for the responder and for encapsulated requests."""

"""The responder: its end of a connection, chunks, its own encapsulated requests."""

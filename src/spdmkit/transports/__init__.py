"""Transports: bytes between sockets and endpoints. The only room that does I/O."""

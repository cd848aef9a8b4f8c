"""AF_MCTP sockets of Linux: the kernel does packets, tags and routes; we give it whole messages.

CPython knows no MCTP addresses, so that the system calls are made through ctypes. The message type
is part of the address, not of the data.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import time
from collections import deque
from typing import Protocol

from spdmkit.errors import TransportError
from spdmkit.transports.mctp import control
from spdmkit.transports.uri import ANY_EID, MctpAddress

__all__ = ["AF_MCTP", "KernelRequester", "KernelResponder", "SocketAddress", "SystemCalls"]

AF_MCTP = 45
TAG_OWNER = 0x08
TAG_PREALLOCATED = 0x10
SIOCMCTPALLOCTAG = 0x89E0
SIOCMCTPDROPTAG = 0x89E1
SIOCMCTPALLOCTAG2 = 0x89E2
SIOCMCTPDROPTAG2 = 0x89E3
"""The second pair came later, and takes a network as well."""
LARGEST = 0x1_0000
TAG_REST = 6.0
"""Seconds that the tag of a repeated request is kept, so that no late answer meets another."""
_ADDRESS = struct.Struct("=HHIBBBB")
_TAG_CONTROL = struct.Struct("=BBH")
_TAG_CONTROL2 = struct.Struct("=IBBHB3x")
_UNKNOWN_REQUEST = (errno.ENOTTY, errno.EINVAL, 515)
"""What a kernel says to an ioctl that it does not know; the last is ENOIOCTLCMD, let through."""

_NO_MCTP = "this kernel has no MCTP sockets"
_HINT = "it needs CONFIG_MCTP; without it use mctp+serial:// or emu+mctp://"


class SocketAddress:
    """struct sockaddr_mctp.

    Attributes:
        network, eid: the endpoint.
        type: the message type.
        tag: the tag, with TAG_OWNER and TAG_PREALLOCATED.
    """

    __slots__ = ("eid", "network", "tag", "type")

    def __init__(self, network: int, eid: int, message_type: int, tag: int) -> None:
        self.network = network
        self.eid = eid
        self.type = message_type
        self.tag = tag

    def pack(self) -> bytes:
        """As the kernel takes it."""
        return _ADDRESS.pack(AF_MCTP, 0, self.network, self.eid, self.type, self.tag, 0)

    @classmethod
    def unpack(cls, data: bytes) -> SocketAddress:
        """As the kernel gives it."""
        _family, _pad, network, eid, message_type, tag, _pad2 = _ADDRESS.unpack(data)
        return cls(network, eid, message_type, tag)


class Calls(Protocol):
    """The system calls made on MCTP sockets."""

    def socket(self) -> int:
        """A non-blocking socket's descriptor; raises OSError."""
        ...

    def bind(self, descriptor: int, address: SocketAddress) -> None:
        """Receive requests for an address; raises OSError."""
        ...

    def send(self, descriptor: int, data: bytes, address: SocketAddress) -> None:
        """Send one message; raises OSError."""
        ...

    def receive(self, descriptor: int) -> tuple[bytes, SocketAddress]:
        """Take one message; raises OSError."""
        ...

    def allocate_tag(self, descriptor: int, network: int, eid: int) -> int:
        """A tag for requests to an endpoint, with its flags; raises OSError."""
        ...

    def drop_tag(self, descriptor: int, network: int, eid: int, tag: int) -> None:
        """Give a tag back; raises OSError."""
        ...

    def close(self, descriptor: int) -> None:
        """Close."""
        ...


class SystemCalls:
    """The real ones."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._older = False

    def socket(self) -> int:
        """A non-blocking socket's descriptor."""
        sock = socket.socket(AF_MCTP, socket.SOCK_DGRAM, 0)
        sock.setblocking(False)
        return sock.detach()

    def bind(self, descriptor: int, address: SocketAddress) -> None:
        """Call bind."""
        packed = address.pack()
        self._checked(self._libc.bind(descriptor, packed, len(packed)))

    def send(self, descriptor: int, data: bytes, address: SocketAddress) -> None:
        """Call sendto."""
        packed = address.pack()
        size = ctypes.c_size_t(len(data))
        self._checked(self._libc.sendto(descriptor, data, size, 0, packed, len(packed)))

    def receive(self, descriptor: int) -> tuple[bytes, SocketAddress]:
        """Call recvfrom."""
        buffer = ctypes.create_string_buffer(LARGEST)
        address = ctypes.create_string_buffer(_ADDRESS.size)
        length = ctypes.c_uint32(_ADDRESS.size)
        size = self._checked(
            self._libc.recvfrom(
                descriptor, buffer, ctypes.c_size_t(LARGEST), 0, address, ctypes.byref(length)
            )
        )
        return buffer.raw[:size], SocketAddress.unpack(address.raw)

    def allocate_tag(self, descriptor: int, network: int, eid: int) -> int:
        """SIOCMCTPALLOCTAG2, or on older kernels SIOCMCTPALLOCTAG, which has no network."""
        try:
            return self._tag2(descriptor, SIOCMCTPALLOCTAG2, network, eid, 0)
        except OSError as error:
            if error.errno not in _UNKNOWN_REQUEST:
                raise
        self._older = True
        return self._tag(descriptor, SIOCMCTPALLOCTAG, eid, 0)

    def drop_tag(self, descriptor: int, network: int, eid: int, tag: int) -> None:
        """SIOCMCTPDROPTAG2, or on older kernels SIOCMCTPDROPTAG."""
        if self._older:
            self._tag(descriptor, SIOCMCTPDROPTAG, eid, tag)
        else:
            self._tag2(descriptor, SIOCMCTPDROPTAG2, network, eid, tag)

    def close(self, descriptor: int) -> None:
        """Call close."""
        os.close(descriptor)

    def _tag(self, descriptor: int, request: int, eid: int, tag: int) -> int:
        packed = _TAG_CONTROL.pack(eid, tag, 0)
        argument = ctypes.create_string_buffer(packed, len(packed))
        self._checked(self._libc.ioctl(descriptor, ctypes.c_ulong(request), argument))
        return int(_TAG_CONTROL.unpack(argument.raw)[1])

    def _tag2(self, descriptor: int, request: int, network: int, eid: int, tag: int) -> int:
        packed = _TAG_CONTROL2.pack(network, eid, ANY_EID, 0, tag)
        argument = ctypes.create_string_buffer(packed, len(packed))
        self._checked(self._libc.ioctl(descriptor, ctypes.c_ulong(request), argument))
        return int(_TAG_CONTROL2.unpack(argument.raw)[4])

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def _open(calls: Calls) -> int:
    try:
        return calls.socket()
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            raise TransportError(_NO_MCTP, hint=_HINT) from error
        raise TransportError(f"no MCTP socket is to be had: {error.strerror}") from error


class KernelRequester:
    """Requests to one endpoint, as a wire: a datagram is a message from its type byte on.

    The same bytes sent again before their answer go out under the same tag; anything else gets a
    tag of its own. What is no answer to the request under way is passed over.
    """

    def __init__(self, peer: MctpAddress, calls: Calls | None = None) -> None:
        """Open a socket.

        Raises:
            TransportError: the kernel has no MCTP, or lets us have no socket.
        """
        self._calls = calls or SystemCalls()
        self._peer = peer
        self._descriptor = _open(self._calls)
        self._body = b""
        self._tag: int | None = None
        self._repeated = False
        self._resting: deque[tuple[float, int]] = deque()

    def fileno(self) -> int:
        """The socket."""
        return self._descriptor

    def send(self, data: bytes | memoryview, /) -> int:
        """Send a message; all of it."""
        body = bytes(data)
        if self._tag is None or body != self._body:
            self._new_tag()
            self._body = body
        else:
            self._repeated = True
        if self._tag is None:
            raise OSError(errno.EBUSY, "no MCTP tag is free")
        address = SocketAddress(
            self._peer.network,
            self._peer.eid,
            body[0],
            self._tag & 7 | TAG_OWNER | TAG_PREALLOCATED,
        )
        self._calls.send(self._descriptor, body[1:], address)
        return len(body)

    def recv(self, size: int, /) -> bytes:  # noqa: ARG002  # a datagram comes whole
        """The answer to the request under way."""
        while True:
            data, address = self._calls.receive(self._descriptor)
            ours = (
                self._tag is not None
                and not address.tag & TAG_OWNER
                and address.tag & 7 == self._tag & 7
                and address.eid == self._peer.eid
                and bool(self._body)
                and control.answers(self._body[0], address.type)
            )
            if ours:
                # The next request is a new one even if it has the same bytes.
                self._body = b""
                return bytes((address.type,)) + data

    def close(self) -> None:
        """Close the socket; the kernel drops its tags."""
        if self._descriptor >= 0:
            self._calls.close(self._descriptor)
            self._descriptor = -1

    def _new_tag(self) -> None:
        """Take a tag before the last one goes back, so that the two differ."""
        now = time.monotonic()
        while self._resting and (self._resting[0][0] <= now or len(self._resting) > 4):
            self._drop(self._resting.popleft()[1])
        last, self._tag = self._tag, None
        self._tag = self._calls.allocate_tag(self._descriptor, self._peer.network, self._peer.eid)
        if last is None:
            return
        if self._repeated or self._body:
            self._resting.append((now + TAG_REST, last))
        else:
            self._drop(last)
        self._repeated = False

    def _drop(self, tag: int) -> None:
        self._calls.drop_tag(self._descriptor, self._peer.network, self._peer.eid, tag)


class KernelResponder:
    """Requests to us, of SPDM and of secured messages, as one wire."""

    def __init__(self, local: MctpAddress, calls: Calls | None = None) -> None:
        """Bind a socket for each message type.

        Raises:
            TransportError: the kernel has no MCTP, or the types are taken or not allowed to us.
        """
        self._calls = calls or SystemCalls()
        self._asked: SocketAddress | None = None
        self._sockets: dict[int, int] = {}
        self._epoll = select.epoll()
        try:
            for message_type in (control.SPDM, control.SECURED):
                descriptor = self._sockets[message_type] = _open(self._calls)
                address = SocketAddress(local.network, local.eid, message_type, TAG_OWNER)
                self._calls.bind(descriptor, address)
                self._epoll.register(descriptor, select.EPOLLIN)
        except OSError as error:
            self.close()
            raise TransportError(
                f"cannot listen for MCTP message type {message_type}: {error.strerror}",
                hint="one program at a time; binding needs CAP_NET_BIND_SERVICE",
            ) from error
        except TransportError:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when either socket is."""
        return self._epoll.fileno()

    def recv(self, size: int, /) -> bytes:  # noqa: ARG002  # a datagram comes whole
        """A request from its type byte on; that of a second requester waits for nobody."""
        for descriptor in self._sockets.values():
            try:
                data, address = self._calls.receive(descriptor)
            except BlockingIOError:
                continue
            if not address.tag & TAG_OWNER:
                continue
            if self._asked is not None and self._asked.eid != address.eid:
                continue
            self._asked = address
            return bytes((address.type,)) + data
        raise BlockingIOError(errno.EAGAIN, "nothing came")

    def send(self, data: bytes | memoryview, /) -> int:
        """Answer the request that came."""
        body = bytes(data)
        asked, self._asked = self._asked, None
        if asked is None:
            raise OSError(errno.EDESTADDRREQ, "no request waits for this answer")
        address = SocketAddress(asked.network, asked.eid, body[0], asked.tag & 7)
        self._calls.send(self._sockets[asked.type], body[1:], address)
        return len(body)

    def close(self) -> None:
        """Close both sockets."""
        for descriptor in self._sockets.values():
            self._calls.close(descriptor)
        self._sockets.clear()
        if not self._epoll.closed:
            self._epoll.close()

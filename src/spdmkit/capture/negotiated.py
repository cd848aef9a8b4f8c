"""What two endpoints have agreed on, as a listener gathers it from VERSION to ALGORITHMS."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, fields, replace

from spdmkit.errors import SpdmError
from spdmkit.messages import (
    V13,
    VERSIONS,
    Algorithms,
    Capabilities,
    Context,
    GetCapabilities,
    Message,
    NegotiateAlgorithms,
    RequesterFlags,
    ResponderFlags,
)
from spdmkit.protocol.algorithms import Selection, read_choice

__all__ = ["Negotiation", "answering"]


_VALUES = operator.attrgetter(*(each.name for each in fields(Context)))


def answering(
    context: Context, request: Message | None, *, requester_side: bool = False
) -> Context:
    """The context for the answer to a request: a copy, and quicker than `dataclasses.replace`."""
    copy = Context(*_VALUES(context))
    copy.request = request
    copy.requester_side = requester_side
    return copy


@dataclass(slots=True)
class Negotiation:
    """One connection's negotiation, as far as it was seen.

    A context that was handed out is never changed; each change makes a new one.

    Attributes:
        context: version and sizes for the codec.
        selection: the algorithms; None until ALGORITHMS was seen (or they were told).
        problem: why the selection cannot be used, for example a reserved bit.
        requester_flags: Flags of GET_CAPABILITIES.
        responder_flags: Flags of CAPABILITIES.
        version_known: a message after VERSION has shown the version.
    """

    context: Context = field(default_factory=Context)
    selection: Selection | None = None
    problem: str = ""
    requester_flags: int = 0
    responder_flags: int = 0
    version_known: bool = False
    _versions: bytes = b""
    _capabilities: bytes = b""
    _algorithms: bytes = b""

    @property
    def vca(self) -> bytes | None:
        """GET_VERSION to ALGORITHMS as exchanged; None when not all of it was seen."""
        if self._versions and self._capabilities and self._algorithms:
            return self._versions + self._capabilities + self._algorithms
        return None

    @property
    def psk_vca(self) -> bytes | None:
        """The same for a session by PSK, where the two later pairs may have been provisioned."""
        if self._versions and not self._capabilities and not self._algorithms:
            return self._versions
        return self.vca

    @property
    def encrypts(self) -> bool:
        """Records are encrypted, and not only authenticated (DSP0277 7.1.1)."""
        if not self._capabilities:
            return True
        return bool(self.requester_flags & self.responder_flags & RequesterFlags.ENCRYPT_CAP)

    @property
    def psk_context(self) -> bool:
        """The Responder gives a context, so that PSK_FINISH follows PSK_EXCHANGE_RSP."""
        psk = self.responder_flags & ResponderFlags.PSK_CAP_MASK
        return not self._capabilities or psk == ResponderFlags.PSK_CAP_CONTEXT

    def note_version(self, version: int) -> None:
        """The version byte of a message: the first after VERSION decides (DSP0274 10.2)."""
        if not self.version_known and version in VERSIONS:
            self.version_known = True
            if version != self.context.version:
                self.context = replace(self.context, version=version)

    def begin(self, request: bytes, response: bytes) -> None:
        """GET_VERSION was answered: everything before is void (DSP0274 10.2)."""
        self.context = Context()
        self.selection = None
        self.problem = ""
        self.requester_flags = self.responder_flags = 0
        self.version_known = False
        self._versions = request + response
        self._capabilities = self._algorithms = b""

    def announced(
        self,
        request: Message | None,
        request_raw: bytes,
        response: Capabilities,
        response_raw: bytes,
    ) -> None:
        """GET_CAPABILITIES was answered; of two such pairs the last counts."""
        if not isinstance(request, GetCapabilities):
            return
        self._capabilities = request_raw + response_raw
        self.requester_flags, self.responder_flags = request.flags, response.flags
        clear = RequesterFlags.HANDSHAKE_IN_THE_CLEAR_CAP
        self.context = replace(
            self.context, handshake_in_the_clear=bool(request.flags & response.flags & clear)
        )

    def selected(
        self,
        request: Message | None,
        request_raw: bytes,
        response: Algorithms,
        response_raw: bytes,
    ) -> None:
        """NEGOTIATE_ALGORITHMS was answered."""
        if not isinstance(request, NegotiateAlgorithms):
            return
        self._algorithms = request_raw + response_raw
        try:
            self.assume(Selection.of(read_choice(response, self.context.version)))
        except SpdmError as error:
            self.selection = None
            self.problem = f"ALGORITHMS: {error}"
            return
        if self.context.version < V13:
            return
        self.context = replace(
            self.context,
            multi_key_conn_rsp=_multi_key(
                self.responder_flags, negotiated=request.responder_multi_key_conn
            ),
            multi_key_conn_req=_multi_key(
                self.requester_flags, negotiated=response.requester_multi_key_conn_sel
            ),
        )

    def assume(self, selection: Selection) -> None:
        """Use these algorithms: they were seen to be selected, or told by whoever asks."""
        self.selection = selection
        self.problem = ""
        exchange_sizes = (0, 0)
        if selection.kem is not None:
            exchange_sizes = (selection.kem.encapsulation_key_size, selection.kem.ciphertext_size)
        elif selection.dhe is not None:
            exchange_sizes = (selection.dhe.exchange_size, selection.dhe.exchange_size)
        self.context = replace(
            self.context,
            hash_size=selection.base_hash.size,
            signature_size=selection.signature.signature_size if selection.signature else 0,
            req_signature_size=(
                selection.req_signature.signature_size if selection.req_signature else 0
            ),
            measurement_hash_size=(
                selection.measurement_hash.size if selection.measurement_hash else 0
            ),
            exchange_request_size=exchange_sizes[0],
            exchange_response_size=exchange_sizes[1],
            opaque_format=selection.opaque_format,
        )


def _multi_key(flags: int, *, negotiated: bool) -> bool:
    """MULTI_KEY_CONN of a side: always, never, or as negotiated (DSP0274 10.4)."""
    capability = flags & RequesterFlags.MULTI_KEY_CAP_MASK
    if capability == RequesterFlags.MULTI_KEY_CAP_NEG:
        return negotiated
    return capability == RequesterFlags.MULTI_KEY_CAP_ONLY

"""TLS under the HTTP server, with what the event loop's own TLS cannot: a side that says it is done (close_notify) may still be answered.

`docker run -i` and `docker exec -i` end their input that way and go on reading (RFC 8446, 6.1: close_notify closes one direction).
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

HANDSHAKE_S = 10.0
"""How long a client may take until its certificate is known."""
READ_BYTES = 1 << 18


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """A protocol of the plain connection, and the transport of the protocol above it, which is made when the handshake is done."""

    def __init__(self, context: ssl.SSLContext, make: Callable[[], asyncio.BaseProtocol]) -> None:
        super().__init__()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._make = make
        self._above: asyncio.Protocol | None = None
        self._raw: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self._closing = self._said_done = self._heard_done = False

    # What comes from the plain connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self._raw.abort)

    def data_received(self, data: bytes) -> None:
        self._in.write(data)
        try:
            if self._above is None:
                self._tls.do_handshake()
                self._timer.cancel()
                self._above = cast(asyncio.Protocol, self._make())
                self._above.connection_made(self)
            self._read()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            # The alert that says why goes out first.
            self._flush()
            self._closing = True
            self._raw.close()
            return
        self._flush()

    def _read(self) -> None:
        """Raises SSLWantReadError when there is no more."""
        assert self._above is not None
        while not self._closing and not self._heard_done:
            try:
                data = self._tls.read(READ_BYTES)
            except ssl.SSLZeroReturnError:
                data = b""
            if data:
                self._above.data_received(data)
                continue
            self._heard_done = True
            if not self._above.eof_received():
                self.close()

    def eof_received(self) -> bool:
        """Without a close_notify before it, this is a connection that was cut."""
        return self._heard_done and not self._closing

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._closing = True
        if self._above is not None:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._above is not None:
            self._above.resume_writing()

    def _flush(self) -> None:
        if self._out.pending and not self._raw.is_closing():
            self._raw.write(self._out.read())

    # What the protocol above asks for.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peercert_der`: the client's certificate, which the authority's signature was found good on."""
        if name == "peercert_der":
            return self._tls.getpeercert(binary_form=True)
        if name == "ssl_object":
            return self._tls
        if name == "sslcontext":
            return self._tls.context
        return self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._above = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._above is not None
        return self._above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._said_done:
            return
        left = memoryview(data).cast("B")
        try:
            while left:
                left = left[self._tls.write(left) :]
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Says close_notify. What the client sends is read on."""
        if self._said_done or self._closing:
            return
        self._said_done = True
        # It says what it has to, and would wait for the answer or stumble over what comes instead: neither matters here.
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def close(self) -> None:
        if not self._closing:
            self.write_eof()
            self._closing = True
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

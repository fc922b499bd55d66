"""HTTP connections: a head that does not come or end, or an answer that is not taken, closes one."""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hybridhash_jax.retrieval.service.problems import body_of

_SECONDS = 10.0
_HEAD_BYTES = 65_536
_STALLED_SECONDS = 60.0


class Protocol(HttpToolsProtocol):
    """uvicorn's, with limits for the head of a request and for who takes no answer.

    Its errors are problem+json.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore
        """A request is to follow soon."""
        super().connection_made(transport)
        self._stalled: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._limit.cancel()
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; too many before its body end the connection."""
        self._head_bytes += len(data)  # before they are read, see `on_message_complete`
        super().data_received(data)
        if self._in_head and self._head_bytes > _HEAD_BYTES:
            self._refuse(431, f"the head of the request is larger than {_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._limit.cancel()
        self._begin_head()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._limit.cancel()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It has ended, and bytes that came together with its last one are not of the next head alone."""
        self._head_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes no more of an answer for now; its file stays open as long."""
        super().pause_writing()
        self._stalled = self.loop.call_later(_STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes some again."""
        self._end_stall()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        self._refuse(400, "this is no valid HTTP request")

    def _begin_head(self) -> None:
        self._in_head = True
        seconds = f"the head of the request did not arrive within {_SECONDS:g} s"
        self._limit = self.loop.call_later(_SECONDS, self._refuse, 408, seconds)

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def _refuse(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        # While another answer is on its way nothing may come between.
        if self.cycle is None or self.cycle.response_complete:
            body = body_of(status, detail)
            head = (
                b"content-type: application/problem+json\r\nx-content-type-options: nosniff\r\n"
                b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

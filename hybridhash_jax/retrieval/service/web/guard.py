"""What every request goes through: headers, time, and a body that is not taken."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.problems import Problem, busy, response

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_DRAIN_SECONDS, _DRAIN_BYTES, _DRAIN_PAUSE = 1.0, 16_000_000, 0.02


class Guard:
    """The layer around all others but that of other origins."""

    def __init__(self, app: ASGIApp, metrics: Metrics, seconds: float, *, same_origin: bool):
        """`seconds` are a request's; `same_origin` says that other pages may show nothing of it."""
        self._app, self._metrics, self._seconds = app, metrics, seconds
        own = _HEADERS | ({"cross-origin-resource-policy": "same-origin"} if same_origin else {})
        self._headers = [(name.encode(), value.encode()) for name, value in own.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._headers)
        started = time.perf_counter()
        try:
            await self._answered(scope, exchange)
        except ClientDisconnect:
            pass  # nobody is there to be told
        finally:
            self._note(scope, exchange.status, time.perf_counter() - started)

    async def _answered(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                exchange.limit = limit
                await self._app(scope, exchange.receive, exchange.send)
                return
        except TimeoutError:
            if exchange.status:
                raise
            problem = self._late(exchange)
        except Problem as error:  # of a layer outside of the framework's handlers
            problem = error
        except ClientDisconnect:
            raise
        except Exception:
            if exchange.status:
                raise
            logging.getLogger(__name__).exception("a request failed")
            problem = Problem(500, "the service has failed at this request; its log says how")
        exchange.limit = None  # it has ended
        await response(problem)(scope, exchange.receive, exchange.send)

    def _late(self, exchange: "_Exchange") -> Problem:
        if exchange.body_is_open:
            return Problem(408, f"the request did not arrive within {self._seconds:g} s")
        return busy(f"no answer within {self._seconds:g} s; try again later")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # Names of routes, not paths: a client could invent any number of those.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


class _Exchange:
    """One request and its answer.

    A body that was not read to its end is let run out for a moment after the answer, and then the
    connection is closed: closed at once, a client that still sends would not see the answer.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, headers: Sequence[tuple[bytes, bytes]]
    ):
        names = {name: value for name, value in scope["headers"]}
        length = names.get(b"content-length", b"0")
        self.body_is_open = b"transfer-encoding" in names or length.strip(b"0") != b""
        self.status = 0
        self.limit: asyncio.Timeout | None = None
        self._receive, self._send, self._headers = receive, send, headers

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.body_is_open = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            closing = [(b"connection", b"close")] if self.body_is_open else []
            headers = [*message.get("headers", []), *self._headers, *closing]
            await self._send({**message, "headers": headers})
            if self.limit is not None:  # what is large takes as long as the client needs
                self.limit.reschedule(None)
        elif message.get("more_body", False) or not self.body_is_open:
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body"})

    async def _drain(self) -> None:
        count = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self.body_is_open:
                    count += len((await self.receive()).get("body", b""))
                    if count > _DRAIN_BYTES:  # slowly: who still sends has an answer to read
                        await asyncio.sleep(_DRAIN_PAUSE)

"""Limits of time and size that hold by themselves: of threads, connections and uploads."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.problems import Problem
from hybridhash_jax.retrieval.service.web.protocol import Protocol
from hybridhash_jax.retrieval.service.work.pool import Pool
from tests.input_pipeline.images.costly_test import with_scans
from tests.input_pipeline.images.photographs import encoded, photograph
from tests.retrieval.search.pictured import make_index
from tests.retrieval.service.refusals_test import TOKEN, detail_of, in_loop, until
from tests.retrieval.service.served import HeldEncoder, client_of, files

ORIGIN = "https://a.example"


def test_a_jpeg_of_endless_scans_is_refused(tmp_path):
    image = with_scans(encoded(photograph(101, 77), progressive=True), 10_000)
    with client_of(make_index(tmp_path)) as client:
        response = client.post("/v1/search", files=files(image))
        assert "more than 100 scans" in detail_of(response, 422)


@pytest.mark.parametrize("charset", ["undefined", "punycode"])
def test_a_charset_that_cannot_be_read_is_refused(tmp_path, caplog, charset):
    form = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    body = b'--x\r\ncontent-disposition: form-data; name="row[]"\r\n\r\n\\u0100\r\n--x--\r\n'
    with client_of(make_index(tmp_path)) as client:
        response = client.post("/v1/search", content=body, headers=form)
        assert "cannot be read" in detail_of(response, 400)
    assert not caplog.records


def test_other_origins_may_read_refusals(tmp_path):
    index, asking = make_index(tmp_path), {"origin": ORIGIN}
    with client_of(index, origins=(ORIGIN,), token=TOKEN) as client:
        refused = client.get("/v1/index", headers=asking)
        detail_of(refused, 401)
        assert refused.headers["access-control-allow-origin"] == ORIGIN
    encoder = HeldEncoder()

    async def work(client):
        response = await client.post("/v1/search", files=files(b"GIF89a"), headers=asking)
        assert response.headers["access-control-allow-origin"] == ORIGIN
        image = files(encoded(photograph(8, 8)))
        late = await client.post("/v1/search", files=image, headers=asking)
        assert "no answer within 0.2 s" in detail_of(late, 503)
        assert late.headers["access-control-allow-origin"] == ORIGIN
        assert "retry-after" in late.headers["access-control-expose-headers"]

    in_loop(index, encoder, work, origins=(ORIGIN,), seconds=0.2)


def test_a_pool_bounds_what_waits_and_drops_it_at_its_end():
    may_go, begun = threading.Event(), threading.Event()

    def held() -> int:
        begun.set()
        assert may_go.wait(20)
        return 1

    async def run() -> None:
        pool = Pool("files", 1, 2, Metrics())
        assert await pool.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 7, 0)
        running = asyncio.create_task(pool.run(held))
        await until(begun.is_set)
        waiting = asyncio.create_task(pool.run(held))
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="2 requests wait"):
            await pool.run(held)
        pool.close(0.0)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_go.set()
        assert await running == 1

    asyncio.run(run())


_ENDLESS = """
import asyncio, time
from hybridhash_jax.retrieval.service.metrics import Metrics
from hybridhash_jax.retrieval.service.work.pool import Pool

async def run():
    pool = Pool("decoding", 1, 9, Metrics())
    task = asyncio.create_task(pool.run(time.sleep, 600))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.to_thread(pool.close, 0.1)

asyncio.run(run())
print("ended")
"""


def test_a_thread_that_does_not_end_keeps_no_process():
    command = [sys.executable, "-c", _ENDLESS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


class Clock:
    """An event loop whose time is told it."""

    def __init__(self):
        self._loop, self._now = asyncio.get_running_loop(), 0.0
        self._calls = list[tuple[float, mock.Mock, Callable[[], None]]]()
        self.create_task = self._loop.create_task

    def call_later(self, seconds: float, call: Callable, *arguments: Any) -> mock.Mock:
        handle = mock.Mock(cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self._calls.append((self._now + seconds, handle, lambda: call(*arguments)))
        return handle

    def advance(self, seconds: float) -> None:
        self._now += seconds
        due = [one for one in self._calls if one[0] <= self._now]
        self._calls = [one for one in self._calls if one[0] > self._now]
        for _, handle, call in due:
            if not handle.cancelled:
                call()


async def echo(scope, receive, send) -> None:
    """Answers with how many bytes came."""
    count, more = 0, True
    while more:
        message = await receive()
        count, more = count + len(message.get("body", b"")), message.get("more_body", False)
    body = b"<%d>" % count
    length = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


def connected() -> tuple[Protocol, mock.Mock, Clock]:
    """A connection to `echo` and its transport."""
    config, clock = uvicorn.Config(echo, lifespan="off", log_config=None), Clock()
    config.load()
    transport = mock.Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False
    protocol = Protocol(config, ServerState(), {}, clock)  # pyright: ignore
    protocol.connection_made(transport)
    return protocol, transport, clock


def written(transport: mock.Mock) -> bytes:
    return b"".join(call.args[0] for call in transport.write.call_args_list)


NEXT = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 20, len(NEXT) - 1])
def test_the_end_of_a_body_is_not_of_the_next_head(cut):
    async def run() -> None:
        protocol, transport, _ = connected()
        protocol.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n")
        protocol.data_received(bytes(100_000) + NEXT[:cut])
        await until(lambda: b"<100000>" in written(transport))
        protocol.data_received(NEXT[cut:])
        await until(lambda: b"<0>" in written(transport))
        assert written(transport).count(b"HTTP/1.1 200") == 2
        assert not transport.close.called

    asyncio.run(run())


@pytest.mark.parametrize("chunk", [1000, 50_000, 100_000])
def test_a_head_without_an_end_is_ended(chunk):
    async def run() -> None:
        for before in (b"", NEXT):
            protocol, transport, _ = connected()
            protocol.data_received(before + b"GET / HTTP/1.1\r\n")
            for _ in range(0, 100_000, chunk):
                protocol.data_received(b"x: " + b"a" * chunk + b"\r\n")
            assert transport.close.called
            if not before:
                assert b"HTTP/1.1 431" in written(transport)

    asyncio.run(run())


def test_an_answer_that_nobody_takes_is_ended_after_a_minute():
    async def run() -> None:
        protocol, transport, clock = connected()
        for _ in range(3):  # it is taken, slowly
            protocol.pause_writing()
            clock.advance(50)
            protocol.resume_writing()
        clock.advance(100)
        assert not transport.abort.called
        protocol.pause_writing()
        clock.advance(61)
        assert transport.abort.called

    asyncio.run(run())


def test_a_connection_that_is_lost_is_not_ended_again():
    async def run() -> None:
        protocol, transport, clock = connected()
        protocol.pause_writing()
        protocol.connection_lost(None)
        clock.advance(100)
        assert not transport.abort.called

    asyncio.run(run())

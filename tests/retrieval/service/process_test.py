"""The service as a process: its end, its index while others write, and clients that mean harm."""

import asyncio
import concurrent.futures
import io
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import httpx2
import numpy as np
import pytest
from PIL import Image

from hybridhash_jax.retrieval.index import open_writer
from tests.retrieval.search.pictured import COLOURS, entry_of, make_index, picture
from tests.retrieval.service.refusals_test import png_of, truncated
from tests.retrieval.service.served import Process, files, png, rows_of

pytestmark = pytest.mark.slow
SECONDS, MEGABYTE = 1.0, 1e6


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One for all tests that leave it as it is; a request has two seconds."""
    folder = tmp_path_factory.mktemp("served")
    index = make_index(folder)
    picture(folder / "out.png", (0, 0, 255))
    (folder / "images" / "sea/2.png").unlink()
    (folder / "images" / "sea/2.png").symlink_to(folder / "out.png")
    with Process(index, "--originals", "--timeout=2") as served:
        wait_until_ready(served)
        yield served


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_until_ready(served: Process) -> None:
    with httpx2.Client(base_url=served.url) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)


def refused(served: Process) -> bool:
    """Whether a new connection is."""
    try:
        socket.create_connection(("127.0.0.1", served.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class Watch:
    """Asks for /healthz all the while, and looks at the memory."""

    def __init__(self, served: Process):
        self._served, self._ended = served, threading.Event()
        self.latencies, self.grown, self._idle = list[float](), 0.0, served.memory()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx2.Client(base_url=self._served.url) as client:
            client.get("/healthz")
            while not self._ended.wait(0.02) or len(self.latencies) < 10:
                started = time.perf_counter()
                assert client.get("/healthz").status_code == 200
                self.latencies.append(time.perf_counter() - started)
                self.grown = max(self.grown, self._served.memory() - self._idle)

    def check(self) -> None:
        """The longest tenth may be the test's own, whose clients share the processor."""
        assert np.quantile(self.latencies, 0.9) < 0.1, self.latencies
        assert self.grown < 300 * MEGABYTE


def large_png(megapixels: int) -> bytes:
    """All of it is good: as many black pixels as said, in a hundredth of a byte each."""
    side = int((megapixels * 1e6) ** 0.5)
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")  # fmt: skip


def animation(frames: int) -> bytes:
    """A GIF of so many frames of one pixel."""
    file = io.BytesIO()
    Image.new("RGB", (16, 12), (0, 0, 255)).save(file, "GIF")
    first = file.getvalue().removesuffix(b";")
    pixel = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return first + pixel * frames + b";"


HOSTILE = {
    "900 megapixels": (large_png(900), 413),
    "169 megapixels": (large_png(169), 413),
    "a header alone": (png_of(6000, 6000), 422),
    "truncated": (truncated(), 422),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\nshowpage\n", 415),
    "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "FITS": (b"SIMPLE  =                    T".ljust(2880), 415),
    "11 MB": (bytes(11_000_000), 413),
}


def test_hostile_images_are_refused_within_a_second(served):
    assert len(HOSTILE["900 megapixels"][0]) < 150_000
    with httpx2.Client(base_url=served.url) as client, Watch(served) as watch:
        for name, (image, status) in HOSTILE.items():
            started = time.perf_counter()
            response = client.post("/v1/search", files=files(image))
            assert response.status_code == status, (name, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            assert time.perf_counter() - started < SECONDS, name
    watch.check()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_largest_image_takes_no_more(served, mode):
    """Whose bytes are a thousandth of its pixels."""
    file = io.BytesIO()
    Image.new(mode, (6000, 6000)).save(file, "PNG")
    with Watch(served) as watch:
        answer = httpx2.post(f"{served.url}/v1/search", files=files(file.getvalue()), timeout=20)
        time.sleep(0.1)
    assert answer.status_code in (200, 503)  # where two seconds are not enough
    watch.check()


def test_many_hostile_images_at_once_take_no_more(served):
    images = [image for image, _ in HOSTILE.values()] * 3
    with httpx2.Client(base_url=served.url) as client, Watch(served) as watch:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            send = lambda image: client.post("/v1/search", files=files(image)).status_code  # noqa: E731
            statuses = list(pool.map(send, images))
    assert set(statuses) <= {413, 415, 422, 503}
    watch.check()


def test_of_an_animation_of_ten_thousand_frames_the_first_one_counts(served):
    image = animation(10_000)
    assert Image.open(io.BytesIO(image)).n_frames > 10_000  # pyright: ignore
    started = time.perf_counter()
    answer = httpx2.post(f"{served.url}/v1/search", files=files(image))
    assert time.perf_counter() - started < SECONDS
    assert answer.status_code == 200 and rows_of(answer.json())[0] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/v1/items/../../../etc/passwd/image",
        "/v1/items/..%2f..%2fetc%2fpasswd/image",
        "/v1/items/%2e%2e/%2e%2e/image",
        "/v1/items/0%00/image",
        "/v1/items/1/image",  # a link out of the root
        "/v1/items/1/thumbnail",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out(served, path):
    head, body = raw(served, f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    assert head.startswith((b"HTTP/1.1 404", b"HTTP/1.1 422")), head
    assert b"root:" not in body and b"problem+json" in head


def raw(served: Process, *parts: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to bytes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as one:
        for part in parts:
            one.sendall(part)
        return answered(one)


def answered(one: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data or len(data) < len(head_of(data)) + 4 + length_of(data):
        if not (more := one.recv(65536)):
            break
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def head_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[0]


def length_of(data: bytes) -> int:
    lines = head_of(data).lower().split(b"\r\n")
    return next((int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")), 0)


FORM = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'


def test_an_endless_body_is_ended(served):
    """The client goes on sending after the answer, which it must see all the same."""
    started, seen = time.perf_counter(), []
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as one:
        reading = threading.Thread(target=lambda: seen.append((answered(one), time.perf_counter())))
        one.sendall(FORM + b"transfer-encoding: chunked\r\n\r\n")
        reading.start()
        with Watch(served) as watch:
            with pytest.raises(OSError):  # the connection is closed
                for data in endless():
                    one.sendall(data)
                    assert time.perf_counter() - started < 10
        reading.join()
    (head, body), at = seen[0]
    assert head.startswith(b"HTTP/1.1 413") and b"at most 10 MB" in body
    assert at - started < SECONDS
    watch.check()


def endless() -> Iterator[bytes]:
    data = PART
    while True:
        yield b"%x\r\n%s\r\n" % (len(data), data)
        data = bytes(100_000)


def test_slow_clients_are_told_so_and_hold_nobody_up(served):
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(40)]
    for one in slow:
        one.sendall(FORM + b"content-length: 100000\r\n\r\n" + PART)
    started = time.perf_counter()
    answer = httpx2.post(f"{served.url}/v1/search", files=files(png((0, 0, 255))))
    assert answer.status_code == 200 and time.perf_counter() - started < SECONDS
    for one in slow:
        head, body = answered(one)
        assert head.startswith(b"HTTP/1.1 408") and b"within 2 s" in body
        one.close()
    assert time.perf_counter() - started < 2 + SECONDS


def test_what_is_no_http_is_refused_in_words(served):
    head, body = raw(served, b"HELLO\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"no valid HTTP" in body
    header = b"x-long: " + b"a" * 60_000 + b"\r\n"
    head, body = raw(served, b"GET / HTTP/1.1\r\n", header, header)
    assert head.startswith(b"HTTP/1.1 431") and b"problem+json" in head


def test_two_hundred_connections_at_once_are_all_answered(served):
    image = png((0, 255, 0), (640, 480))

    async def ask() -> list[tuple[int, float]]:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=served.url, limits=limits, timeout=20) as client:

            async def one() -> tuple[int, float]:
                started = time.perf_counter()
                response = await client.post("/v1/search", files=files(image))
                assert response.status_code == 200 or "retry-after" in response.headers
                return response.status_code, time.perf_counter() - started

            return await asyncio.gather(*(one() for _ in range(200)))

    with Watch(served) as watch:
        answers = asyncio.run(ask())
    assert {status for status, _ in answers} <= {200, 503}
    assert sum(status == 200 for status, _ in answers) >= 32
    watch.check()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_a_signal_lets_what_runs_finish_and_nothing_new_begin(tmp_path, number):
    with (
        Process(make_index(tmp_path), seconds=1) as served,
        httpx2.Client(base_url=served.url, timeout=20) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        wait_until_ready(served)
        image = files(png((0, 0, 255)))
        running = [pool.submit(client.post, "/v1/search", files=image) for _ in range(4)]
        # They take a second each, one after another.
        wait_until(lambda: 'hybridhash_waiting{pool="encoding"} 4.0' in client.get("/metrics").text)
        ended = pool.submit(served.stop, number)
        wait_until(lambda: refused(served))
        assert not all(one.done() for one in running), "new connections are refused before"
        assert [rows_of(one.result().json())[0] for one in running] == [0] * 4
        code, said = ended.result()
    assert code == 0 and said == "stopping: what runs is finished first\n"


def test_what_a_client_sends_wrongly_is_told_to_the_client_alone(tmp_path):
    form = {"content-type": "multipart/form-data; boundary=x"}
    tiff = io.BytesIO()
    Image.new("RGB", (16, 12)).save(tiff, "TIFF")
    cut = tiff.getvalue()[:116]  # it ends in its header, of which Pillow would warn
    three, nine = (struct.pack("<HHIHH", 277, 3, 1, samples, 0) for samples in (3, 9))
    deep = tiff.getvalue().replace(three, nine)  # and of this one its log would speak
    with Process(make_index(tmp_path)) as served, httpx2.Client(base_url=served.url) as client:
        wait_until_ready(served)
        assert client.post("/v1/search", content=b"--y\r\n", headers=form).status_code == 400
        for image in (cut, deep):
            assert client.post("/v1/search", files=files(image)).status_code == 422
        assert served.stop() == (0, "stopping: what runs is finished first\n")


def test_a_new_generation_is_served_without_a_restart(tmp_path):
    index = make_index(tmp_path)
    colour = (200, 100, 50)
    with Process(index) as served, httpx2.Client(base_url=served.url) as client:
        wait_until_ready(served)
        picture(tmp_path / "images" / "new.png", colour)
        with open_writer(index) as writer:
            writer.add([entry_of(tmp_path / "images", "new.png")], np.array([colour], np.uint8))
        wait_until(lambda: client.get("/v1/index").json()["images"] > len(COLOURS))
        answer = client.post("/v1/search", files=files(png(colour))).json()
        assert answer["found"][0]["path"] == "new.png" and answer["found"][0]["distance"] == 0


@pytest.mark.thorough
def test_memory_does_not_grow_with_requests(served):
    image = files(png((0, 255, 0), (640, 480)))
    with httpx2.Client(base_url=served.url) as client:

        def ask(count: int) -> None:
            for _ in range(count):
                assert client.post("/v1/search", files=image).status_code == 200

        ask(100)
        before = served.memory()
        ask(400)
        assert served.memory() < 1.05 * before

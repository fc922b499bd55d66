"""What cannot be answered is refused in words, always as problem+json."""

import asyncio
import base64
import dataclasses
import io
import struct
import zlib

import httpx2
import pytest
from PIL import Image

from tests.retrieval.search.pictured import FakeEncoder, make_index
from tests.retrieval.service.served import HOST, HeldEncoder, app_of, client_of, files, png

GREY = (7, 7, 7)
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("refused"))


@pytest.fixture(scope="module")
def client(index):
    with client_of(index, upload_bytes=100_000, pixels=1_000_000) as client:
        yield client


def detail_of(response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content.keys() == {"type", "title", "status", "detail"} and content["status"] == status
    assert "Traceback" not in content["detail"] and "Error" not in content["detail"]
    return content["detail"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nothing", 404, "/openapi.json"),
        ("/v1/items/../../etc/passwd", 404, "nothing at"),
        ("/v1/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd/image", 404, "nothing at"),
        ("/v1/items/..%2fetc", 404, "nothing at"),
        ("/v1/items/abc", 422, "row=abc is no whole number"),
        ("/v1/items/5", 404, "no image in row 5"),
        ("/v1/items/-1", 404, "no image in row -1"),
        ("/v1/items/99999999999999999999999", 404, "no image in row"),
        ("/v1/items/9/thumbnail", 404, "no image in row 9"),
        ("/v1/items/0/similar?k=0", 422, "k=0 is too small; give 1 or more"),
        ("/v1/items/0/similar?k=1001", 422, "give 1000 or less"),
        ("/v1/items/0/similar?offset=990&k=20", 422, "at most 1,000 images"),
        ("/v1/items/0/similar?radius=25", 422, "give 0 to 24"),
        ("/v1/items/0/similar?radius=", 422, "radius= is no whole number"),
        ("/v1/items/0/similar?colour=red", 422, "colour is no field"),
        ("/v1/items/0/similar?k=1&k=2", 422, "k is given twice; give it once"),
        ("/v1/items/0/similar?label=a&path=b&label=", 422, "label is given twice"),
        ("/v1/duplicates?radius=1&radius=2", 422, "radius is given twice"),
        ("/v1/index?x&x", 422, "x is given twice"),
        ("/v1/items/0/similar?path=" + "a" * 1001, 422, "at most 1000 letters"),
        ("/v1/duplicates", 409, "no perceptual hashes"),
        ("/v1/duplicates?radius=13", 422, "give 0 to 12"),
        ("/v1/duplicates?limit=1000", 422, "give 200 or less"),
        ("/v1/items/0/image", 404, "--originals"),
    ],
)
def test_what_is_asked_wrongly(client, path, status, words):
    assert words in detail_of(client.get(path), status)


def test_other_methods(client):
    assert "accepted: GET" in detail_of(client.delete("/v1/index"), 405)
    assert "accepted: POST" in detail_of(client.get("/v1/search"), 405)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"k": "3"}, 422, "none is given"),
        ({"row": "0", "code": "0000ff"}, 422, "row and code are given"),
        ({"row": "x"}, 422, "row=x is no whole number"),
        ({"row": "7"}, 404, "no image in row 7"),
        ({"code": "0000f"}, 422, "give 6 hexadecimal digits"),
        ({"code": "zzzzzz"}, 422, "give 6 hexadecimal digits"),
        ({"code": "0000ff00"}, 422, "give 6 hexadecimal digits"),
        ({"row": "0", "k": "many"}, 422, "k=many"),
        ({"image": "bytes as text"}, 422, "image is text; send it as a file"),
        ({"row": "0", "url": "http://example.org/a.jpg"}, 422, "url is no field"),
    ],
)
def test_forms_that_ask_nothing(client, fields, status, words):
    response = client.post("/v1/search", files={name: (None, x) for name, x in fields.items()})
    assert words in detail_of(response, status)


def test_bodies_that_are_no_such_form(client):
    post = client.post
    assert "multipart/form-data" in detail_of(post("/v1/search", content=b"{}"), 415)
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert "cannot be read" in detail_of(post("/v1/search", content=b"--y\r\n", headers=form), 400)
    no_boundary = {"content-type": "multipart/form-data"}
    assert "cannot be read" in detail_of(post("/v1/search", content=b"", headers=no_boundary), 400)
    other = {"picture": ("a.png", png(GREY))}
    assert "as the field image" in detail_of(post("/v1/search", files=other), 422)
    two = [("image", ("a.png", png(GREY)))] * 2
    assert "one file" in detail_of(post("/v1/search", files=two), 400)
    many = {f"f{n}": (None, "x") for n in range(50)}
    assert "cannot be read" in detail_of(post("/v1/search", files=many), 400)
    twice = [("row", (None, "1")), ("row", (None, "2"))]
    assert "given twice" in detail_of(post("/v1/search", files=twice), 422)


def png_of(width: int, height: int) -> bytes:
    """A file whose header is all of it that is good."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def truncated() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((400, 300), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue()[:8000]


@pytest.mark.parametrize(
    ("image", "status", "words"),
    [
        (b"", 422, "is empty"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            415,
            "no format that is read; give JPEG, PNG",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no format"),
        (b"SIMPLE  =                    T" + b" " * 2850, 415, "no format"),
        (truncated(), 422, "cannot be read"),
        (png_of(2000, 1000), 413, "2,000 x 1,000 pixels; at most 1,000,000"),
        (png_of(2**31 - 1, 2**31 - 1), 413, "pixels"),
        (png_of(1000, 1000), 422, "cannot be read"),
        (bytes(100_001), 413, "at most 0.1 MB"),
        (bytes(300_000), 413, "at most 0.1 MB"),
    ],
    ids=str,
)
def test_images_that_are_not_taken(client, image, status, words):
    assert words in detail_of(client.post("/v1/search", files=files(image)), status)


def test_a_body_of_unknown_length_is_counted(client):
    def endless():
        yield b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield bytes(10_000)

    form = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/search", content=endless(), headers=form)
    assert "at most 0.1 MB" in detail_of(response, 413)


def test_uploads_share_their_memory(index):
    with client_of(index, uploads_bytes=400) as client:
        response = client.post("/v1/search", files=files(bytes(500)))
        assert "at once" in detail_of(response, 503) and response.headers["retry-after"] == "1"
        for _ in range(10):  # what was refused is given back
            assert client.post("/v1/search", files={"row": (None, "")}).status_code != 503


def test_a_network_that_gives_nan_is_told(client):
    assert "NaN" in detail_of(client.post("/v1/search", files=files(png((13, 13, 13)))), 500)


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/items/abc", "/v1/index", "/"])
def test_every_answer_guards_the_page(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers and "access-control-allow-origin" not in headers


def test_a_token_is_asked_for(index):
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    with client_of(index, token=TOKEN) as client:
        response = client.get("/v1/index")
        assert "token" in detail_of(response, 401)
        assert "Basic" in response.headers["www-authenticate"] and "nosniff" in str(
            response.headers
        )
        for wrong in ("Bearer wrong", "Basic !", "Basic \xe9", f"Basic {TOKEN}", TOKEN, "Bearer"):
            refused = client.get("/v1/index", headers={b"authorization": wrong.encode("latin-1")})
            assert TOKEN not in detail_of(refused, 401)
        for right in (f"Bearer {TOKEN}", f"Basic {basic}"):
            got = client.get("/v1/index", headers={"authorization": right})
            assert got.status_code == 200
        for path in ("/", "/metrics", "/openapi.json", "/nothing", "/v1/items/0/thumbnail"):
            detail_of(client.get(path), 401)
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_another_name_of_this_machine_is_no_way_in(index):
    with client_of(index, hosts=("localhost", "::1")) as client:
        assert client.get("/v1/index").status_code == 200
        assert client.get("/v1/index", headers={"host": "[::1]:8000"}).status_code == 200
        response = client.get("/v1/index", headers={"host": "evil.example:8000"})
        assert "--served_as" in detail_of(response, 421)


def test_other_origins_may_ask_only_where_that_is_wanted(index):
    asking = {"origin": "https://a.example", "access-control-request-method": "POST"}
    with client_of(index, origins=("https://a.example",), token=TOKEN) as client:
        allowed = client.options("/v1/search", headers=asking)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = client.options("/v1/search", headers=asking | {"origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def in_loop(index, encoder, work, **settings):
    """Runs `work(client)` with a client of the application in one event loop."""

    async def run() -> None:
        app = app_of(index, encoder, **settings)
        transport = httpx2.ASGITransport(app=app)
        async with app.router.lifespan_context(app):
            async with httpx2.AsyncClient(transport=transport, base_url=HOST) as client:
                await ready(app, client)
                await work(client)
                encoder.may_go.set()

    asyncio.run(run())


async def ready(app, client):
    while (await client.get("/readyz")).status_code != 200:
        assert app.state.service.encoder.error is None
        await asyncio.sleep(0.01)


async def until(true):
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def posted(client, colour=GREY):
    return await client.post("/v1/search", files=files(png(colour)))


def test_what_waits_is_encoded_together_and_told_apart(index):
    encoder = HeldEncoder()
    encoder.batch_size = 16

    async def work(client):
        first = asyncio.create_task(posted(client))
        await until(lambda: encoder.begun == 1)
        colours = [(n, n, n) for n in range(20, 32)]
        others = [asyncio.create_task(posted(client, colour)) for colour in colours]
        async with asyncio.timeout(20):
            while (
                'hybridhash_waiting{pool="encoding"} 13.0'
                not in (await client.get("/metrics")).text
            ):
                await asyncio.sleep(0.01)
        encoder.may_go.set()
        answers = await asyncio.gather(first, *others)
        codes = [answer.json()["query"]["code"] for answer in answers]
        assert codes == [bytes(colour).hex() for colour in [GREY, *colours]]

    in_loop(index, encoder, work)
    assert encoder.batches == [1, 12]


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1), ("bfloat16", 4)])
def test_on_a_processor_images_go_one_by_one_where_that_is_faster(index, dtype, most):
    encoder = HeldEncoder()
    encoder.model = dataclasses.replace(encoder.model, backend="cpu", dtype=dtype)
    encoder.may_go.set()

    async def work(client):
        answers = await asyncio.gather(*(posted(client, (n, n, n)) for n in range(20, 26)))
        codes = [answer.json()["query"]["code"] for answer in answers]
        assert codes == [bytes([n, n, n]).hex() for n in range(20, 26)]

    in_loop(index, encoder, work)
    assert sum(encoder.batches) == 6
    assert max(encoder.batches) == most


def test_more_than_may_wait_is_sent_away_and_the_rest_answered(index):
    encoder = HeldEncoder()

    async def work(client):
        tasks = [asyncio.create_task(posted(client)) for _ in range(6)]
        await until(lambda: sum(task.done() for task in tasks) == 3)
        assert (await client.get("/healthz")).status_code == 200
        row = await client.post("/v1/search", files={"row": (None, "0")})
        assert row.status_code == 200  # needs no network
        encoder.may_go.set()
        answers = await asyncio.gather(*tasks)
        sent_away = [one for one in answers if one.status_code == 503]
        assert sum(one.status_code == 200 for one in answers) == 3 and len(sent_away) == 3
        assert all("retry-after" in one.headers for one in sent_away)
        assert "try again" in detail_of(sent_away[0], 503)

    in_loop(index, encoder, work, waiting=3)


def test_a_request_has_its_time(index):
    encoder = HeldEncoder()

    async def work(client):
        response = await posted(client)
        assert "no answer within 0.3 s" in detail_of(response, 503)
        assert "retry-after" in response.headers
        encoder.may_go.set()
        assert (await posted(client)).status_code == 200

    in_loop(index, encoder, work, seconds=0.3)


def test_until_the_network_has_run_rows_are_answered_and_images_sent_away(index):
    encoder = HeldEncoder(all=True)
    app = app_of(index, encoder)

    async def run():
        transport = httpx2.ASGITransport(app=app)
        async with app.router.lifespan_context(app):
            async with httpx2.AsyncClient(transport=transport, base_url=HOST) as client:
                assert "made ready" in detail_of(await client.get("/readyz"), 503)
                assert "made ready" in detail_of(await posted(client), 503)
                row = await client.post("/v1/search", files={"row": (None, "0")})
                assert row.status_code == 200
                encoder.may_go.set()
                await ready(app, client)
                assert (await posted(client)).status_code == 200

    asyncio.run(run())


def test_a_failure_of_ours_is_told_without_its_inside(index, caplog):
    class Broken(FakeEncoder):
        def start(self, crops, *, quick=False):
            if crops.any():
                raise RuntimeError("secret inside")
            return super().start(crops)

    with client_of(index, Broken()) as client:
        response = client.post("/v1/search", files=files(png(GREY)))
        assert "secret" not in detail_of(response, 500) and "secret inside" in caplog.text

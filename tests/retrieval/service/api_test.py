"""What is asked is answered, as the search in Python answers it."""

import io
import json
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from hybridhash_jax.retrieval.index import open_writer
from hybridhash_jax.retrieval.search.search_index import open_index
from hybridhash_jax.retrieval.service.work import generations
from tests.retrieval.search.pictured import COLOURS, ODD, entry_of, make_index, picture
from tests.retrieval.service.served import client_of, files, png, rows_of, service_of

BLUE = (0, 0, 255)
PATHS = list(COLOURS)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("served"), thumbnails=True)


@pytest.fixture(scope="module")
def client(index):
    with client_of(index) as client:
        yield client


def searched(client, **fields) -> dict:
    image = fields.pop("image", None)
    sent = {name: (None, str(value)) for name, value in fields.items()}
    response = client.post("/v1/search", files=sent | (files(image) if image else {}))
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"k": 2},
        {"radius": 3},
        {"label": "sea"},
        {"path": "*/1.png"},
        {"k": 1, "label": "wood"},
        {"label": "no such label"},
    ],
)
def test_an_image_finds_what_the_search_in_python_finds(client, index, asked):
    answer = searched(client, image=png(BLUE), **asked)
    where = {name: value for name, value in asked.items() if name in ("label", "path")}
    with open_index(index) as searching:
        code = np.array(BLUE, np.uint8)
        expected = searching.search(code, asked.get("k", 24), asked.get("radius"), where)
        num_searched = int(searching.index.matching(tuple(where.items())).sum())
    found = [(one["row"], one["path"], one["distance"]) for one in answer["found"]]
    assert found == [(one.row, one.path, one.distance) for one in expected]
    assert (answer["at_last"], answer["left_out"]) == (expected.at_last, expected.left_out)
    assert answer["searched"] == sum(answer["within"]) == num_searched
    assert len(answer["within"]) == 24 + 1
    assert answer["where"] == {"label": None, "path": None} | where
    assert answer["query"]["row"] is None and answer["generation"] == 5


def test_an_image_its_row_and_its_code_find_the_same(client):
    by_image = searched(client, image=png(BLUE))
    by_row = searched(client, row=0)
    by_code = searched(client, code=by_image["query"]["code"])
    similar = client.get("/v1/items/0/similar").json()
    assert by_image["query"]["code"] == by_row["query"]["code"] == "0000ff"
    assert by_row["query"]["row"] == 0
    assert by_image["found"] == by_row["found"] == by_code["found"] and by_row == similar


def test_the_counts_by_distance_are_those_of_all_answers(client):
    answer = searched(client, row=0, k=1)
    distances = [one["distance"] for one in searched(client, row=0)["found"]]
    assert answer["within"] == np.bincount(distances, minlength=25).tolist()


def test_pages_follow_one_another(client):
    whole = searched(client, row=0)
    pages = [searched(client, row=0, k=2, offset=offset) for offset in (0, 2, 4)]
    assert [one for page in pages for one in page["found"]] == whole["found"]
    assert [one["rank"] for one in whole["found"]] == [1, 2, 3, 4, 5]
    assert [page["more"] for page in pages] == [True, True, False]
    assert not searched(client, row=0, offset=990, k=5)["found"]


def test_no_page_follows_where_the_rest_is_too_far(client):
    near = [one for one in searched(client, row=0)["found"] if one["distance"] <= 1]
    answer = searched(client, row=0, k=len(near), radius=1)
    assert answer["found"] == near and not answer["more"]
    assert searched(client, row=0, k=len(near) - 1, radius=1)["more"]


def test_names_that_are_no_text_are_shown_and_kept(client):
    row = PATHS.index(ODD)
    response = client.get(f"/v1/items/{row}")
    response.content.decode("utf-8")
    item = response.json()
    assert item["path"] == ODD and item["name"] == r"sea/a,\n\xff.png"
    assert (item["width"], item["height"], item["label"]) == (16, 12, "sea")


def test_the_index_tells_of_itself(client, index):
    facts = client.get("/v1/index").json()
    assert facts["images"] == 5 and facts["bits"] == 24 and facts["generation"] == 5
    assert facts["labels"] == [{"count": 4, "label": "sea"}, {"count": 1, "label": "wood"}]
    assert (facts["originals"], facts["duplicates"], facts["warnings"]) == (False, False, [])
    assert facts["limits"] == {"k": 1000, "pixels": 40_000_000, "upload_bytes": 10_000_000}


def test_a_thumbnail_is_sent_once(client):
    response = client.get("/v1/items/1/thumbnail")
    assert response.content == b"\xff\xd8thumbnail"
    assert response.headers["content-type"] == "image/jpeg"
    again = client.get("/v1/items/1/thumbnail", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304 and not again.content


def test_a_thumbnail_is_made_of_the_file_where_none_is_kept(tmp_path):
    index = make_index(tmp_path)
    with client_of(index) as client:
        response = client.get("/v1/items/0/thumbnail")
        assert response.content.startswith(b"\xff\xd8") and response.status_code == 200
        (tmp_path / "images" / PATHS[0]).unlink()
        assert client.get("/v1/items/0/thumbnail").status_code == 404


def test_image_files_are_served_only_where_that_is_asked_for(client, index):
    assert client.get("/v1/items/0/image").status_code == 404
    with client_of(index, originals=True) as other:
        response = other.get("/v1/items/0/image")
        assert response.content == (index.parent / "images" / PATHS[0]).read_bytes()
        assert response.headers["content-type"] == "image/png"
        assert other.get("/v1/index").json()["originals"]


def test_no_file_out_of_the_root_is_served(tmp_path):
    index = make_index(tmp_path)
    root = tmp_path / "images"
    out = picture(tmp_path / "out.png", BLUE)
    inside = root / PATHS[1]
    files = [root / path for path in PATHS]
    for file in files:
        file.unlink()
    files[0].symlink_to(out)  # out of it
    picture(inside.with_name("real.png"), BLUE)
    files[1].symlink_to("real.png")  # stays inside
    files[2].write_text("<script>alert(1)</script>")  # no image any more
    os.mkfifo(files[3])  # would wait for a writer
    files[4].mkdir()
    with client_of(index, originals=True) as client:
        codes = [client.get(f"/v1/items/{row}/image").status_code for row in range(5)]
        assert codes == [404, 200, 404, 404, 404]
        thumbnails = [client.get(f"/v1/items/{row}/thumbnail").status_code for row in range(5)]
        assert thumbnails == codes


def test_only_the_first_frame_of_an_animation_counts(client):
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 12), colour) for colour in ((0, 0, 255), (255, 0, 0))]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert rows_of(searched(client, image=file.getvalue()))[0] == 0


def test_an_empty_index_is_answered(tmp_path):
    index = make_index(tmp_path, {})
    with client_of(index) as client:
        answer = searched(client, image=png(BLUE))
        assert answer["found"] == [] and answer["within"] == [0] * 25 and not answer["more"]
        assert client.get("/v1/index").json()["images"] == 0


def test_a_new_generation_is_served(tmp_path):
    index = make_index(tmp_path, {"sea/1.png": BLUE})
    with client_of(index) as client:
        generations = service_of(client).generations
        assert not generations.refresh()
        _add(index, tmp_path / "images", "sea/new.png")
        assert generations.refresh()
        answer = searched(client, image=png(BLUE))
        assert answer["generation"] == 2 and rows_of(answer) == [0, 1]


def test_an_index_that_cannot_be_read_any_more_leaves_the_old_one(tmp_path):
    index = make_index(tmp_path, {"sea/1.png": BLUE})
    with client_of(index) as client:
        generations = service_of(client).generations
        kept = (index / "index.json").read_bytes()
        (index / "index.json").write_bytes(b"{")
        assert not generations.refresh()
        assert rows_of(searched(client, row=0)) == [0]
        assert "generation 1" in client.get("/v1/index").json()["warnings"][0]
        other = json.loads(kept)
        other["model"] |= {"fingerprint": "another", "name": "another network"}
        (index / "index.json").write_text(json.dumps(other))
        assert not generations.refresh()
        assert "restart the service" in client.get("/v1/index").json()["warnings"][0]
        (index / "index.json").write_bytes(kept)
        generations.refresh()
        assert client.get("/v1/index").json()["warnings"] == []


def test_an_index_of_another_model_is_read_once(tmp_path, monkeypatch):
    index = make_index(tmp_path, {"sea/1.png": BLUE})
    opened = Mock(wraps=generations.open_index)
    monkeypatch.setattr(generations, "open_index", opened)
    served = generations.Generations(index)
    kept = (index / "index.json").rename(tmp_path / "kept.json")
    for number in range(3):  # it may be readable the next time
        assert not served.refresh() and opened.call_count == 2 + number
    kept.rename(index / "index.json")
    assert not served.refresh() and not served.warnings()
    other = json.loads((index / "index.json").read_text())
    other["model"] |= {"fingerprint": "another"}
    (index / "index.json").write_text(json.dumps(other))
    opened.reset_mock()
    for _ in range(3):
        assert not served.refresh()
        assert "restart the service" in served.warnings()[0]
    assert opened.call_count == 1


def test_what_is_measured_names_no_paths(client):
    searched(client, image=png(BLUE))
    client.get("/secret/path")
    client.get("/v1/items/1")
    text = client.get("/metrics").text
    assert 'hybridhash_requests_total{method="GET",route="/v1/items/{row}",status="200"}' in text
    assert "secret" not in text and 'route="other",status="404"' in text
    for stage in ("decoding", "encoding", "queue", "scanning"):
        line = next(x for x in text.splitlines() if x.startswith(f'hybridhash_stage_seconds_count{{stage="{stage}"}}'))  # fmt: skip
        assert float(line.split()[-1]) >= 1
    assert "hybridhash_index_images 5.0" in text and 'hybridhash_waiting{pool="scanning"}' in text


def test_the_committed_description_is_that_of_the_application(client, index):
    """If they differ on purpose: python -m tests.retrieval.service.describe."""
    file = Path(__file__).parents[3] / "docs" / "openapi.json"
    assert json.loads(file.read_text()) == client.get("/openapi.json").json()


def test_the_page_is_sent_once(client, index, monkeypatch, tmp_path):
    from hybridhash_jax.retrieval.service.web import pages

    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<p>page")
    monkeypatch.setattr(pages.resources, "files", lambda package: tmp_path)
    with client_of(index) as other:
        response = other.get("/")
        assert response.text == "<p>page" and response.headers["content-type"].startswith("text/html")  # fmt: skip
        tag = response.headers["etag"]
        assert other.get("/", headers={"if-none-match": tag}).status_code == 304
        assert other.get("/script.js").status_code == 404
        assert other.head("/").headers["content-length"] == str(len("<p>page"))


def _add(index, root, name):
    picture(root / name, BLUE)
    with open_writer(index) as writer:
        writer.add([entry_of(root, name)], np.array([BLUE], np.uint8))

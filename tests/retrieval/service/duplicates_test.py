"""Groups of near-duplicates, found by a process of their own."""

import asyncio
import os
import tempfile
import time

import numpy as np
import pytest

from hybridhash_jax.retrieval.encoding.prepare import thumbnail
from hybridhash_jax.retrieval.index import create_index, open_writer
from hybridhash_jax.retrieval.service.problems import Problem
from hybridhash_jax.retrieval.service.work.generations import Generations
from hybridhash_jax.retrieval.service.work.groups import DuplicateGroups, with_distances, within
from input_pipeline.near_duplicates.hashing import perceptual_hash
from tests.input_pipeline.images.photographs import photograph
from tests.retrieval.search.pictured import FakeEncoder, entry_of, picture
from tests.retrieval.service.served import client_of

NAMES = ["a.png", "b.png", "copy,\n\udcff.png"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Two photographs, and one of them once more."""
    folder = tmp_path_factory.mktemp("duplicates")
    encoder, root = FakeEncoder(), folder / "images"
    create_index(folder / "i", encoder.model, root, encoder.files)
    pixels = [np.asarray(photograph(300, 200, seed)) for seed in (1, 2, 1)]
    for name in NAMES:
        picture(root / name, (1, 2, 3))
    with open_writer(folder / "i") as writer:
        writer.add(
            [entry_of(root, name) for name in NAMES],
            np.zeros((3, 3), np.uint8),
            np.array([perceptual_hash(one) for one in pixels], np.uint64),
            [thumbnail(one) for one in pixels],
        )
    return folder / "i"


@pytest.mark.slow
def test_they_are_found_in_the_background_and_kept(index):
    with client_of(index) as client:
        assert client.get("/v1/index").json()["duplicates"]
        first = client.get("/v1/duplicates")
        assert first.status_code == 503 and int(first.headers["retry-after"]) > 0
        assert "being looked for" in first.json()["detail"]
        until = time.monotonic() + 300  # the process that looks for them gives way to all others
        while (response := client.get("/v1/duplicates")).status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.1)
        answer = response.json()
        assert answer["total"] == 1 and answer["generation"] == 1
        (group,) = answer["groups"]
        assert [image["row"] for image in group["images"]] == [0, 2]
        assert [os.fsencode(image["path"]) for image in group["images"]] == [
            os.fsencode(NAMES[0]),
            os.fsencode(NAMES[2]),
        ]
        assert group["images"][1]["name"] == r"copy,\n\xff.png"
        assert group["images"][1]["relation"] == "equal" and group["images"][1]["similarity"] == 1
        assert client.get("/v1/duplicates?offset=1").json()["groups"] == []
        assert client.get("/v1/duplicates?radius=0").json()["total"] == 1


async def status_of(groups: DuplicateGroups) -> int:
    """Of an answer, once what looks for them has had its turn."""
    try:
        groups.groups(12)
    except Problem as problem:
        await asyncio.sleep(0.01)
        return problem.status
    return 200


def test_a_failure_is_told_for_a_minute_and_then_tried_again(index, monkeypatch, caplog):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    generations = Generations(index)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", fail)
    now, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])

    async def run() -> None:
        groups = DuplicateGroups(index, generations)
        assert [await status_of(groups) for _ in range(3)] == [503, 500, 500]
        assert "No space left" in caplog.text
        passed[0] = 61.0
        assert [await status_of(groups) for _ in range(2)] == [503, 500]
        await groups.close()

    asyncio.run(run())
    generations.close()


def test_a_smaller_radius_leaves_images_out():
    """3 equals 2, and only 2 is paired with the first of the group."""
    images = [{"row": row} for row in (1, 2, 3, 4)]
    pairs = [
        {"rows": [1, 2], "distance": 5, "relation": "mirrored"},
        {"rows": [2, 3], "distance": 0, "relation": "equal"},
        {"rows": [4, 1], "distance": 8, "relation": "as it is"},
    ]
    content = with_distances({"groups": [{"id": "x", "images": images}], "pairs": pairs})

    def rows(radius: int) -> list[list[int]]:
        return [[image["row"] for image in one["images"]] for one in within(content, radius)]

    assert rows(8) == [[1, 2, 3, 4]] and rows(7) == rows(5) == [[1, 2, 3]] and rows(4) == []

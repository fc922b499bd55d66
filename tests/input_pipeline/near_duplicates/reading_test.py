import inspect
import os
import sys

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import DataError
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import FileReader
from input_pipeline.near_duplicates.hashing import perceptual_hash
from input_pipeline.near_duplicates.reading import image_files, read_pictures
from tests.input_pipeline.near_duplicates.scenes import scene


def save(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(seed, 60, 40).save(path, "png", **options)


def test_image_files_are_listed_below_the_folder_and_not_out_of_it(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    save(outside / "away.png")
    for name in ("b.PNG", "a/c.jpg", "a/.hidden.png", ".git/d.png", "a b,\n.png"):
        save(inside / name)
    (inside / "notes.txt").write_text("no image")
    odd = os.path.join(os.fsencode(inside), b"\xff.png")
    os.rename(inside / "b.PNG", odd)
    (inside / "out.png").symlink_to(outside / "away.png")
    (inside / "folder").symlink_to(outside)
    (inside / "in.png").symlink_to(inside / "a" / "c.jpg")
    (inside / "gone.png").symlink_to(inside / "nothing")
    assert image_files(inside) == ["a b,\n.png", "a/c.jpg", "in.png", "\udcff.png"]


def test_folders_may_lie_deeper_than_functions_may_call_each_other(tmp_path):
    save(tmp_path.joinpath(*["d"] * 150, "a.png"))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)  # not deeper folders, which pytest removes
    try:
        found = image_files(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found == [150 * "d/" + "a.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    save(tmp_path / "closed" / "a.png")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="cannot read the folder .*closed"):
        image_files(tmp_path)
    (tmp_path / "closed").chmod(0o700)


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", number)
    (tmp_path / "1.png").write_bytes(b"nothing")
    steps = []
    names = ["0.png", "1.png", "2.png", "gone.png"]
    read = read_pictures(
        FileReader(str(tmp_path), names), 4, DecodeOptions(), num_workers=2, progress=steps.append
    )
    assert read.rows.tolist() == [0, 2] and sum(steps) == 4
    assert read.sizes.tolist() == [[60, 40], [60, 40]]
    assert sorted(read.unreadable) == [1, 3] and "no such file" in read.unreadable[3]
    expected = [perceptual_hash(np.asarray(scene(seed, 60, 40))) for seed in (0, 2)]
    assert read.pictures.hashes.tolist() == expected


def test_known_hashes_are_not_computed_again(tmp_path):
    save(tmp_path / "a.png")
    read = read_pictures(
        FileReader(str(tmp_path), ["a.png"]),
        1,
        DecodeOptions(),
        num_workers=1,
        hashes=np.array([42], np.uint64),
    )
    assert read.pictures.hashes.tolist() == [42]


def test_a_thumbnail_counts_whatever_became_of_its_file(tmp_path):
    """A page of text is black and white; only a file of more than 8 bits is looked at more closely."""
    page = Image.fromarray(np.kron(np.eye(8, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8)))
    page.save(tmp_path / "page.png")
    Image.fromarray(np.asarray(page).astype(np.uint16) * 200).save(tmp_path / "deep.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "page.png").read_bytes()[:40])
    (tmp_path / "other.png").write_text("no image any more")
    names = ["page.png", "deep.png", "damaged.png", "other.png", "gone.png"]
    found = read_pictures(
        FileReader(str(tmp_path), ["page.png"] * 5), 5, DecodeOptions(), num_workers=1,
        files=FileReader(str(tmp_path), names),
    )  # fmt: skip
    assert found.rows.tolist() == [0, 2, 3, 4]
    assert "more than 8 bits" in found.unreadable[1]

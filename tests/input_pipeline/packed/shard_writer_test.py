"""Images are packed as their own bytes, or as what Pillow makes of them at another size."""

import io
from pathlib import Path

import pytest
from PIL import Image

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.packed import shard_writer
from input_pipeline.packed.shard_writer import complete_shard, prepare_image, write_shard
from tests.input_pipeline.packed.packed_sets import contents, make_image


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(40, 63, (20, 31)), (63, 40, (31, 20)), (40, 40, (20, 20)), (333, 77, (86, 20))],
)
def test_resizing_rounds_the_longer_side_down(width, height, expected):
    data = prepare_image(make_image(0, width, height), DecodeOptions(), 20, 95)
    assert Image.open(io.BytesIO(data)).size == expected


@pytest.mark.parametrize("number", range(7))
def test_resized_images_are_what_pillow_makes_of_them(number):
    data = make_image(number, 40, 61)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    file = io.BytesIO()
    image.resize((20, 30), Image.Resampling.BILINEAR).save(file, "JPEG", quality=80)
    assert prepare_image(data, DecodeOptions(), 20, 80) == file.getvalue()


@pytest.mark.parametrize("resize", [None, 31, 32])
def test_images_that_are_not_too_large_keep_their_bytes(resize):
    for number in range(7):
        data = make_image(number, 40, 31)
        assert prepare_image(data, DecodeOptions(), resize, 95) == data


def test_an_image_that_cannot_be_decoded_is_not_packed():
    with pytest.raises(UnreadableImage):
        prepare_image(b"no image", DecodeOptions(), None, 95)


def encode(row: int, image: bytes) -> bytes:
    return b"%d:" % row + image


def test_a_complete_shard_is_recognised_with_all_that_is_known_of_it(tmp_path):
    path = tmp_path / "shard"
    assert complete_shard(path) is None
    images = [(4, b"four"), (2, UnreadableImage("broken")), (7, b"seven")]
    shard = write_shard(path, images, encode, skip=True)
    assert (shard.images, shard.left_out) == (2, ((2, "broken"),))
    assert complete_shard(path) == shard
    (tmp_path / "shard.json").write_text("{")
    assert complete_shard(path) is None


def test_a_shard_with_an_unreadable_image_is_not_written_but_seen_through(tmp_path):
    seen = []

    def images():
        for row in range(4):
            seen.append(row)
            yield row, UnreadableImage("broken") if row % 2 else b"image"

    shard = write_shard(tmp_path / "shard", images(), encode, skip=False)
    assert shard.left_out == ((1, "broken"), (3, "broken"))
    assert seen == [0, 1, 2, 3]
    assert not list(tmp_path.iterdir())


def test_of_two_writers_of_a_shard_the_later_one_counts(tmp_path):
    """As on a disk that knows no locks."""
    others = [(1, b"other"), (2, b"more")]
    for folder in ("alone", "both"):
        (tmp_path / folder).mkdir()
    alone, both = tmp_path / "alone" / "shard", tmp_path / "both" / "shard"
    shard = write_shard(alone, others, encode, skip=False)

    def images():
        yield 0, b"image"
        assert write_shard(both, others, encode, skip=False) == shard
        yield 3, b"last"

    with pytest.raises(DataError, match="cannot write .*shard .*run the same command again"):
        write_shard(both, images(), encode, skip=False)
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / "shard.0a1b2c3d.incomplete").write_bytes(b"half")
    write_shard(tmp_path / "shard", [(0, b"image")], encode, skip=False)
    assert {file.name for file in tmp_path.iterdir()} == {"shard", "shard.json"}


def test_ctrl_c_while_the_file_is_made_leaves_none(tmp_path, monkeypatch):
    def make_and_interrupt(path, options):
        Path(path).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_writer, "ArrayRecordWriter", make_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "shard", [(0, b"image")], encode, skip=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_explained():
    with pytest.raises(DataError, match="cannot write /nowhere/shard"):
        write_shard(Path("/nowhere/shard"), [(0, b"image")], encode, skip=False)

"""The start of every file is looked at: which are missing, empty, no image or too large."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import FileReader
from input_pipeline.images.headers import broken_headers
from tests.input_pipeline.images.photographs import encoded, photograph

OPTIONS = DecodeOptions()
HEAD = 2**16


def noise(file_format: str, **options: object) -> bytes:
    """An image whose file is longer than the head that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), file_format, **options)
    assert len(data) > HEAD + 1000
    return data


def test_the_broken_ones_of_2_000_files_are_found(tmp_path):
    good = [encoded(photograph(40, 30, seed=i), kind) for i, kind in enumerate(("JPEG", "PNG"))]
    names = [f"{i}.jpg" for i in range(2000)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(good[i % 2])
    (tmp_path / names[7]).unlink()
    (tmp_path / names[700]).write_bytes(b"")
    (tmp_path / names[1200]).write_text("<html>not found</html>")
    (tmp_path / names[1500]).write_bytes(encoded(photograph(50, 40)))
    (tmp_path / names[1999]).write_bytes(encoded(photograph(40, 30), "EPS"))
    done = []
    options = DecodeOptions(max_pixels=1999)
    reader = FileReader(str(tmp_path), names)
    found = broken_headers(reader, np.arange(2000), options, 2, done.append)
    assert list(found) == [7, 700, 1200, 1500, 1999]
    assert found[7] == "there is no such file"
    assert found[700] == "the file is empty"
    assert found[1200].startswith("not an image")
    assert found[1500] == "too large: 50 x 40 is over 1,999 pixels (max_pixels)"
    assert found[1999].startswith("EPS is not read")
    assert sum(done) == 2000


def test_only_the_rows_that_are_asked_for_are_read(tmp_path):
    reader = FileReader(str(tmp_path), ["a.jpg", "b.jpg", "c.jpg"])
    assert list(broken_headers(reader, [2, 0], OPTIONS, 0)) == [2, 0]
    assert broken_headers(reader, [], OPTIONS) == {}


class Counting(FileReader):
    """Remembers how many bytes each read gave."""

    def read(self, row: int) -> bytes:
        """The whole file."""
        data = super().read(row)
        SIZES.append(len(data))
        return data

    def read_head(self, row: int, num_bytes: int) -> bytes:
        """Its start."""
        data = super().read_head(row, num_bytes)
        SIZES.append(len(data))
        return data


SIZES: list[int] = []


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
def test_of_long_files_the_first_64_kib_are_enough(tmp_path, file_format):
    (tmp_path / "a").write_bytes(
        noise(file_format, **({"quality": 98} if file_format == "JPEG" else {}))
    )
    SIZES.clear()
    assert broken_headers(Counting(str(tmp_path), ["a"]), [0], OPTIONS) == {}
    assert SIZES == [HEAD]


@pytest.mark.parametrize("file_format", ["WEBP", "AVIF", "late JPEG", "late TIFF"])
def test_a_header_that_is_not_in_the_head_is_found(tmp_path, file_format):
    if file_format == "late JPEG":
        data = encoded(photograph(40, 30), comment=bytes(60_000), exif=b"Exif\0\0" + bytes(60_000))
    elif file_format == "late TIFF":
        data = noise("TIFF")
        start = int.from_bytes(data[4:8], "little")
        directory = data[
            start : start + 2 + 12 * int.from_bytes(data[start : start + 2], "little") + 4
        ]
        # The directory of tags once more, behind the pixels.
        data = data[:4] + len(data).to_bytes(4, "little") + data[8:] + directory
        data = data.replace(directory, bytes(len(directory)), 1)
    else:
        data = noise(file_format, quality=100)
    (tmp_path / "good").write_bytes(data)
    (tmp_path / "cut").write_bytes(data[: HEAD + 100])
    SIZES.clear()
    found = broken_headers(Counting(str(tmp_path), ["good", "cut"]), [0, 1], OPTIONS, 1)
    assert 0 not in found
    assert SIZES[:2] == [HEAD, len(data)]
    if "late JPEG" != file_format:  # its header is not cut
        assert found[1].isprintable()


def test_a_long_file_that_is_no_image_is_not_read_whole(tmp_path):
    (tmp_path / "film.jpg").write_bytes(b"\0\0\0\x18ftypisom" + bytes(200_000))
    SIZES.clear()
    found = broken_headers(Counting(str(tmp_path), ["film.jpg"]), [0], OPTIONS)
    assert found[0].startswith("not an image") and SIZES == [HEAD]


def test_other_readers_give_whole_records():
    class Records:
        def read(self, row: int) -> bytes:
            if row == 1:
                raise UnreadableImage("damaged record 1")
            if row == 2:
                raise DataError("a shard is missing")
            return encoded(photograph(40, 30))

    assert broken_headers(Records(), [0, 1], OPTIONS) == {1: "damaged record 1"}
    with pytest.raises(DataError, match="shard"):
        broken_headers(Records(), [0, 2], OPTIONS)


def test_what_is_no_file_is_told_without_its_path(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "link.jpg")
    found = broken_headers(FileReader(str(tmp_path), ["folder.jpg", "link.jpg"]), [0, 1], OPTIONS)
    assert found == {0: "cannot be read: Is a directory", 1: "there is no such file"}


def test_a_pixel_that_is_damaged_is_not_found_because_nothing_is_decoded(tmp_path):
    buffer = io.BytesIO()
    photograph(40, 30).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:-200])
    assert broken_headers(FileReader(str(tmp_path), ["a.png"]), [0], OPTIONS) == {}

"""Equal images have equal checksums; files that have not changed are not read again."""

import os
import time

import numpy as np
import pytest

from hybridhash_jax.features import image_sums
from hybridhash_jax.features.image_sums import image_checksums
from input_pipeline.errors import UnreadableImage
from input_pipeline.images.encoded import EncodedImages, FileReader

NAMES = ["a.jpg", "b.jpg", "folder/c.jpg"]


class Counted(FileReader):
    """Counts what it reads."""

    def read(self, row):
        reads.append(self.names[row])
        return super().read(row)


reads: list[str] = []


@pytest.fixture
def files(tmp_path):
    (tmp_path / "set" / "folder").mkdir(parents=True)
    for name in NAMES:
        write(tmp_path / "set" / name, b"photograph " + name.encode())
    reads.clear()
    return EncodedImages(NAMES, Counted(str(tmp_path / "set"), NAMES))


def write(path, content: bytes, seconds_ago: float = 3600) -> None:
    path.write_bytes(content)
    when = time.time() - seconds_ago
    os.utime(path, (when, when))


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files count as settled at once; `ctime` cannot be set back."""
    monkeypatch.setattr(image_sums, "_SETTLED_SECONDS", -1e9)


def test_arrays_by_content_and_shape():
    images = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 3), dtype=np.uint8)
    images[149] = images[3]
    sums, reasons = image_checksums(images, num_workers=2)
    assert sums.shape == (150, 16) and sums.dtype == np.uint8 and not reasons
    assert len(np.unique(sums, axis=0)) == 149 and (sums[149] == sums[3]).all()
    some, _ = image_checksums(images[:, ::-1, ::-1][:, ::-1, ::-1], np.array([3, 149, 0]))
    np.testing.assert_array_equal(some, sums[[3, 149, 0]])
    other, _ = image_checksums(images.reshape(150, 2, 8, 3))
    assert not (other == sums).all(1).any()


def test_done_images_are_told():
    told = []
    image_checksums(np.zeros((130, 2, 2, 3), np.uint8), on_images=told.append)
    assert sum(told) == 130 and len(told) > 1
    assert image_checksums(np.zeros((0, 2, 2, 3), np.uint8))[0].shape == (0, 16)


def test_files_by_content_and_not_by_name(files, tmp_path):
    before, _ = image_checksums(files)
    (tmp_path / "set" / "a.jpg").write_bytes(b"photograph b.jpg")
    after, _ = image_checksums(files)
    assert (after[0] == before[1]).all() and (after[1:] == before[1:]).all()


def test_an_unreadable_image_is_a_reason_at_its_position(files, tmp_path):
    (tmp_path / "set" / "b.jpg").unlink()
    sums, reasons = image_checksums(files, np.array([2, 1]), folder=tmp_path / "cache")
    assert reasons == {1: "there is no such file"}
    assert not sums[1].any() and sums[0].any()


def test_a_second_start_reads_no_file(files, tmp_path):
    first, _ = image_checksums(files, folder=tmp_path / "cache")
    assert sorted(reads) == NAMES
    again, _ = image_checksums(files, folder=tmp_path / "cache")
    assert sorted(reads) == NAMES
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("change", ["content", "size", "kept_time"])
def test_a_changed_file_is_read_again(files, tmp_path, change):
    first, _ = image_checksums(files, folder=tmp_path / "cache")
    path = tmp_path / "set" / "b.jpg"
    then = path.stat()
    write(path, b"PHOTOGRAPH b.jpg" if change != "size" else b"longer than it was", 1800)
    if change == "kept_time":
        os.utime(path, ns=(then.st_mtime_ns, then.st_mtime_ns))
    again, _ = image_checksums(files, folder=tmp_path / "cache")
    assert (again == first).all(1).tolist() == [True, False, True]
    assert sorted(reads) == sorted([*NAMES, "b.jpg"])


def test_a_file_that_may_still_change_is_not_remembered(files, tmp_path, monkeypatch):
    monkeypatch.setattr(image_sums, "_SETTLED_SECONDS", 1e6)
    image_checksums(files, folder=tmp_path / "cache")
    image_checksums(files, folder=tmp_path / "cache")
    assert len(reads) == 6


def test_a_damaged_memory_costs_its_entries(files, tmp_path):
    first, _ = image_checksums(files, folder=tmp_path / "cache")
    memory = tmp_path / "cache" / image_sums.MEMORY
    data = memory.read_bytes()
    for damaged in (data[:-1], data[:40] + b"?" + data[41:], b"", b"\0" * len(data), b"?" * 1000):
        memory.write_bytes(damaged)
        again, _ = image_checksums(files, folder=tmp_path / "cache")
        np.testing.assert_array_equal(first, again)
        assert len(memory.read_bytes()) == len(data)
    assert len(reads) == 3 + 1 + 1 + 3 + 3 + 3


def test_what_others_remembered_stays(files, tmp_path):
    image_checksums(files, np.array([0]), folder=tmp_path / "cache")
    image_checksums(files, np.array([1, 2]), folder=tmp_path / "cache")
    image_checksums(files, folder=tmp_path / "cache")
    assert sorted(reads) == NAMES


def test_a_memory_that_cannot_be_kept_stops_nothing(files, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    sums, _ = image_checksums(files, folder=tmp_path / "file")
    assert sums.any(1).all()
    assert "could not be written" in caplog.text


def test_buckets_and_records_are_always_read(tmp_path):
    class Records:
        def read(self, row: int) -> bytes:
            reads.append("record")
            if row == 1:
                raise UnreadableImage("damaged record 1")
            return b"content"

    reads.clear()
    records = EncodedImages(["x", "y"], Records())
    for _ in range(2):
        assert image_checksums(records, folder=tmp_path)[1] == {1: "damaged record 1"}
    assert len(reads) == 4

    class Bucket(FileReader):
        def read(self, row: int) -> bytes:
            reads.append("bucket")
            return b"content"

    bucket = EncodedImages(["x"], Bucket("gs://bucket", ["x"]))
    for _ in range(2):
        image_checksums(bucket, folder=tmp_path)
    assert len(reads) == 6 and not (tmp_path / image_sums.MEMORY).exists()

"""Packed data sets are found, checked and read back, from a disk and from a bucket."""

import http.server
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from tensorflow_datasets.proto import tf_example_generated_pb2

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.lists.listed import join_lists
from input_pipeline.packed import records
from input_pipeline.packed.record_reader import RecordReader, image_in
from input_pipeline.packed.records import open_packed
from tests.input_pipeline.packed.packed_sets import CLASSES, Images

ROOT = Path(__file__).resolve().parents[3]
# Generated code, which type checkers cannot see into.
Example: Any = getattr(tf_example_generated_pb2, "Example")  # noqa: B009
SHARD = "things-images.array_record-00001-of-00003"


@pytest.fixture
def packed(tmp_path) -> Path:
    """The directory of a packed data set of 9 images in 3 shards."""
    return Images().pack(tmp_path / "out").directory


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_data_set_is_found_at_or_above_its_directory(packed, up):
    found = open_packed([packed, *packed.parents][up])
    assert found.directory == str(packed)
    assert (sum(found.shard_lengths), found.class_names) == (9, CLASSES)
    assert (found.resize, found.left_out) == (None, ())


def test_joining_the_lists_numbers_the_images_as_the_records_are(packed):
    images, found = Images(), open_packed(packed)
    joined = join_lists(*found.lists)
    assert joined.names == [images.names[row] for row in images.order]
    reader = found.open_reader()
    assert len(reader) == len(joined.names)
    for row, name in enumerate(joined.names):
        assert reader.read(row) == images.files[images.names.index(name)]


def test_the_size_of_resized_images_is_known(tmp_path):
    Images().pack(tmp_path, resize=20, quality=90)
    found = open_packed(tmp_path)
    assert (found.resize, found.apply_orientation) == (20, False)


def test_several_or_no_data_sets_are_an_error_that_names_them(tmp_path):
    with pytest.raises(DataError, match="no packed data set in .*input_pipeline.pack"):
        open_packed(tmp_path / "nothing")
    for name in ("first", "second"):
        Images().pack(tmp_path, name=name)
    with pytest.raises(DataError, match=r"several packed data sets \(first, second\)"):
        open_packed(tmp_path)
    assert "second" in open_packed(tmp_path / "second").directory


@pytest.mark.parametrize("missing", ["dataset_info.json", "packing.json"])
def test_an_incomplete_data_set_is_refused(packed, missing):
    (packed / "packing.part.json").write_text("{}")
    (packed / missing).unlink()
    with pytest.raises(DataError, match="not complete; run the same .* command again"):
        open_packed(packed)


def test_changed_lists_are_noticed(packed):
    text = (packed / "test.txt").read_text()
    (packed / "test.txt").write_text(text.replace("1", "0", 1))
    with pytest.raises(DataError, match="their checksum differs"):
        open_packed(packed)


def test_missing_files_are_named(packed):
    (packed / SHARD).unlink()
    with pytest.raises(DataError, match=f"1 of 3 shards in .* are missing, first .*{SHARD}"):
        open_packed(packed)
    (packed / "train.txt").unlink()
    with pytest.raises(DataError, match="cannot read the packed data set .*train.txt"):
        open_packed(packed)


def test_another_format_and_a_damaged_description_are_refused(packed):
    packing = json.loads((packed / "packing.json").read_text())
    (packed / "packing.json").write_text(json.dumps(packing | {"format_version": 2}))
    with pytest.raises(DataError, match="format version 2, this program reads 1"):
        open_packed(packed)
    for damaged in ("{", "[]", json.dumps({"format_version": 1})):
        (packed / "packing.json").write_text(damaged)
        with pytest.raises(DataError, match="cannot read the packed data set"):
            open_packed(packed)


def test_a_bucket_without_its_package_says_which_is_needed(monkeypatch):
    def fail(directory):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(records, "_find", fail)
    with pytest.raises(DataError, match="gs://bucket/set: .*pip install gcsfs"):
        open_packed("gs://bucket/set")


def test_whatever_a_bucket_answers_is_explained(monkeypatch):
    class CredentialsError(Exception):
        pass

    def fail(directory):
        raise CredentialsError("no credentials")

    monkeypatch.setattr(records, "_find", fail)
    with pytest.raises(DataError, match="gs://bucket/set .CredentialsError: no credentials"):
        open_packed("gs://bucket/set")


def test_there_is_no_record_outside_the_data_set(packed):
    reader = open_packed(packed).open_reader()
    for row in (-1, 9):
        with pytest.raises(IndexError, match=f"row {row} of 9"):
            reader.read(row)


def test_many_threads_read_the_same_reader(packed):
    images, reader = Images(), open_packed(packed).open_reader()
    rows = np.random.default_rng(0).integers(0, 9, 2000).tolist()
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(reader.read, rows))
    assert found == [images.files[images.order[row]] for row in rows]


def test_a_reader_opens_again_in_another_process(packed):
    images, reader = Images(), open_packed(packed).open_reader()
    reader.read(0)
    assert pickle.loads(pickle.dumps(reader)).read(8) == images.files[6]


def test_a_damaged_record_is_one_unreadable_image(packed):
    images, path = Images(), packed / SHARD
    data = bytearray(path.read_bytes())
    damaged = images.order[5]
    data[data.index(images.files[damaged]) + 100] ^= 1
    path.write_bytes(data)
    reader = open_packed(packed).open_reader()
    with pytest.raises(UnreadableImage, match=f"damaged record 5 .*{SHARD}"):
        reader.read(5)
    for row in (4, 6):
        assert reader.read(row) == images.files[images.order[row]]


@pytest.mark.parametrize("content", [b"", b"junk" * 40_000, None])
def test_a_damaged_or_missing_shard_is_an_error_of_the_data_set(packed, content):
    reader = open_packed(packed).open_reader()
    path = packed / SHARD
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(DataError, match=SHARD):
            reader.read(5)
    assert reader.read(0) == Images().files[7]


def test_a_shard_of_another_length_is_an_incomplete_copy(packed):
    with pytest.raises(DataError, match="holds 4 records instead of 5"):
        RecordReader([os.fspath(packed / SHARD)], [5]).read(0)
    with pytest.raises(ValueError, match="zip"):
        RecordReader([SHARD], [1, 2])


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    image=st.binary(max_size=300),
    name=st.binary(max_size=200),
    key=st.sampled_from(["", "a", "imag", "images", "z" * 200]),
)
def test_the_image_is_found_in_any_message_of_tensorflows_format(image, name, key):
    example = Example()
    feature = example.features.feature
    feature[key].int64_list.value.extend([1, 2**40])
    feature["name"].bytes_list.value.append(name)
    feature["image"].bytes_list.value.append(image)
    assert image_in(example.SerializeToString()) == image


@hypothesis.given(st.binary(max_size=60))
def test_what_is_no_such_message_has_no_image(data):
    with pytest.raises(ValueError, match="not a record of a packed data set"):
        image_in(data)


def test_a_record_that_ends_early_has_no_image():
    example = Example()
    example.features.feature["image"].bytes_list.value.append(b"x" * 20)
    record = example.SerializeToString()
    assert image_in(record) == b"x" * 20
    for length in range(len(record)):
        with pytest.raises(ValueError, match="not a record of a packed data set"):
            image_in(record[:length])


@pytest.mark.slow
def test_neither_opening_nor_reading_imports_tensorflow(packed):
    code = (
        "import sys; from input_pipeline.packed.records import open_packed\n"
        "found = open_packed(sys.argv[1])\n"
        "assert not {'tensorflow_datasets', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "assert found.open_reader().read(0)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, packed], cwd=ROOT, check=True)


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder that is served as bucket `gs://photos`, as Google's JSON interface would."""
    root = tmp_path / "bucket"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = urllib.parse.unquote(self.path.split("?")[0].rpartition("/o/")[2])
            path = root / name
            data = path.read_bytes() if path.is_file() else b""
            start, stop = byte_range(self.headers.get("Range", ""), len(data))
            self.send_response(206 if data else 404)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            try:
                self.wfile.write(data[start:stop])
            except OSError:  # the reader has seen enough
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", endpoint)
    files = BucketFiles(os.fspath(root), LocalFileSystem())
    monkeypatch.setattr(backend._FileSystemSpecBackend, "_get_filesystem", lambda self, name: files)
    yield root
    server.shutdown()
    thread.join()
    server.server_close()


class BucketFiles(DirFileSystem):
    """Stands in for gcsfs: `gs://photos/NAME` is the file NAME of a folder."""

    def _join(self, path):
        return super()._join(str(path).removeprefix("gs://photos").lstrip("/"))


def byte_range(header: str, size: int) -> tuple[int, int]:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if not match:
        return 0, size
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def test_a_bucket_is_read_like_a_disk(bucket):
    images = Images()
    images.pack(bucket)
    found = open_packed("gs://photos/things")
    assert found.directory == "gs://photos/things/1.0.0"
    assert found.shards[1] == f"gs://photos/things/1.0.0/{SHARD}"
    reader = found.open_reader()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reader.read, range(9))) == [images.files[i] for i in images.order]


def test_a_shard_missing_in_a_bucket_is_an_error_of_the_data_set(bucket):
    Images().pack(bucket)
    reader = open_packed("gs://photos").open_reader()
    (bucket / "things" / "1.0.0" / SHARD).unlink()
    with pytest.raises(DataError, match="404"):
        reader.read(5)

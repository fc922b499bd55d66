"""Vectors of any model as a data set: formats, labels, splits, pictures."""

import logging
import os
import shutil
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from input_pipeline.dataset import empty_splits
from input_pipeline.errors import DataError
from input_pipeline.images.vectors import Vectors
from input_pipeline.lists.folder_splits import FolderSplits
from input_pipeline.sources import ArraySource
from input_pipeline.vectors.embeddings import EmbeddingFiles, load_embeddings
from input_pipeline.vectors.row_checks import check_rows
from input_pipeline.vectors.vector_files import open_vectors

N, D = 60, 8
IDS = np.arange(N) % 3


def vectors(dtype: Any = np.float16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(dtype)


@pytest.fixture
def load(tmp_path, monkeypatch) -> Any:
    """Saves arrays as `.npy` files and loads the data set of them."""
    monkeypatch.chdir(tmp_path)

    def load(embeddings, directory=None, seed=0, rules=None, **beside) -> Any:
        given: dict[str, Any] = {"embeddings": embeddings, **beside}
        for name, value in given.items():
            if isinstance(value, np.ndarray):
                np.save(tmp_path / f"{name}.npy", value)
                given[name] = f"{name}.npy"
            elif isinstance(value, list):
                (tmp_path / f"{name}.txt").write_text("\n".join(value) + "\n")
                given[name] = f"{name}.txt"
        files = EmbeddingFiles(**given)
        return load_embeddings(
            files, directory, seed, rules or FolderSplits(), cache=tmp_path / "cache"
        )

    return load


def fixed(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def is_mapped(array: np.ndarray) -> bool:
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_npy_is_mapped_as_it_is(load, dtype, tmp_path):
    found = load(vectors(dtype), labels=IDS)
    assert isinstance(found.images, Vectors)
    assert len(found.images) == N
    assert is_mapped(found.images.array)
    assert type(found.images.array) is np.ndarray
    assert found.images.array.dtype == dtype
    np.testing.assert_array_equal(found.images.array, vectors(dtype))
    np.testing.assert_array_equal(found.labels, np.eye(3, dtype=np.uint8)[IDS])
    assert found.class_names == ("0", "1", "2")
    assert (found.name, found.protocol, found.top_k) == ("embeddings", "embeddings", None)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("first", ["a", "names", "labels_"])
def test_a_npz_is_mapped_at_its_offset_wherever_it_lies(load, tmp_path, first):
    """Also at an odd address, which depends on the names before it."""
    arrays: dict[str, Any] = {first: np.zeros(5, np.uint8)} if first != "names" else {}
    names = np.array([f"{i}.jpg" for i in range(N)])
    np.savez(tmp_path / "x.npz", **arrays, names=names, labels=IDS, embeddings=vectors())
    found = load("x.npz")
    assert isinstance(found.images, Vectors)
    assert is_mapped(found.images.array)
    np.testing.assert_array_equal(found.images.array, vectors())
    assert list(found.images.names) == names.tolist()
    np.testing.assert_array_equal(found.labels.argmax(axis=1), IDS)


def test_a_compressed_npz_is_read_and_says_so(load, tmp_path, caplog):
    np.savez_compressed(tmp_path / "x.npz", labels=IDS, embeddings=vectors(np.float64))
    found = load("x.npz")
    assert not is_mapped(found.images.array)
    np.testing.assert_array_equal(found.images.array, vectors(np.float64).astype(np.float32))
    assert "x.npz is compressed and is read into memory" in caplog.text


@pytest.mark.parametrize(
    ("given", "dtype", "words"),
    [
        (vectors(np.float64), np.float32, "float64 cannot be mapped"),
        (vectors(">f4"), np.float32, "big-endian cannot be mapped"),
        (vectors(">f2"), np.float16, "big-endian cannot be mapped"),
        (vectors(">f8"), np.float32, "float64, big-endian cannot be mapped"),
        (np.asfortranarray(vectors()), np.float16, "columns first (Fortran order) cannot"),
    ],
)
def test_what_cannot_be_mapped_is_converted_once(load, given, dtype, words, caplog, tmp_path):
    found = load(given, labels=IDS)
    assert is_mapped(found.images.array)
    assert found.images.array.dtype == dtype
    assert found.images.array.dtype.isnative
    np.testing.assert_array_equal(found.images.array, given.astype(dtype))
    assert words in caplog.text
    (kept,) = (tmp_path / "cache").iterdir()
    assert str(kept) in caplog.text
    caplog.clear()
    before = kept.stat().st_mtime_ns
    again = load("embeddings.npy", labels=IDS)
    assert not caplog.text
    assert kept.stat().st_mtime_ns == before
    assert again.checksum == found.checksum


def test_a_changed_file_is_converted_again_and_the_old_one_goes(load, tmp_path):
    load(vectors(np.float64), labels=IDS)
    found = load(vectors(np.float64) + 1, labels=IDS)
    np.testing.assert_array_equal(found.images.array, (vectors(np.float64) + 1).astype(np.float32))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_cache_is_made_again(load, tmp_path):
    load(vectors(np.float64), labels=IDS)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:-5])
    found = load("embeddings.npy", labels=IDS)
    np.testing.assert_array_equal(found.images.array, vectors(np.float64).astype(np.float32))


def test_a_cache_that_cannot_be_written_is_told_in_one_sentence(load, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match=r"the cache .*cache cannot be written .*0\.0 MB"):
        load(vectors(np.float64), labels=IDS)


def test_a_disk_without_room_is_told_before_writing(load, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="cannot be written .No space left on device.*make room"):
        load(vectors(np.float64), labels=IDS)


def test_what_killed_processes_left_is_removed(load, tmp_path):
    (tmp_path / "cache").mkdir()
    old, new = tmp_path / "cache" / ".a.npy.1.part", tmp_path / "cache" / ".a.npy.2.part"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (0, 0))
    load(vectors(np.float64), labels=IDS)
    assert not old.exists()
    assert new.exists()


def test_a_full_disk_leaves_nothing_behind(load, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(DataError, match="cannot be written .No space left on device.*make room"):
        load(vectors(np.float64), labels=IDS)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (fixed(vectors()), np.float16),
        (fixed(vectors(np.float32)), np.float32),
        (pa.array(list(vectors(np.float64)), pa.list_(pa.float64())), np.float32),
        (pa.array(list(vectors(np.float32)), pa.large_list(pa.float32())), np.float32),
    ],
)
def test_a_parquet_file_is_written_into_the_cache_by_row_groups(load, tmp_path, column, dtype):
    names = [f"{i}.jpg" for i in range(N)]
    words = ["train", "query", "database"]
    table = {
        "embedding": column,
        "label": pa.array(["cat", "dog", "an owl"] * 20).dictionary_encode(),
        "name": names,
        "split": words * 20,
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet", row_group_size=7)
    found = load("x.parquet")
    assert is_mapped(found.images.array)
    assert found.images.array.dtype == dtype
    np.testing.assert_array_equal(found.images.array, np.array(column.to_pylist(), dtype))
    assert found.class_names == ("an owl", "cat", "dog")
    assert found.labels.argmax(axis=1)[:4].tolist() == [1, 2, 0, 1]
    assert list(found.images.names) == names
    assert found.splits.query.tolist() == list(range(1, N, 3))


def test_parquet_lists_are_labels_and_rows_without_any_are_told(load, tmp_path, caplog):
    lists = [["a", "b"], ["b"], []] * 19 + [["c"], None, ["a"]]
    table = pa.table({"embedding": fixed(vectors()), "labels": lists})
    pq.write_table(table, tmp_path / "x.parquet")
    found = load("x.parquet")
    assert found.class_names == ("a", "b", "c")
    assert found.labels[:3].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.labels[-3:].tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert "20 of 60 rows have no label" in caplog.text
    assert "20 of 60 rows have no label" in found.provenance


def test_parquet_lists_of_ids_and_of_columns(load, tmp_path):
    ids = pa.table({"embedding": fixed(vectors()), "labels": [[0, 2], [1], [3]] * 20})
    pq.write_table(ids, tmp_path / "x.parquet")
    assert load("x.parquet").labels[:2].tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    columns = pa.table({"embedding": fixed(vectors()), "labels": [[0, 1, 1], [1, 0, 0]] * 30})
    pq.write_table(columns, tmp_path / "y.parquet")
    assert load("y.parquet").labels[:2].tolist() == [[0, 1, 1], [1, 0, 0]]
    two = pa.table({"embedding": fixed(vectors()), "labels": [[0, 1], [1, 0]] * 30})
    pq.write_table(two, tmp_path / "z.parquet")
    assert load("z.parquet").labels[:2].tolist() == [[0, 1], [1, 0]]
    pairs = pa.array([[0, 2], [1, 0]] * 30, pa.list_(pa.int32(), 2))
    pq.write_table(
        pa.table({"embedding": fixed(vectors()), "labels": pairs}), tmp_path / "p.parquet"
    )
    assert load("p.parquet").labels[:2].tolist() == [[1, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "names", "first"),
    [
        (np.array(["b", "a", "b"] * 20), ("a", "b"), [[0, 1], [1, 0], [0, 1]]),
        (np.array([b"b", b"\xe9", b"b"] * 20), ("b", "\ufffd"), [[1, 0], [0, 1], [1, 0]]),
        (np.array([b"b", b"a", b"b"] * 20), ("a", "b"), [[0, 1], [1, 0], [0, 1]]),
        (["b", "a", "b"] * 20, ("a", "b"), [[0, 1], [1, 0], [0, 1]]),
        (["b, a", "a", "b"] * 20, ("a", "b"), [[1, 1], [1, 0], [0, 1]]),
        (["10", "9", "10"] * 20, ("9", "10"), [[0, 1], [1, 0], [0, 1]]),
        (np.array([[1, 1], [1, 0], [0, 1]] * 20), ("0", "1"), [[1, 1], [1, 0], [0, 1]]),
        (np.array([[1, 1], [1, 0], [0, 1]] * 20, bool), ("0", "1"), [[1, 1], [1, 0], [0, 1]]),
        (np.array([2, 0, 2] * 20, np.uint8), ("0", "1", "2"), [[0, 0, 1], [1, 0, 0], [0, 0, 1]]),
        (np.array([2, 0, 2] * 20, ">i8"), ("0", "1", "2"), [[0, 0, 1], [1, 0, 0], [0, 0, 1]]),
    ],
)
def test_labels_of_any_form(load, labels, names, first):
    found = load(vectors(), labels=labels)
    assert found.class_names == names
    assert found.labels.dtype == np.uint8
    assert found.labels[:3].tolist() == first


def test_classes_txt_names_ids(load, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\nyak\n")
    found = load(vectors(), labels=IDS)
    assert found.class_names == ("cat", "dog", "owl", "yak")
    assert found.labels.shape == (N, 4)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="names 2 classes, but ids go up to 2"):
        load(vectors(), labels=IDS)


def test_splits_are_drawn_of_each_class_from_the_seed_alone(load):
    found, again, other = (load(vectors(), labels=IDS * 7, seed=seed) for seed in (0, 0, 1))
    assert [len(rows) for rows in found.splits.by_name().values()] == [30, 6, 24]
    assert np.bincount(IDS[found.splits.query]).tolist() == [2, 2, 2]
    for name, rows in found.splits.by_name().items():
        np.testing.assert_array_equal(rows, again.splits.by_name()[name])
    assert other.splits.query.tolist() != found.splits.query.tolist()
    assert other.checksum != found.checksum == again.checksum
    sizes = load(vectors(), labels=IDS, rules=FolderSplits(3, 4, "train_and_rest")).splits
    assert [len(rows) for rows in sizes.by_name().values()] == [12, 9, 51]


def test_with_several_labels_rows_are_drawn_over_all(load):
    labels = ["a,b", "b", "c"] * 20
    splits = load(vectors(), labels=labels).splits
    rows = np.concatenate(list(splits.by_name().values()))
    assert sorted(rows) == list(range(N))
    assert [len(x) for x in splits.by_name().values()] == [30, 6, 24]
    with pytest.raises(
        DataError, match=r"train_per_class=3 means nothing here: rows of .* several"
    ):
        load(vectors(), labels=labels, rules=FolderSplits(train_per_class=3))


def test_splits_that_are_given(load):
    words = ["query", "database", "train", "train"] * 15
    splits = load(vectors(), labels=IDS, split_file=words).splits
    assert splits.query.tolist() == list(range(0, N, 4))
    assert splits.train[:4].tolist() == [2, 3, 6, 7]
    rules = FolderSplits(database="train_and_rest")
    both = load(vectors(), labels=IDS, split_file=np.array(words), rules=rules).splits
    assert both.database.tolist() == [*splits.train, *splits.database]
    with pytest.raises(
        DataError, match="query_per_class=2 means nothing here: split_file.txt says"
    ):
        load(vectors(), labels=IDS, split_file=words, rules=FolderSplits(query_per_class=2))
    words[5] = "test"
    with pytest.raises(DataError, match=r"'test' \(row 5\) is no split; accepted: train, query"):
        load(vectors(), labels=IDS, split_file=words)


@pytest.mark.parametrize(
    ("letter", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (" ", ""), (",", "")]
)
def test_lines_that_seem_to_be_parted_by_something_else_are_told(load, caplog, letter, words):
    load(vectors(), labels=[f"cat{letter}{'abc'[i]}" for i in IDS])
    told = f"are read as one label with {words}; if these part labels, write commas"
    assert (told in caplog.text) if words else not caplog.text
    caplog.clear()
    load(vectors(), labels=["cat;a", "dog", "cow"] * 20)  # a name may have such a letter
    load(vectors(), labels=["a; b, c", "d; e, f"] * 30)  # of lines that commas part
    assert not caplog.text


@pytest.mark.parametrize(("between", "columns"), [(" ", 3), (",", 2)])
def test_columns_in_a_text_are_told(load, caplog, between, columns):
    rows = np.eye(columns, dtype=int)[np.arange(N) % columns].tolist()
    load(vectors(), labels=[between.join(map(str, row)) for row in rows])
    first = between.join(["1", *"0" * (columns - 1)])
    assert f"such as {first!r}, are read as labels named 0 and 1; if they are" in caplog.text


def test_a_text_with_the_line_ends_of_old_macs_is_named(load, tmp_path):
    (tmp_path / "x.txt").write_bytes(b"cat\rdog\r" * 30)
    with pytest.raises(DataError, match=r"x.txt: its lines end with CR.*; save it with LF"):
        load(vectors(), labels="x.txt")


def test_a_split_that_a_file_leaves_empty_is_told_as_such(load):
    words = ["database", "database", "train", "train"] * 15
    (reason,) = empty_splits(load(vectors(), labels=IDS, split_file=words)).values()
    assert "a file that says the splits needs rows `query`" in reason


def test_the_checksum_is_that_of_vectors_labels_names_and_splits(load):
    first = load(vectors(), labels=IDS).checksum
    changed = vectors()
    changed[7, 3] += 1
    others = [
        load(changed, labels=IDS),
        load(vectors(), labels=(IDS + 1) % 3),
        load(vectors(), labels=IDS, names=[f"{i}" for i in range(N)]),
        load(vectors(), labels=IDS, rules=FolderSplits(query_per_class=1)),
    ]
    assert len({first, *(other.checksum for other in others)}) == 5


def test_pictures_where_names_lead_to_images(load, tmp_path):
    from PIL import Image

    from input_pipeline.images.thumbnails import load_thumbnails

    names = [f"{i}.png" for i in range(N)]
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "images" / "3.png")
    found = load(vectors(), str(tmp_path / "images"), labels=IDS, names=names)
    shown = load_thumbnails(found.images, [2, 3])
    assert list(shown) == [3]
    assert shown[3].shape == (20, 30, 3)
    without = load(vectors(), labels=IDS, names=names)
    assert load_thumbnails(without.images, [2, 3]) == {}
    with pytest.raises(DataError, match="none of the first 60 names, such as '0.png', leads to"):
        load(vectors(), str(tmp_path), labels=IDS, names=names)
    with pytest.raises(DataError, match="there are no names: give them with --config.data.names"):
        load(vectors(), str(tmp_path), labels=IDS)


def bad_rows() -> np.ndarray:
    array = vectors(np.float32)
    array[3, 2] = np.nan
    array[[4, 50], 7] = -np.inf
    array[9] = 0
    array[9, 1] = -0.0
    return array


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_that_cannot_be_used_are_counted_and_named(load, dtype):
    names = [f"{i}.jpg" for i in range(N)]
    with pytest.raises(DataError) as error:
        load(bad_rows().astype(dtype), labels=IDS, names=names)
    assert str(error.value).startswith(
        "embeddings.npy: 4 of 60 vectors cannot be used: 1 with NaN (row 3, '3.jpg'); 2 with infinite "
        "numbers (row 4, '4.jpg', row 50, '50.jpg'); 1 of zeros (row 9, '9.jpg'). "
    )


def test_float64_beyond_float32_is_to_be_scaled(load, tmp_path):
    array = vectors(np.float64)
    array[5] = 1e300
    told = r"row 5 has numbers beyond float32's range .*and float64 is read as float32; scale the v"
    with pytest.raises(DataError, match=f"embeddings.npy: {told}"):
        load(array, labels=IDS)
    np.savez_compressed(tmp_path / "x.npz", embeddings=array, labels=IDS)
    with pytest.raises(DataError, match=f"x.npz: embeddings: {told}"):
        load("x.npz")
    table = {"embedding": pa.array(list(array), pa.list_(pa.float64())), "label": IDS}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"x.parquet: {told}"):
        load("x.parquet")
    assert not list((tmp_path / "cache").iterdir())


def test_the_row_beyond_float32_is_counted_over_the_whole_file(load):
    many = np.ones((70_000, D))
    many[69_999, 3] = -1e39
    with pytest.raises(DataError, match=r"row 69999 has numbers beyond float32's range"):
        load(many, labels=np.arange(70_000) % 2)


BAD_ARRAYS = {
    "integers": (vectors().astype(np.int8), "holds int8 .60, 8.: whole numbers. Undo the quant"),
    "flat": (vectors().ravel(), r"holds float16 \[480\]; reshape it to one row an image"),
    "cubic": (vectors()[None], r"holds float16 \[1, 60, 8\]; reshape"),
    "empty": (vectors()[:0], r"holds float16 \[0, 8\], which is empty"),
    "of no width": (vectors()[:, :0], r"holds float16 \[60, 0\], which is empty"),
    "objects": (np.array([[1, None]]), "holds Python objects, which are not read"),
    "complex": (vectors().astype(np.complex64), "holds complex64 .*save it as float32"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_are_no_vectors(load, case, tmp_path):
    array, words = BAD_ARRAYS[case]
    with pytest.raises(DataError, match=words):
        load(array, labels=IDS)
    np.savez(tmp_path / "x.npz", embeddings=array, labels=IDS)
    with pytest.raises(DataError, match=words):
        load("x.npz")


BAD_LABELS = {
    "floats": (IDS.astype(float), r"labels.npy holds float64 \[60\] of floating point"),
    "negative": (IDS - 1, "labels.npy holds -1 in row 0: class ids are 0 to 65,535"),
    "negative text": (["0", "-1", "1"] * 20, "labels.txt holds -1: class ids are not negative"),
    "huge": (IDS + 10**9, r"holds 1000000002 in row 2: class ids"),
    "beyond 0/1": (np.eye(3, dtype=int)[IDS] * 2, "holds 2 in row 0: columns are 0 or 1. accepted"),
    "one column": (np.ones((N, 1), int), "has 1 column, and two classes"),
    "cubic": (np.ones((N, 1, 1), int), r"holds int64 \[60, 1, 1\], which are no labels"),
    "objects": (np.array([None] * N), "Python objects"),
    "short": (IDS[:-1], "labels.npy: 59 rows for 60 vectors of embeddings.npy; give one for each"),
    "short text": (["a", "b"], "labels.txt: 2 rows for 60 vectors"),
    "unlabelled": (["a", "", "b"] * 20, r"20 of 60 rows have no label \(row 1, row 4, row 7 and 17"),
    "unlabelled string": (np.array(["a", " ", "b"] * 20), "20 of 60 rows have no label"),
    "decimal text": (["1.0", "0.0"] * 30, "numbers of floating point, such as 0.0, 1.0"),
    "none at all": ([","] * N, "labels.txt has no label in any of 60 rows"),
    "names in front": (
        [f"{i}.jpg,cat" for i in range(N)],
        "every line begins with another word, such as '0.jpg,cat': are these names",
    ),
    "with a heading": (["label", *"ab" * 30], "labels.txt: 61 rows for 60 .*is the first line a head"),
    "savetxt": (["1.000000e+00", "0.0e+00"] * 30, "numbers of floating point"),
    "columns as text": (["0,1,0", "1,0,0"] * 30, "label '0' twice in row 0; are these 0/1 columns"),
    "twice": (["a,b,a", "b,c"] * 30, "has the label 'a' twice in row 0$"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_are_none(load, case):
    labels, words = BAD_LABELS[case]
    with pytest.raises(DataError, match=words):
        load(vectors(), labels=labels)


def test_no_labels_and_no_file(load):
    with pytest.raises(DataError, match="embeddings.npy has no labels.*--config.data.labels=FILE"):
        load(vectors())
    with pytest.raises(
        ValueError, match="say where the vectors are: --config.data.embeddings=FILE"
    ):
        load(None)
    with pytest.raises(DataError, match="no.npy: there is no such file. accepted: .npy; .npz"):
        load("no.npy")
    with pytest.raises(DataError, match="is a folder; give a file"):
        load("/")
    with pytest.raises(DataError, match="gs://x.npy: such files are mapped from a disk"):
        load("gs://x.npy")


def test_names_of_another_number(load):
    with pytest.raises(DataError, match=r"names.txt: 2 rows for 60 vectors of embeddings.npy"):
        load(vectors(), labels=IDS, names=["a", "b"])


OTHERS = {
    "x.csv": (b"0.1,0.2\n0.3,0.4\n", "x.csv holds no vectors: it is text, such as CSV: read it"),
    "x.jpg": (b"\xff\xd8\xff\xe0", "x.jpg holds no vectors: it is a JPEG image. accepted: .npy"),
    "x.pkl": (b"\x80\x04\x95", "it is a Python pickle"),
    "x.h5": (b"\x89HDF\r\n", "it is an HDF5 file"),
    "x.npy": (b"", "it is empty"),
    "x.zip": (b"PK\x03\x04", "x.zip cannot be read: it is damaged or not whole"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files(load, tmp_path, name):
    content, words = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(name, labels=IDS)


def write_parquet(path: Path, **columns) -> None:
    pq.write_table(pa.table({"embedding": fixed(vectors()), "label": IDS, **columns}), path)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed", "parquet"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.97])
def test_truncated_files(load, tmp_path, kind, kept):
    path = tmp_path / f"x.{'npz' if kind == 'compressed' else kind}"
    if kind == "npy":
        np.save(path, vectors())
    elif kind == "parquet":
        write_parquet(path)
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(path, embeddings=vectors(), labels=IDS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match="cannot be read: it is damaged or not whole") as error:
        load(path.name, labels=IDS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_damage_in_the_middle_is_one_message_or_none(load, tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        write_parquet(path)
    else:
        np.savez(path, embeddings=vectors(), labels=IDS)
    whole = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        for place in random.integers(0, len(whole), 4):
            damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load(path.name)
        except (DataError, ValueError) as error:
            assert str(error).count("\n") == 0, error


BAD_PARQUET = {
    "no vectors": ({"x": [1]}, r"x.parquet has x; accepted: a column embedding"),
    "strings": ({"embedding": ["a"]}, "column embedding holds string; accepted"),
    "integers": ({"embedding": [[1, 2]]}, "column embedding holds list<.*int64>"),
    "widths": ({"embedding": [[1.0, 2.0], [1.0]]}, "row 1 has 1 numbers and row 0 has 2"),
    "null": ({"embedding": [[1.0, 2.0], None]}, "row 1 has 0 numbers and row 0 has 2"),
    "no rows": ({"embedding": pa.array([], pa.list_(pa.float32()))}, "has no rows"),
    "a hole of float16": (
        {"embedding": pa.array([[np.float16(1), None]], pa.list_(pa.float16())), "label": ["a"]},
        r"1 with NaN \(row 0\)",
    ),
    "a hole": ({"embedding": [[1.0, None]], "label": ["a"]}, r"1 with NaN \(row 0\)"),
    "float labels": ({"embedding": [[1.0]], "label": [1.5]}, "label holds 1.5, which is no label"),
    "name": ({"embedding": [[1.0]], "label": ["a"], "name": [None]}, "name holds None in row 0"),
    "unlabelled": (
        {"embedding": [[1.0], [2.0]], "label": ["a", None]},
        r"x.parquet: labels: 1 of 2 rows have no label \(row 1\)",
    ),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_parquet_columns_that_cannot_be_used(load, tmp_path, case):
    columns, words = BAD_PARQUET[case]
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=words):
        load("x.parquet")


def test_without_pyarrow_its_pip_line_is_told(load, tmp_path, monkeypatch):
    write_parquet(tmp_path / "x.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs pyarrow: pip install pyarrow"):
        load("x.parquet")


def test_an_archive_without_the_array_says_what_it_has(load, tmp_path):
    np.savez(tmp_path / "x.npz", features=vectors())
    with pytest.raises(DataError, match="has no array embeddings; it has features.npy: write it"):
        load("x.npz", labels=IDS)


def test_a_pickle_is_never_opened(load, tmp_path):
    np.save(tmp_path / "x.npy", np.array([["a", None]], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "embeddings.npy")
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match="holds Python objects, which are not read"):
            load(name, labels=IDS)


def test_parquet_text_that_is_not_utf8(load, tmp_path):
    names = pa.array([b"\xe9"] * N).view(pa.string())
    write_parquet(tmp_path / "x.parquet", name=names)
    with pytest.raises(DataError, match="x.parquet cannot be read: it is damaged or not whole"):
        load("x.parquet")


@pytest.mark.parametrize("order", "<>")
def test_text_of_a_damaged_file_is_refused(load, tmp_path, order):
    """Python makes strings of such numbers, and fails wherever these are used."""
    damaged = np.array([f"{i}.jpg" for i in range(N)], f"{order}U6")
    damaged.view(f"{order}u4")[7] = sys.maxunicode + 1
    arrays = {"labels": IDS, "embeddings": vectors()}
    np.savez(tmp_path / "x.npz", names=damaged, **arrays)
    np.savez_compressed(tmp_path / "y.npz", names=damaged, **arrays)
    told = r"{} cannot be read: it is damaged"
    for name in ("x.npz", "y.npz"):
        with pytest.raises(DataError, match=told.format(f"{name}: names")):
            load(name)
    for name in ("names", "labels", "split_file"):
        with pytest.raises(DataError, match=told.format(f"{name}.npy")):
            load(vectors(), **{"labels": IDS, name: damaged})


def test_a_row_far_into_a_file_is_named_by_its_number(load):
    many = np.ones((2**20, 4), np.float16)
    many[700_000] = np.nan
    many[-1] = 0
    with pytest.raises(DataError, match=r"1 with NaN .row 700000.; 1 of zeros .row 1048575."):
        load(many, labels=np.arange(2**20) % 2)


def test_columns_far_into_a_file_are_checked(load):
    labels = np.zeros((70_000, 2), np.int8)
    labels[:, 0] = 1
    labels[69_000, 1] = 3
    with pytest.raises(DataError, match="holds 3 in row 69000: columns are 0 or 1"):
        load(np.ones((70_000, 2), np.float16), labels=labels)


@pytest.mark.parametrize("word", ["PK", "RIFF", "MATLAB", "GIF8", "%PDF"])
def test_a_label_that_binary_files_also_begin_with(load, word):
    data = load(vectors(), labels=[f"{word} one", "other"] * 30)
    assert set(data.class_names) == {f"{word} one", "other"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x05\x06" + bytes(18), "a zip archive"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "a RIFF file"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"GIF89a", "a GIF image"),
    ],
)
def test_labels_that_are_another_kind_of_file(load, tmp_path, content, kind):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"labels.txt is {kind}.*; accepted: .npy, or text"):
        load(vectors(), labels="labels.txt")


def test_text_that_is_not_utf8(load, tmp_path):
    (tmp_path / "labels.txt").write_bytes("a\nb\n".encode("utf-16"))
    with pytest.raises(DataError, match="labels.txt is UTF-16; accepted: .npy, or text in UTF-8"):
        load(vectors(), labels="labels.txt")
    (tmp_path / "labels.txt").write_bytes(b"a\nb\n\xe9\n" + b"x" * 999)
    with pytest.raises(DataError, match="labels.txt:3: text that is not UTF-8; save it as UTF-8"):
        load(vectors(), labels="labels.txt")
    (tmp_path / "labels.txt").write_text("chat\nélève\n" * 30, encoding="latin-1")
    with pytest.raises(DataError, match="labels.txt:2: text that is not UTF-8; save it as UTF-8"):
        load(vectors(), labels="labels.txt")
    (tmp_path / "classes.txt").write_text("chat\nélève\nthé\n", encoding="latin-1")
    with pytest.raises(DataError, match="classes.txt:2: text that is not UTF-8; save it as UTF-8"):
        load(vectors(), labels=IDS)
    (tmp_path / "x.csv").write_text("élève,été\n" * 30, encoding="latin-1")
    with pytest.raises(DataError, match="it is text that is not UTF-8, such as CSV: read it"):
        load("x.csv", labels=IDS)


def test_a_byte_order_mark_is_no_part_of_the_text(load, tmp_path):
    texts = {"labels": ["b", "a", "b"], "names": ["é", "y", "z"], "split_file": ["query", "train"]}
    texts["split_file"] += ["database"]
    files = {name: f"{name}.txt" for name in texts}
    for name, lines in texts.items():
        (tmp_path / files[name]).write_text("\r\n".join(lines * 20), encoding="utf-8-sig")
    found = load(vectors(), **files)
    assert found.class_names == ("a", "b")
    assert found.images.names[:3] == texts["names"]
    assert found.splits.query[0] == 0


def test_text_with_letters_that_do_not_show_is_text(load):
    family, soft = "\U0001f468\u200d\U0001f469", "a\u00adb"
    assert load(vectors(), labels=[family, soft] * 30).class_names == (soft, family)


def test_nothing_is_said_of_files_that_are_well(load, caplog):
    with caplog.at_level(logging.INFO):
        load(vectors(), labels=IDS)
    assert not caplog.text


def test_a_large_file_is_never_copied_whole(load, tmp_path):
    """Neither by the checks nor by a batch, also where it lies at an odd address."""
    size = 2**25
    many = np.lib.stride_tricks.as_strided(vectors(), (size // 16, 8), (0, 2))
    ids = np.arange(len(many)) % 2
    np.save(tmp_path / "x.npy", many)
    names: dict[str, Any] = {"a" * odd: np.zeros(3, np.uint8) for odd in (1, 2)}
    for number, name in enumerate(names):
        np.savez(tmp_path / f"{number}.npz", **{name: names[name]}, embeddings=many)
    np.save(tmp_path / "ids.npy", ids)
    aligned = set()
    for file in ("x.npy", "0.npz", "1.npz"):
        tracemalloc.start()
        array = open_vectors(tmp_path / file, tmp_path / "cache").array
        check_rows(array, (), file)
        images, _ = ArraySource(array).images(np.array([5, -1, 7]), None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(images, [many[5], np.zeros(8), many[7]])
        assert images.dtype == np.float16
        assert peak < size / 2, file
        aligned.add(array.flags.aligned)
    assert aligned == {False, True}

"""What is added comes out again, in the generation in which it was looked at."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hybridhash_jax.codes.binary import pack
from hybridhash_jax.retrieval.index import (
    IndexFileError,
    Known,
    create_index,
    open_index,
    open_writer,
    thumbnails,
    to_packed,
    to_words,
)
from tests.retrieval.index.made import MODEL, codes_of, entry_of, hashes_of, make

ODD = [b"cat/new\nline.jpg", b"\xff\xfe/no utf-8.jpg", b'a,"b".png', "Ä/é.jpg".encode()]


@pytest.mark.parametrize("bits", [16, 32, 48, 64, 100, 128])
def test_codes_of_any_length_come_out_as_they_were_added(tmp_path, bits):
    codes = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (5, bits))
    model = MODEL.__class__("f", bits, "m", "float32", "cpu", {})
    create_index(tmp_path / "i", model, None)
    with open_writer(tmp_path / "i") as writer:
        writer.add([entry_of(b"%d" % number) for number in range(5)], pack(codes))
    index = open_index(tmp_path / "i")
    assert index.words == -(-bits // 64)
    (segment,) = index.segments
    # Bit 0 is the highest of the first byte, which is the lowest of the first word.
    assert (segment.codes[:, 0] >> np.uint64(7) & np.uint64(1)).tolist() == (
        codes[:, 0] == 1
    ).tolist()
    difference = np.bitwise_count if hasattr(np, "bitwise_count") else None
    if difference:
        distances = difference(segment.codes ^ segment.codes[0]).sum(axis=1)
        assert distances.tolist() == (codes != codes[0]).sum(axis=1).tolist()
    np.testing.assert_array_equal(index.packed([4, 0]), pack(codes)[[4, 0]])


def test_words_are_filled_up_with_zeros():
    words = to_words(np.array([[1, 2, 0, 0, 0, 0, 0, 0, 255]], np.uint8))
    assert words.tolist() == [[0x201, 255]]
    assert to_packed(words, 72).tolist() == [[1, 2, 0, 0, 0, 0, 0, 0, 255]]


def test_paths_may_hold_any_byte(tmp_path):
    index = open_index(make(tmp_path / "i", ODD))
    assert index.paths()[0] == ODD
    assert [entry.path for entry in index.entries([3, 1, 1])] == [ODD[3], ODD[1], ODD[1]]
    assert [index.row_of(path) for path in ODD] == [0, 1, 2, 3]
    assert index.labels() == {"": 1, "cat": 1, "Ä": 1, r"\xff\xfe": 1}
    for label in ("\udcff\udcfe", r"\xff\xfe"):
        assert index.matching([("label", label)]).tolist() == [False, True, False, False]


def test_threads_share_an_index(tmp_path):
    paths = [b"%03d.jpg" % number for number in range(200)]
    index = open_index(make(tmp_path / "i", paths))

    def read(thread: int) -> bool:
        places = np.random.default_rng(thread).integers(0, 200, (150, 3)).tolist()
        return all(
            [entry.path for entry in index.entries(rows)] == [paths[row] for row in rows]
            and index.row_of(paths[rows[0]]) == rows[0]
            for rows in places
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(8)))


def test_an_image_that_is_encoded_again_replaces_its_old_row(tmp_path):
    path = make(tmp_path / "i", [b"a", b"b"])
    with open_writer(path) as writer:
        writer.add([entry_of(b"b", size=11)], codes_of([b"b"], salt=1), hashes_of([b"b"]))
    index = open_index(path)
    assert (len(index), index.num_rows, index.alive.tolist()) == (2, 3, [True, False, True])
    assert index.row_of(b"b") == 2
    assert index.entries([2])[0].size == 11
    assert index.packed([2]).tolist() == codes_of([b"b"], salt=1).tolist()
    assert len(index.segments) == 2
    assert index.segments[1].first_row == 2


def test_a_reader_keeps_its_generation(tmp_path):
    path = make(tmp_path / "i", [b"a", b"b"])
    before = open_index(path)
    with open_writer(path) as writer:
        writer.add([entry_of(b"b"), entry_of(b"c")], codes_of([b"b", b"c"], salt=1))
        assert writer.remove([b"a", b"nowhere"]) == 1
        between = writer.index
        writer.remove([b"c"])
    assert before.paths()[0] == [b"a", b"b"]
    assert (before.row_of(b"b"), before.row_of(b"c")) == (1, None)
    assert before.matching([("path", "*")]).tolist() == [True, True]
    assert before.labels() == {"": 2}
    assert between.paths()[0] == [b"b", b"c"]
    after = open_index(path)
    assert after.paths()[0] == [b"b"]
    assert before.generation < between.generation < after.generation


def test_known_files_are_those_that_are_searched(tmp_path):
    path = make(tmp_path / "i", [b"b", b"a"], [b"c"])
    with open_writer(path) as writer:
        known = writer.known()
        writer.remove([b"a"])
        assert dict(known) == {b"b": Known(0, 10, 20), b"c": Known(2, 10, 20)}
        assert b"a" not in known
        assert len(writer.known()) == 2


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ([("label", "2024")], [b"2024/a.jpg", b"2024/b.png"]),
        ([("path", "2024/*")], [b"2024/a.jpg", b"2024/b.png"]),
        ([("path", "2024/?.jpg")], [b"2024/a.jpg"]),
        ([("path", "*.jpg")], [b"2024/a.jpg", b"2025/a.jpg"]),
        ([("path", "202[5]/*")], [b"2025/a.jpg"]),
        ([("path", "2024/a.jpg")], [b"2024/a.jpg"]),
        ([("path", "*.jpg"), ("label", "2024")], [b"2024/a.jpg"]),
        ([("label", "none such")], []),
        ([], [b"2024/a.jpg", b"2024/b.png", b"2025/a.jpg"]),
    ],
)
def test_conditions_choose_rows(tmp_path, where, expected):
    path = make(tmp_path / "i", [b"2024/a.jpg", b"2024/b.png", b"2025/a.jpg", b"2024/gone.jpg"])
    with open_writer(path) as writer:
        writer.remove([b"2024/gone.jpg"])
    index = open_index(path)
    rows = np.flatnonzero(index.matching(where))
    assert [entry.path for entry in index.entries(rows)] == expected


def test_an_unknown_condition_names_those_there_are(tmp_path):
    with pytest.raises(IndexFileError, match="'colour'; give label or path"):
        open_index(make(tmp_path / "i", [b"a"])).matching([("colour", "red")])


def test_labels_of_many_images_that_are_gone_take_few_queries(tmp_path):
    paths = [b"%d/%04d" % (number % 3, number) for number in range(3000)]
    path = make(tmp_path / "i", paths)
    with open_writer(path) as writer:
        writer.remove([name for name in paths if name < b"1/" or name.endswith(b"1")])
    index = open_index(path)
    asked: list[str] = []
    index._connection.set_trace_callback(asked.append)
    assert index.labels() == {"1": 900, "2": 900}
    assert len(asked) < 10


def test_thumbnails_are_kept_and_may_be_lost(tmp_path):
    path = make(tmp_path / "i")
    with open_writer(path) as writer:
        paths = [b"a", b"b", b"c"]
        entries = [entry_of(name) for name in paths]
        writer.add(entries, codes_of(paths), thumbnails=[b"JPEG a", None, b"JPEG c"])
        writer.remove([b"c"])
    index = open_index(path)
    assert [index.thumbnail(row) for row in range(3)] == [b"JPEG a", None, None]
    (path / "thumbnails.sqlite").write_bytes(b"damaged" * 1000)
    assert index.thumbnail(0) is None
    with open_writer(path) as writer:
        writer.add([entry_of(b"d")], codes_of([b"d"]), thumbnails=[b"JPEG d"])
    assert open_index(path).thumbnail(3) == b"JPEG d"


def test_files_beside_are_checked(tmp_path):
    index = open_index(make(tmp_path / "i"))
    assert index.file("encoder.npz") == b"weights"
    with pytest.raises(IndexFileError, match="there is: encoder.npz"):
        index.file("other.npz")
    (tmp_path / "i" / "files" / "encoder.npz").write_bytes(b"Weights")
    with pytest.raises(IndexFileError, match="encoder.npz is damaged"):
        index.file("encoder.npz")


def test_a_sample_is_the_same_each_time(tmp_path):
    index = open_index(make(tmp_path / "i", [b"%d" % number for number in range(9)]))
    rows = index.sample(4)
    assert len(set(rows.tolist())) == 4
    assert rows.tolist() == index.sample(4).tolist() != index.sample(4, seed=1).tolist()
    assert index.sample(256).tolist() == list(range(9))


@pytest.mark.parametrize("wrong", [codes_of([b"a"], 32), codes_of([b"a", b"b"])])
def test_codes_of_another_shape_are_refused(tmp_path, wrong):
    with open_writer(make(tmp_path / "i")) as writer:
        with pytest.raises(ValueError, match=r"packed must be uint8 \[1, 8\]"):
            writer.add([entry_of(b"a")], wrong)
        with pytest.raises(ValueError, match="given twice"):
            writer.add([entry_of(b"a")] * 2, codes_of([b"a", b"a"]))
        assert not writer.known()


def test_codes_with_bits_behind_their_last_one_are_refused(tmp_path):
    model = dataclasses.replace(MODEL, bits=12)
    with open_writer(make(tmp_path / "i", model=model)) as writer:
        with pytest.raises(ValueError, match="12 bits leave the lowest 4 bits of the last byte 0"):
            writer.add([entry_of(b"a")], np.array([[255, 0b11110001]], np.uint8))
        writer.add([entry_of(b"a")], np.array([[255, 0b11110000]], np.uint8))


@pytest.mark.slow
def test_importing_it_loads_neither_jax_nor_numba():
    script = (
        "import sys, hybridhash_jax.retrieval.index.command;"
        "assert not {'jax', 'numba', 'scipy'} & sys.modules.keys()"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_thumbnails_beyond_the_limit_go_oldest_first(tmp_path):
    file, picture = tmp_path / "thumbnails.sqlite", b"J" * 10_000
    for number in range(40):
        thumbnails.keep(file, [(b"%d" % number, picture)], max_bytes=200_000)
    kept = [int(path) for path, _ in thumbnails.all_in(file)]
    assert kept == list(range(40 - len(kept), 40))
    assert 5 <= len(kept) <= 20
    assert file.stat().st_size < 300_000

"""What is kept is found again, and nothing that is damaged passes for it."""

import errno
import json
import os
import shutil

import numpy as np
import pytest

from hybridhash_jax.features import keys, row_files
from hybridhash_jax.features.store import needed_bytes, open_store
from input_pipeline.errors import DataError
from tests.features.stores import (
    ENTRY_BYTES,
    FACTS,
    ROW_BYTES,
    features,
    fill,
    images,
    is_right,
    messages,
    opened,
)  # fmt: skip


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level("INFO", "hybridhash_jax")


def test_a_second_start_computes_nothing(tmp_path):
    assert fill(opened(tmp_path), images(5)) == 5
    again = opened(tmp_path)
    assert len(again) == 5 and is_right(again, images(5))
    assert fill(again, images(5)) == 0


def test_subsets_supersets_and_equal_images_share_rows(tmp_path):
    fill(opened(tmp_path), images(5))
    subset = images(5)[[4, 1, 1]]
    assert len(opened(tmp_path).missing(subset)) == 0
    assert is_right(opened(tmp_path), subset)
    superset = np.concatenate([images(3, first=20), images(5), images(3, first=20)])
    np.testing.assert_array_equal(opened(tmp_path).missing(superset), [0, 1, 2])
    assert fill(opened(tmp_path), superset) == 3
    store = opened(tmp_path)
    assert len(store) == 8 and is_right(store, superset)
    assert store.num_bytes == 8 * (ROW_BYTES + ENTRY_BYTES) == needed_bytes(8, 2, (3,))


def test_the_rows_are_mapped_and_read_only(tmp_path):
    store = opened(tmp_path)
    assert store.array.shape == (0, 2, 3)
    fill(store, images(4))
    for one in (store, opened(tmp_path)):
        assert isinstance(one.array, np.memmap) and one.array.dtype == np.float16
        with pytest.raises(ValueError, match="read-only"):
            one.array[0] = 0


def test_opening_writes_nothing(tmp_path):
    opened(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "other", [{"parameters": "abd"}, {"stage": "features"}, {"image_size": 64}, {"new": None}]
)
def test_other_facts_are_another_key(tmp_path, other):
    fill(opened(tmp_path), images(2))
    assert len(opened(tmp_path, FACTS | other).missing(images(2))) == 2
    assert len(opened(tmp_path, dict(reversed(FACTS.items()))).missing(images(2))) == 0


def test_other_shapes_and_views_are_another_key(tmp_path, caplog):
    fill(opened(tmp_path), images(2))
    paths = {
        open_store(tmp_path, FACTS, shape, views=views).path
        for shape, views in [((3,), 2), ((3,), 1), ((6,), 1), ((1, 3), 2)]
    }
    assert len(paths) == 4 and not caplog.records  # nor another version


def test_absent_rows_and_appending_outside_are_refused(tmp_path):
    store = opened(tmp_path)
    with pytest.raises(DataError, match="no features of 2 of the 2 images"):
        store.rows(images(2))
    with pytest.raises(RuntimeError, match="store.writing"):
        store.append(images(2), features(images(2)))
    with store.writing(), pytest.raises(ValueError, match=r"must be \(2, 2, 3\), got \(1, 2, 3\)"):
        store.append(images(2), features(images(1)))
    with pytest.raises(ValueError, match=r"uint8 \[N, 16\]"):
        store.missing(images(2)[:, :8])


@pytest.mark.parametrize(
    ("value", "said"), [(7e4, "reach 7e[+]04, and kept features end at 65,504"), (np.nan, "finite"), (np.inf, "finite")]
)  # fmt: skip
def test_values_that_float16_lacks_are_refused_with_the_image(tmp_path, value, said):
    wrong = features(images(3))
    wrong[1, 0, 2] = value
    store = opened(tmp_path)
    with store.writing():
        with pytest.raises(DataError, match=f"1 of 3 images .*{said}.*[(]b.jpg[)]"):
            store.append(images(3), wrong, ["a.jpg", "b.jpg", "c.jpg"])
        with pytest.raises(DataError, match=images(3)[1].tobytes().hex()):
            store.append(images(3), wrong)
    assert len(opened(tmp_path)) == 0
    wrong[1, 0, 2] = 65504
    with store.writing():
        store.append(images(3), wrong)


@pytest.mark.parametrize("name", [row_files.ROWS, row_files.INDEX])
def test_a_file_cut_at_any_byte_loses_no_whole_row(tmp_path, name, caplog):
    fill(opened(tmp_path / "whole"), images(4))
    size = ROW_BYTES if name == row_files.ROWS else ENTRY_BYTES
    for length in range(size, 3 * size + 2):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        store = opened(tmp_path / "cut")
        os.truncate(store.path / name, length)
        store = opened(tmp_path / "cut")
        assert len(store) == length // size
        np.testing.assert_array_equal(store.missing(images(4)), range(length // size, 4))
        caplog.clear()
        assert fill(store, images(4)) == 4 - length // size
        assert "without a whole row" in messages(caplog)
        assert is_right(opened(tmp_path / "cut"), images(4))


@pytest.mark.parametrize("name", [row_files.ROWS, row_files.INDEX])
@pytest.mark.parametrize("byte", range(ENTRY_BYTES))
def test_a_changed_byte_is_noticed_and_costs_its_row(tmp_path, name, byte, caplog):
    fill(opened(tmp_path), images(4))
    path = opened(tmp_path).path / name
    size = ROW_BYTES if name == row_files.ROWS else ENTRY_BYTES
    data = bytearray(path.read_bytes())
    data[size + byte % size] ^= 0x10
    path.write_bytes(data)
    store = opened(tmp_path)
    np.testing.assert_array_equal(store.missing(images(4)), [1])
    is_sum = name == row_files.INDEX and byte < 16  # looks like an image that nobody asks for
    assert ("1 of the 4 rows" in messages(caplog)) != is_sum
    assert fill(store, images(4)) == 1
    caplog.clear()
    assert is_right(opened(tmp_path), images(4))  # by the row written last
    assert not caplog.records


@pytest.mark.parametrize("content", [b"\0", b"\xff", b"garbage "])
@pytest.mark.parametrize("name", [row_files.ROWS, row_files.INDEX])
def test_zeros_and_garbage_are_no_rows(tmp_path, name, content):
    fill(opened(tmp_path), images(4))
    path = opened(tmp_path).path / name
    size = path.stat().st_size
    path.write_bytes((content * size)[:size])
    zero = np.zeros((1, 16), np.uint8)
    sums = np.concatenate([images(4), zero])
    assert len(opened(tmp_path).missing(sums)) == 5
    fill(opened(tmp_path), images(4))
    assert is_right(opened(tmp_path), images(4))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"store": 1}', "\udcff", "[" * 100_000])
def test_facts_that_are_damaged_or_others_are_made_anew(tmp_path, text, caplog):
    fill(opened(tmp_path), images(3))
    old = opened(tmp_path)
    (old.path / keys.FACTS).write_bytes(text.encode(errors="surrogateescape"))
    store = opened(tmp_path)
    assert len(store) == 0
    assert messages(caplog).count("is damaged or not of its folder") == 1
    assert fill(store, images(3, first=1)) == 3
    assert is_right(opened(tmp_path), images(3, first=1))
    assert is_right(old, images(3))  # what it has mapped


def test_another_version_is_named_once_and_left(tmp_path, monkeypatch, caplog):
    fill(opened(tmp_path), images(3))
    before = opened(tmp_path).path
    facts = json.loads((before / keys.FACTS).read_text())
    assert facts["facts"] == FACTS and before.name == keys.key_of(facts)
    old = before.rename(tmp_path / keys.key_of(facts | {"store": 0}))
    (old / keys.FACTS).write_text(json.dumps(facts | {"store": 0}))
    store = opened(tmp_path)
    assert len(store) == 0 and f"{old} holds the same features as version 0" in messages(caplog)
    assert fill(store, images(3)) == 3
    caplog.clear()
    assert is_right(opened(tmp_path), images(3)) and not caplog.records


def without_room(monkeypatch, room: int) -> None:
    """A disk that takes so many bytes more, then is full; what fits is written."""
    left, real = [room], os.write

    def write(file, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, memoryview(data)[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(row_files.os, "write", write)


@pytest.mark.parametrize("room", [0, 1, ROW_BYTES, 3 * ROW_BYTES - 1, 3 * ROW_BYTES, 3 * ROW_BYTES + 7, 3 * ROW_BYTES + ENTRY_BYTES + 7])  # fmt: skip
def test_a_full_disk_leaves_whole_rows_and_says_what_to_change(tmp_path, monkeypatch, room):
    store = opened(tmp_path)
    fill(store, images(2))
    more = images(3, first=10)
    with monkeypatch.context() as full, store.writing():
        without_room(full, room)
        with pytest.raises(DataError) as refused:
            store.append(more, features(more))
        assert row_files.surplus(store.path, ROW_BYTES) == 0
        full.undo()
        extra = images(1, first=40)
        store.append(extra, features(extra))  # room again
    for part in ("the disk is full: 36 more bytes", str(store.path), "features.dir=", "features.budget_gb=", "features.keep=never"):  # fmt: skip
        assert part in str(refused.value)
    for one in (store, opened(tmp_path)):
        assert is_right(one, images(2)) and is_right(one, extra)
        assert len(one.missing(more)) == 3 - max(0, room - 3 * ROW_BYTES) // ENTRY_BYTES
    fill(opened(tmp_path), more)
    assert is_right(opened(tmp_path), more)


def test_a_disk_that_fails_is_named(tmp_path, monkeypatch):
    def fail(file):
        raise OSError(errno.EIO, "Input/output error")

    store = opened(tmp_path)
    with store.writing():
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(DataError, match=r"\(Input/output error\); name another"):
            store.append(images(2), features(images(2)))
    monkeypatch.undo()
    assert len(opened(tmp_path)) == 0


def test_what_another_wrote_in_spite_of_the_lock_is_not_taken_for_ours(tmp_path):
    store, other = opened(tmp_path), opened(tmp_path)
    with store.writing():
        os.rename(store.path / keys.LOCK, store.path / "lost")
        fill(other, images(3, first=30))
        store.append(images(2), features(images(2)))
        os.rename(store.path / "lost", store.path / keys.LOCK)
    for one in (store, opened(tmp_path)):
        assert is_right(one, np.concatenate([images(2), images(3, first=30)]))


def test_places_that_are_no_folder_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file, not a folder .*features.dir=FOLDER"):
        opened(tmp_path / "file")
    deeper = opened(tmp_path / "file" / "below")
    with pytest.raises(DataError, match=r"cannot be kept in .*\(Not a directory\); name another"), deeper.writing():  # fmt: skip
        pass
    with pytest.raises(DataError, match="cannot be kept in gs://bucket/x; give a local folder"):
        open_store("gs://bucket/x", FACTS, (3,))
    opened(tmp_path / "cache").path.parent.mkdir()
    opened(tmp_path / "cache").path.write_text("")
    with pytest.raises(DataError, match="is a file, not a folder"):
        opened(tmp_path / "cache")


@pytest.mark.parametrize("name", [row_files.ROWS, row_files.INDEX, keys.FACTS])
def test_folders_in_place_of_files_are_named(tmp_path, name):
    fill(opened(tmp_path), images(2))
    path = opened(tmp_path).path / name
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"(cannot be read from|kept in) .*\(Is a directory\)"):
        fill(opened(tmp_path), images(2))


def test_a_folder_that_cannot_be_written_is_refused_before_computing(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    fill(opened(tmp_path), images(2))
    store = opened(tmp_path)
    monkeypatch.setattr("hybridhash_jax.runtime.lock_file.os.open", refuse)
    with pytest.raises(DataError, match=r"\(Permission denied\); name another place with --config"):
        fill(store, images(3))
    assert is_right(opened(tmp_path), images(2))  # reading needs no right to write


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        open_store(keys.DEFAULT_DIRECTORY, FACTS, (3,)).path.parent
        == tmp_path / ".cache/hybridhash_jax/features"
    )

"""The cache stays within its budget, and loses what was not used for longest."""

import os
import shutil
from types import SimpleNamespace

import pytest

from hybridhash_jax.features import keys, row_files, space
from hybridhash_jax.features.space import make_room, prune
from hybridhash_jax.runtime import lock_file
from tests.features.stores import (
    ENTRY_BYTES,
    ROW_BYTES,
    fill,
    images,
    is_right,
    messages,
    opened,
)  # fmt: skip

KEY_BYTES = 4 * (ROW_BYTES + ENTRY_BYTES)


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level("INFO", "hybridhash_jax")


@pytest.fixture
def three(tmp_path):
    """Keys of four images each, the first used last longest ago."""
    stores = [opened(tmp_path, {"number": number}) for number in range(3)]
    for age, store in zip((300, 200, 100), stores, strict=True):
        fill(store, images(4))
        for name in os.listdir(store.path):
            os.utime(store.path / name, (1e9 - age, 1e9 - age))
    return stores


def test_the_least_recently_used_goes_first_and_is_named(tmp_path, three, caplog):
    first, second, third = (store.path for store in three)
    whole = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert prune(tmp_path, whole) == []
    opened(tmp_path, {"number": 0})  # used
    assert prune(tmp_path, whole - 1) == [second]
    assert str(second) in messages(caplog) and not second.exists()
    assert prune(tmp_path, 0, keep=[third]) == [first]
    assert prune(tmp_path / "absent", 0) == []


def test_what_is_in_use_stays_and_what_is_mapped_stays_readable(tmp_path, three):
    with three[0].writing():
        assert prune(tmp_path, 0) == [three[1].path, three[2].path]
    assert is_right(three[0], images(4)) and is_right(opened(tmp_path, {"number": 0}), images(4))
    assert is_right(three[1], images(4))
    assert fill(three[1], images(4)) == 4  # made again where it is gone


def test_files_of_others_are_never_removed(tmp_path, three):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / row_files.ROWS).write_text("x")
    (three[0].path / "notes.txt").write_text("x")
    (tmp_path / ("0" * 24)).write_text("a file")
    prune(tmp_path, 0)
    assert sorted(f.name for f in tmp_path.rglob("*") if f.is_file()) == sorted(
        [row_files.ROWS, "notes.txt", "0" * 24]
    )


def test_a_key_that_cannot_be_removed_is_passed_over(tmp_path, three, monkeypatch):
    def held(path):
        if path.parent == three[0].path:
            raise PermissionError(13, "Permission denied")
        return lock_file_held(path)

    lock_file_held = lock_file.held
    monkeypatch.setattr(lock_file, "held", held)
    assert prune(tmp_path, 0) == [three[1].path, three[2].path]


def test_room_is_made_for_what_is_missing(tmp_path, three):
    store = opened(tmp_path, {"number": 9})
    budget = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert make_room(store, images(4), budget) is None
    assert not three[0].path.exists() and three[1].path.exists()
    fill(store, images(4))
    assert make_room(store, images(4), 0) is None  # it is there
    assert len(opened(tmp_path, {"number": 9})) == 4


def test_a_key_full_of_other_images_gives_way(tmp_path):
    store = opened(tmp_path)
    fill(store, images(4))
    others = images(3, first=50)
    assert make_room(store, others, KEY_BYTES) is None
    assert fill(store, others) == 3 and len(store) == 3


def test_what_never_fits_is_told_with_both_numbers(tmp_path, three, monkeypatch):
    store = opened(tmp_path, {"number": 9})
    told = make_room(store, images(4), KEY_BYTES - 1)
    assert told and "need 0.000128 MB, and --config.features.budget_gb is" in told
    assert three[0].path.exists()  # nothing is removed in vain
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=9_000_000))
    assert make_room(store, images(4), 10**9) is None
    monkeypatch.setattr(space, "needed_bytes", lambda *arguments: 20_000_000)
    told = make_room(store, images(4), 10**9)
    assert told and "need 20 MB more" in told and "has 9 MB free; make room" in told
    assert "--config.features.dir=FOLDER" in told


def test_a_folder_that_vanishes_meanwhile_is_empty(tmp_path, three):
    shutil.rmtree(three[0].path)
    assert keys.read_facts(three[0].path) is None
    assert len(opened(tmp_path, {"number": 0})) == 0

"""Files of codes: our own layout, other tools' arrays, and everything that is neither."""

import numpy as np
import pytest

from hybridhash_jax import codes
from hybridhash_jax.codes.files import (
    CodeFileError,
    CodeSet,
    load_code_sets,
    load_codes,
    save_codes,
)


def signs(count, bits, seed=0):
    return np.where(np.random.RandomState(seed).rand(count, bits) < 0.5, -1, 1).astype(np.int8)


def code_set(count, bits=12, **more):
    labels = np.eye(3, dtype=np.uint8)[np.arange(count) % 3]
    return CodeSet(codes.pack(signs(count, bits)), bits, labels, **more)


def save_sides(folder, **more):
    for side, count in (("query", 4), ("database", 9)):
        save_codes(folder / f"{side}.npz", code_set(count, **more))


def test_a_set_comes_back_as_it_was_saved(tmp_path):
    saved = code_set(
        5, names=np.array(["ü.jpg", "b", "c", "d", "e"]), rows=np.arange(5), top_k=7,
        class_names=("sea", "sky", "sun"), fingerprint="0a1b", protocol="lists",
    )  # fmt: skip
    save_codes(tmp_path / "folder" / "query.npz", saved)
    found = load_codes(tmp_path / "folder" / "query.npz")
    np.testing.assert_array_equal(found.codes, signs(5, 12))
    for name in ("packed", "labels", "names", "rows"):
        np.testing.assert_array_equal(getattr(found, name), getattr(saved, name))
    for name in ("bits", "class_names", "fingerprint", "protocol", "top_k"):
        assert getattr(found, name) == getattr(saved, name)
    assert found.name(0) == "ü.jpg"
    assert found.labels_of(1) == ["sky"]


def test_what_is_unknown_stays_unknown(tmp_path):
    save_codes(tmp_path / "a.npz", code_set(2))
    found = load_codes(tmp_path / "a.npz")
    assert (found.names, found.rows, found.fingerprint, found.top_k) == (None,) * 4
    assert found.name(1) == "number 1"
    assert found.labels_of(1) == ["1"]


def test_a_file_needs_numpy_only(tmp_path):
    save_codes(tmp_path / "a.npz", code_set(5))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        unpacked = np.unpackbits(file["codes"], axis=1, count=int(file["bits"]))
    np.testing.assert_array_equal(2 * unpacked.astype(int) - 1, signs(5, 12))


def test_a_folder_and_two_files_are_the_same(tmp_path):
    save_sides(tmp_path)
    for paths in (str(tmp_path), f"{tmp_path}/query.npz,{tmp_path}/database.npz"):
        query, database = load_code_sets(paths)
        assert (len(query), len(database)) == (4, 9)


@pytest.mark.parametrize("form", [np.int8, np.float32, np.float64])
@pytest.mark.parametrize("zero_one", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_arrays_of_another_tool_are_read(tmp_path, form, zero_one, ids):
    for side, count in (("query", 4), ("database", 9)):
        values = signs(count, 12)
        np.save(tmp_path / f"{side}.npy", (values > 0 if zero_one else values).astype(form))
        classes = np.arange(count) % 3
        np.save(tmp_path / f"{side}_labels.npy", classes if ids else np.eye(3)[classes])
    files = [f"{tmp_path}/{side}{kind}.npy" for side in ("query", "database")
             for kind in ("", "_labels")]  # fmt: skip
    query, database = load_code_sets(",".join(files))
    np.testing.assert_array_equal(query.codes, signs(4, 12))
    np.testing.assert_array_equal(database.codes, signs(9, 12))
    assert database.labels_of(5) == ["2"]


def test_an_archive_may_hold_codes_that_are_not_packed(tmp_path):
    np.savez(tmp_path / "a.npz", codes=signs(6, 12), labels=np.arange(6))
    np.testing.assert_array_equal(load_codes(tmp_path / "a.npz").codes, signs(6, 12))


class Trap:
    def __reduce__(self):
        return print, ("unpickled!",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"labels": np.arange(3)}, "has no codes; it has labels"),
        ({"codes": signs(3, 8), "labels": np.arange(2)}, r"shape \(2,\) for 3 codes"),
        ({"codes": signs(3, 8) * 0.3, "labels": np.arange(3)}, "only -1 and"),
        ({"codes": signs(3, 8) * np.nan, "labels": np.arange(3)}, "only -1 and"),
        ({"codes": np.zeros((3, 2), np.uint8), "bits": 99, "labels": np.arange(3)}, "not 99"),
        ({"codes": signs(3, 2), "bits": 12, "labels": np.arange(3)}, "must be uint8"),
        ({"codes": signs(3, 8), "labels": np.arange(3), "names": ["a"]}, "names have shape"),
        ({"codes": np.array([[Trap()]]), "labels": np.arange(1)}, "without Python objects"),
    ],
)
def test_an_archive_of_another_layout_is_explained(tmp_path, capsys, content, words):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(CodeFileError, match=words) as error:
        load_codes(tmp_path / "a.npz")
    assert "a.npz" in str(error.value)
    assert "unpickled!" not in capsys.readouterr().out


def test_a_damaged_archive_is_named(tmp_path):
    save_sides(tmp_path)
    whole = (tmp_path / "query.npz").read_bytes()
    (tmp_path / "query.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CodeFileError, match=r"query\.npz cannot be read"):
        load_code_sets(str(tmp_path))


@pytest.mark.parametrize("paths", ["nowhere", "a.npz", "a.npz,b.npy", "a.npy,b.npy", "c.npz,d.npz"])
def test_paths_that_name_no_codes_say_what_is_accepted(tmp_path, monkeypatch, paths):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "a.npy", "b.npy", "c.npz"):
        (tmp_path / name).touch()
    with pytest.raises(CodeFileError, match=r"query\.npz and database\.npz") as error:
        load_code_sets(paths)
    assert ("there is no" in str(error.value)) == (paths in ("nowhere", "c.npz,d.npz"))


def test_a_folder_without_codes_names_the_file_that_is_missing(tmp_path):
    with pytest.raises(CodeFileError, match=r"no .*query\.npz and no .*database\.npz"):
        load_code_sets(str(tmp_path))


def test_codes_of_two_models_are_not_compared(tmp_path):
    save_codes(tmp_path / "query.npz", code_set(3, fingerprint="aaaa"))
    save_codes(tmp_path / "database.npz", code_set(3, fingerprint="bbbb"))
    with pytest.raises(CodeFileError, match="model aaaa and the database codes by bbbb"):
        load_code_sets(str(tmp_path))

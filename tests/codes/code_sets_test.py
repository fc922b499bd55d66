"""Files of codes: our own layout, other tools' arrays, and everything that is neither."""

import pickle
import re
import unicodedata
import zipfile
from pathlib import Path

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
from input_pipeline.errors import DataError


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


def test_a_file_where_the_folder_should_be_is_told(tmp_path):
    (tmp_path / "codes").touch()
    with pytest.raises(DataError, match=r"cannot write .*codes/query\.npz"):
        save_codes(tmp_path / "codes" / "query.npz", code_set(2))


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


def test_the_name_of_a_folder_may_have_commas(tmp_path):
    save_sides(tmp_path / "lr=1e-3,wd=0" / "codes")
    query, database = load_code_sets(str(tmp_path / "lr=1e-3,wd=0" / "codes"))
    assert (len(query), len(database)) == (4, 9)
    with pytest.raises(CodeFileError, match="give --codes=.*/lr=1e-3,wd=0/codes; accepted"):
        load_code_sets(str(tmp_path / "lr=1e-3,wd=0"))


def test_names_of_files_may_be_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["q" * 200 + ".npz", "d" * 200 + ".npz"]
    for name in names:
        save_codes(tmp_path / name, code_set(4))
    assert len(load_code_sets(",".join(names))[0]) == 4


def test_classes_without_an_image_may_be_named(tmp_path):
    names = ("sea", "sky", "sun")
    labels = np.eye(3, dtype=np.uint8)[[0, 1]]
    for given in (labels, labels.argmax(axis=1), labels.argmax(axis=1).astype(np.uint8)):
        save_codes(
            tmp_path / "a.npz", CodeSet(codes.pack(signs(2, 8)), 8, given, class_names=names)
        )
        assert load_codes(tmp_path / "a.npz").class_names == names


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
        ({"codes": np.array([[Trap()]]), "labels": np.arange(1)}, "codes holds Python objects"),
        (
            {"codes": signs(1, 8), "labels": np.arange(1), "names": np.array([Trap()])},
            "names holds",
        ),
        ({"codes": codes.pack(signs(3, 12)), "labels": np.arange(3)}, "add bits=K.* 9 to 16 here"),
        ({"codes": np.int8(1), "bits": 8, "labels": np.arange(3)}, "codes|packed must be a matrix"),
        ({"codes": signs(3, 8), "labels": [[0], [1], [1]]}, "class ids .N., or a column a class"),
        ({"codes": signs(3, 8), "labels": [[0], [1], [2]]}, "class ids have one axis"),
        ({"codes": signs(3, 8), "labels": np.arange(3), "class_names": "sea"}, "one a class"),
        (
            {"codes": signs(3, 8), "labels": np.eye(3), "class_names": ["sea", "sun"]},
            "2 names for the 3 columns of labels; give one a column, or leave",
        ),
        (
            {"codes": signs(3, 8), "labels": np.eye(3), "class_names": list("abcd")},
            "4 names for the 3 columns",
        ),
        (
            {"codes": signs(3, 8), "labels": np.arange(3), "class_names": ["sea", "sun"]},
            "2 names, but class ids go up to 2; give 3 names or more",
        ),
        ({"codes": signs(3, 8), "labels": np.arange(3), "rows": [0.5, 1, 2]}, "must be integers"),
        ({"codes": signs(3, 8), "labels": np.arange(3), "top_k": [1, 2]}, "top_k must be a whole"),
        ({"codes": signs(3, 8), "labels": np.arange(3), "top_k": "all"}, "top_k must be a whole"),
        ({"codes": signs(3, 8), "labels": np.arange(3), "protocol": ["a", "b"]}, "one string"),
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


def test_arrays_outside_the_layout_are_not_looked_at(tmp_path):
    np.savez(tmp_path / "a.npz", codes=signs(3, 8), labels=np.arange(3), notes=np.array([Trap()]))
    assert len(load_codes(tmp_path / "a.npz")) == 3


@pytest.mark.parametrize("labels", [np.ones((3, 1)), np.array([[1], [0], [1]])])
def test_a_single_class_that_is_named_is_one(tmp_path, labels):
    np.savez(tmp_path / "a.npz", codes=signs(3, 8), labels=labels, class_names=["sea"])
    np.testing.assert_array_equal(load_codes(tmp_path / "a.npz").labels, labels)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a PNG image"),
        ("codes,labels\n1,é".encode(), "text"),
        (pickle.dumps([1, 2]), "a Python pickle"),
        (b"", "empty"),
        (bytes(range(200)), "of no kind"),
        (b"PK\x03\x04" + bytes(40), "damaged or not whole"),
    ],
)
@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_another_file_in_the_place_of_codes_is_named_by_its_kind(tmp_path, content, kind, ending):
    files = [tmp_path / f"{i}{ending}" for i in range(2 if ending == ".npz" else 4)]
    for file in files:
        file.write_bytes(content)
    with pytest.raises(CodeFileError) as error:
        load_code_sets(",".join(map(str, files)))
    assert (kind if ending == ".npz" or not content.startswith(b"PK") else "archive") in str(
        error.value
    )
    for word in ("pickle=", "allow_pickle", "magic"):
        assert word not in str(error.value)


def test_an_archive_of_another_program_says_what_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02")
    with pytest.raises(CodeFileError, match=r"without such arrays; it has model/data\.pkl"):
        load_codes(tmp_path / "a.npz")


def test_messages_name_the_section_that_describes_the_files(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.arange(3))
    with pytest.raises(CodeFileError) as error:
        load_codes(tmp_path / "a.npz")
    found = re.search(r'(docs/\S+) .*"(.*)"', str(error.value))
    assert found is not None
    page, section = found.groups()
    root = Path(__file__).resolve().parent.parent.parent
    assert f"## {section}\n" in (root / page).read_text()


def test_names_that_differ_in_how_accents_are_written_are_the_same(tmp_path):
    written = {
        "query": unicodedata.normalize("NFC", "café"),
        "database": unicodedata.normalize("NFD", "café"),
    }
    assert written["query"] != written["database"]
    for side, name in written.items():
        names = (name, "sea", "sky")
        save_codes(tmp_path / f"{side}.npz", code_set(4, class_names=names))
    query, database = load_code_sets(str(tmp_path))
    assert query.class_names == database.class_names == ("café", "sea", "sky")


def test_names_may_be_bytes(tmp_path):
    names = np.array(["ü.jpg".encode(), b"b"])
    np.savez(tmp_path / "a.npz", codes=signs(2, 8), labels=np.arange(2), names=names)
    assert load_codes(tmp_path / "a.npz").name(0) == "ü.jpg"

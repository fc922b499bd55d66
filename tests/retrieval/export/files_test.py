import os
from typing import Any

import duckdb
import faiss
import numpy as np
import pyarrow.parquet
import pytest

from hybridhash_jax.retrieval.engine import nearest
from hybridhash_jax.retrieval.export import command
from hybridhash_jax.retrieval.export.rows import id_of
from hybridhash_jax.retrieval.index import open_index, open_writer
from hybridhash_jax.retrieval.names import shown
from tests.retrieval.index.made import MODEL, make

_NAMES = [b"sea/a.jpg", b"wood/new\nline.jpg", b"\xff\xfe/x\\.jpg", b"sea/gone.jpg", b"top.jpg"]
_MANY = [f"{number % 5}/{number}.jpg".encode() for number in range(500)]


@pytest.fixture
def index(tmp_path):
    """Five names, and one of them gone."""
    path = make(tmp_path / "a.idx", _NAMES[:2], _NAMES[2:], root=tmp_path)
    with open_writer(path) as writer:
        writer.remove([b"sea/gone.jpg"])
    return path


def export(index, to, output, *flags):
    return command.main([f"--index={index}", f"--to={to}", f"--output={output}", *flags])


def alive(index):
    with open_index(index) as opened:
        paths, rows = opened.paths()
        return paths, opened.packed(rows), opened.codes(rows)


def test_parquet(index, tmp_path, capsys):
    paths, _, words = alive(index)
    file = tmp_path / "codes.parquet"
    assert export(index, "parquet", file, "--columns=path,label,width,height") == 0
    assert "4 codes\ncompared with exact answers: 100.00%" in capsys.readouterr().out
    table = pyarrow.parquet.read_table(file)
    assert table["id"].to_pylist() == [id_of(path) for path in paths]
    assert table["code_0"].to_pylist() == words[:, 0].tolist()
    assert table["path"].to_pylist() == [shown(path) for path in paths]
    assert table["label"].to_pylist() == ["sea", "wood", r"\xff\xfe", ""]
    assert table["width"].to_pylist() == [40] * 4 and table["height"].to_pylist() == [30] * 4
    assert table.schema.metadata[b"bits"] == b"64"
    assert MODEL.fingerprint.encode() in table.schema.metadata[b"hybridhash"]


def test_npz(index, tmp_path):
    paths, packed, _ = alive(index)
    assert export(index, "npz", tmp_path / "codes.npz", "--columns=path,label,height") == 0
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as arrays:
        assert arrays["id"].tolist() == [id_of(path) for path in paths]
        assert (arrays["code"] == packed).all() and arrays["bits"] == 64
        assert arrays["path"].tolist() == paths  # their own bytes
        assert arrays["label"].tolist() == [b"sea", b"wood", b"\xff\xfe", b""]
        assert arrays["height"].tolist() == [30] * 4


@pytest.mark.parametrize("kind", ["ivf", "exact"])
def test_faiss(kind, tmp_path, capsys):
    index = make(tmp_path / "a.idx", _MANY)
    with open_writer(index) as writer:
        writer.remove(_MANY[:100])
    file = tmp_path / "codes.faiss"
    assert export(index, "faiss", file, f"--kind={kind}") == 0
    text = "lists are looked at" if kind == "ivf" else "100.00% of the 100 nearest in 100"
    assert text in capsys.readouterr().out
    read: Any = faiss.read_index_binary(str(file))
    paths, packed, _ = alive(index)
    _, found = read.search(packed, 1)  # itself
    if kind == "ivf":
        assert read.nlist == 20
        read.nprobe = 20
        _, found = read.search(packed, 1)
    assert found[:, 0].tolist() == [id_of(path) for path in paths]
    with np.load(f"{file}.names.npz") as names:
        assert dict(zip(names["id"].tolist(), names["path"].tolist(), strict=True)) == {
            id_of(path): path for path in paths
        }


@pytest.mark.parametrize("kind", ["parquet", "npz", "faiss"])
def test_a_file_may_have_a_name_that_is_not_utf_8(kind, index, tmp_path, capsys):
    file = os.fsencode(tmp_path) + b"/\xff.codes"
    assert export(index, kind, os.fsdecode(file)) == 0
    assert "\\xff.codes: 4 codes\ncompared with exact answers: 100.00%" in capsys.readouterr().out
    assert os.path.isfile(file)


def test_duckdb_finds_what_we_find(tmp_path):
    index = make(tmp_path / "a.idx", _MANY)
    file = tmp_path / "codes.parquet"
    assert export(index, "parquet", file) == 0
    paths, _, words = alive(index)
    ours = nearest([words], words[7], 20)
    with duckdb.connect() as connection:
        theirs = connection.execute(
            "SELECT path, bit_count(xor(code_0, ?::UBIGINT)) AS distance FROM read_parquet(?)"
            " ORDER BY distance, path LIMIT 20",
            [int(words[7, 0]), str(file)],
        ).fetchall()
    assert theirs[0] == (paths[7].decode(), 0)
    assert [distance for _, distance in theirs] == ours.distances.tolist()


def test_an_older_file_stays_where_an_export_fails(index, tmp_path, monkeypatch, capsys):
    file = tmp_path / "codes.parquet"
    file.write_bytes(b"older")
    monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_table", _full_disk)
    assert export(index, "parquet", file) == 1
    assert "No space left" in capsys.readouterr().err
    assert file.read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "codes.parquet"]


def _full_disk(*_):
    raise OSError(28, "No space left on device")

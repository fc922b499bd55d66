import subprocess
import sys
from unittest.mock import MagicMock

import pytest

from hybridhash_jax.retrieval.export import addresses, command, milvus, pgvector
from hybridhash_jax.retrieval.export.errors import ExportError, masked
from hybridhash_jax.retrieval.export.table import Wanted
from hybridhash_jax.retrieval.index import create_index
from tests.retrieval.index.made import MODEL, make


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--to=milvus"], "--to=milvus needs --url"),
        (["--to=pgvector", "--url=postgresql:///x"], "--to=pgvector needs --name"),
        (["--to=parquet"], "--to=parquet needs --output"),
        (["--to=npz", "--output=/nowhere/x.npz"], "cannot be written"),
        (["--to=npz", "--output=/dev/null"], "is no file; give one that can be read again"),
        (["--to=npz", "--output=x.npz", "--columns=path,size"], "accepted: path, label"),
        (["--to=faiss", "--output=x", "--kind=exact", "--lists=4"], "are of --kind=ivf"),
        (["--to=npz", "--output=-"], "--output=-; give the name of a file"),
        (["--to=npz", "--output=x", "--url=http://me:h1dden@x"], "npz does not use --url; leave"),
        (["--to=parquet", "--output=x", "--kind=exact"], "parquet does not use --kind; leave"),
        (
            ["--to=faiss", "--output=x", "--name=t", "--replace"],
            "faiss does not use --name, --repl",
        ),
        (["--to=npz", "--output=x", "--k=0"], "--k=0; give 1 or more"),
        (["--to=milvus", "--url=http://x", "--name=a-b"], "letters, digits and _"),
        (["--to=milvus", "--ulr=http://me:h1dden@x"], "unrecognized arguments: --ulr=http://***@x"),
        (["--to=milvus", "--ulr=http://me:@h1dden/h1dden@x"], "arguments: --ulr=http://***@x"),
    ],
)
def test_wrong_usage(flags, message, capsys):
    with pytest.raises(SystemExit) as raised:
        command.main(["--index=x.idx", *flags])
    error = capsys.readouterr().err
    assert raised.value.code == 2 and message in error and "h1dden" not in error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_no_file_of_an_index_is_overwritten(tmp_path, capsys):
    index = make(tmp_path / "a.idx", [b"a.jpg"])
    before = (index / "index.json").read_bytes()
    for file in (index / "index.json", index / "segments" / "x"):
        with pytest.raises(SystemExit):
            command.main([f"--index={index}", "--to=npz", f"--output={file}"])
        assert "is inside an index; give a file outside of it" in capsys.readouterr().err
    assert (index / "index.json").read_bytes() == before


def test_the_address_may_come_from_the_environment(tmp_path, monkeypatch, capsys):
    index = make(tmp_path / "a.idx", [b"a.jpg"])
    monkeypatch.setenv(command.URL, "postgresql://me:h1dden@127.0.0.1:9/x")
    assert command.main([f"--index={index}", "--to=pgvector", "--name=t"]) == 1
    error = capsys.readouterr().err
    assert "PostgreSQL at 127.0.0.1:9/x does not answer" in error and "h1dden" not in error


@pytest.mark.parametrize("password", ["h1dden/h1dden", "h1dden@h1dden", "1/h1dden", "1/@h1dden"])
def test_no_part_of_a_password_is_shown_that_ends_an_address(password):
    for told, address in (
        (addresses.postgresql_place, f"postgresql://me:{password}@127.0.0.1:9/x"),
        (lambda url: addresses.milvus_parts(url)[0], f"http://me:{password}@127.0.0.1:9/x"),
    ):
        try:
            shown = told(address)
        except ExportError as error:
            shown = str(error)
            assert "no address of" in shown
        assert "h1dden" not in shown


@pytest.mark.parametrize("advice", [addresses._MILVUS, addresses._POSTGRESQL])
def test_what_an_address_looks_like_is_not_taken_for_a_password(advice):
    assert masked(advice) == advice


@pytest.mark.parametrize("to, package", [("pgvector", "psycopg"), ("milvus", "pymilvus")])
def test_a_missing_package_is_named(to, package, tmp_path, monkeypatch, capsys):
    index = make(tmp_path / "a.idx", [b"a.jpg"])
    monkeypatch.setitem(sys.modules, package, None)
    assert command.main([f"--index={index}", f"--to={to}", "--url=http://x", "--name=t"]) == 1
    assert f"{package} is not installed: pip install -r requirements-engines.txt" in (
        capsys.readouterr().err
    )


def test_an_index_that_is_damaged_or_empty(tmp_path, capsys):
    output = f"--output={tmp_path / 'codes.npz'}"
    create_index(tmp_path / "empty.idx", MODEL, None)
    assert command.main([f"--index={tmp_path / 'empty.idx'}", "--to=npz", output]) == 1
    assert "holds no images; nothing was exported" in capsys.readouterr().err
    index = make(tmp_path / "a.idx", [b"a.jpg"], [b"b.jpg"])
    sorted((index / "segments").glob("*.codes"))[0].write_bytes(b"12345678")
    assert command.main([f"--index={index}", "--to=npz", output]) == 1
    assert "is damaged (1 file); encode the images again" in capsys.readouterr().err
    assert not (tmp_path / "codes.npz").exists()


@pytest.mark.slow
def test_the_command_loads_no_engine():
    script = (
        "import sys; from hybridhash_jax.retrieval.export import command;"
        "print([m for m in ('jax', 'pymilvus', 'psycopg', 'pyarrow', 'faiss', 'grpc')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_file_may_be_in_the_home_folder(tmp_path, monkeypatch):
    index = make(tmp_path / "a.idx", [b"a.jpg"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.main([f"--index={index}", "--to=npz", "--output=~/x.npz"]) == 0
    assert (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    "columns, of_sql, of_call",
    [(("label", "path"), "path", 'output_fields=["path"]'), (("label",), "id", ""), ((), "id", "")],
)
def test_the_query_that_is_shown_asks_for_what_the_table_has(monkeypatch, columns, of_sql, of_call):
    for name in ("psycopg", "pymilvus"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    wanted, server = Wanted("photos", 32, "m", columns), MagicMock()
    server.execute.return_value.fetchone.return_value = (None, False)  # there is no table yet
    advice = pgvector.PgTable(server, "photos", wanted).advice()
    assert advice.startswith(f'SELECT {of_sql} FROM "photos" ORDER BY code <~> ')
    server.has_collection.return_value = False
    call = milvus.MilvusTable(server, "photos", wanted).advice()
    assert call.endswith(f"{of_call})") and ("output_fields" in call) == bool(of_call)

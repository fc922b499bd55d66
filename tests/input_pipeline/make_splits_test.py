"""The split makers from the command line: the same files everywhere, and mistakes explained."""

import contextlib
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import make_splits
from input_pipeline.lists.label_lists import LabelList, read_list
from input_pipeline.make_splits import main
from input_pipeline.splits import LIST_PROTOCOLS
from tests.input_pipeline.annotations.raw_sets import (
    make_mirflickr,
    make_nuswide,
    make_voc2012,
    random_bits,
)

ROOT = Path(__file__).resolve().parents[2]
FILES = ["classes.txt", "database.txt", "summary.json", "test.txt", "train.txt"]
SIZES = ["--train_per_class=3", "--query_per_class=2"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """A small raw set of every kind, each in a folder of its name."""
    root = tmp_path_factory.mktemp("raw")
    make_nuswide(root / "nuswide_21", random_bits(18_000, [20, 15, *[13] * 19, *[1] * 60]))
    make_mirflickr(root / "mirflickr" / "mirflickr25k_annotations_v080")
    values = random_bits(11_540, [8] * 20).astype(int) * 2 - 1
    values[::50, 5] = 0
    make_voc2012(root / "voc2012" / "VOCdevkit" / "VOC2012", values)
    for class_name, count in (("cat", 9), ("dog", 7), ("tree house", 12)):
        (root / "folder" / class_name).mkdir(parents=True)
        for i in range(count):
            (root / "folder" / class_name / f"photo {i}.JPG").touch()
    (root / "folder" / "cat" / "notes.txt").touch()
    (root / "folder" / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def drawn(raw, tmp_path_factory) -> Callable[[str], tuple[Path, str]]:
    """The folder that each kind was drawn into once, and what was printed."""

    @functools.cache
    def draw(kind: str) -> tuple[Path, str]:
        out, shown = tmp_path_factory.mktemp(kind), io.StringIO()
        with contextlib.redirect_stdout(shown):
            assert main(command(kind, raw, out)) == 0
        return out, shown.getvalue()

    return draw


def command(kind: str, raw: Path, out: Path, *more: str) -> list[str]:
    sizes = SIZES if kind == "folder" else []
    return [kind, f"--raw={raw / kind}", f"--out={out}", *sizes, *more]


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def lists(out: Path) -> list[LabelList]:
    return [read_list(out / name) for name in ("train.txt", "test.txt", "database.txt")]


def refusal(arguments: list[str], capsys) -> str:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.out == ""
    return captured.err


# The lists are not shipped: these figures are what makes them repeatable elsewhere.
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("nuswide_21", "d0c054e27c9e67e8"),
        ("mirflickr", "2eb7ed88e5ffc792"),
        ("voc2012", "856bfbcd403e0a77"),
        ("folder", "581a68623d9669e7"),
    ],
)
def test_the_same_seed_writes_the_same_bytes(raw, drawn, tmp_path, kind, expected):
    out, shown = drawn(kind)
    assert main(command(kind, raw, tmp_path / "b", "--seed=0")) == 0
    assert main(command(kind, raw, tmp_path / "c", "--seed=1")) == 0
    first = written(out)
    assert list(first) == FILES
    assert first == written(tmp_path / "b") != written(tmp_path / "c")
    together = first["train.txt"] + first["test.txt"] + first["database.txt"]
    sha256 = hashlib.sha256(together).hexdigest()
    assert json.loads(first["summary.json"])["sha256"] == sha256
    assert sha256 in shown
    assert sha256[:16] == expected


@pytest.mark.parametrize("kind", ["nuswide_21", "mirflickr", "voc2012"])
def test_published_sets_get_the_published_sizes(drawn, kind):
    train, query, database = lists(drawn(kind)[0])
    published = LIST_PROTOCOLS[kind]
    assert (len(train.paths), len(query.paths)) == (published.num_train, published.num_query)
    assert train.labels.shape[1] == published.num_classes
    assert not set(query.paths) & {*train.paths, *database.paths}
    if kind == "nuswide_21":
        assert set(train.paths) < set(database.paths)
        numbers = [int(path.split("/")[1].split("_")[0]) for path in database.paths]
        assert numbers == sorted(numbers)  # the order of the image list
    else:
        assert not set(train.paths) & set(database.paths)
        assert len(database.paths) == published.num_database


def test_every_image_keeps_its_labels(raw, drawn):
    out, _ = drawn("mirflickr")
    names = (out / "classes.txt").read_text().splitlines()
    folder = raw / "mirflickr" / "mirflickr25k_annotations_v080"
    has = {name: set((folder / f"{name}.txt").read_text().split()) for name in names}
    for part in lists(out):
        for path, row in list(zip(part.paths, part.labels.tolist(), strict=True))[::101]:
            number = path.removeprefix("im").removesuffix(".jpg")
            assert row == [int(number in has[name]) for name in names]


def test_the_summary_counts_what_the_lists_hold(drawn):
    out, shown = drawn("voc2012")
    summary = json.loads((out / "summary.json").read_text())
    for name, part in zip(("train", "query", "database"), lists(out), strict=True):
        counted = summary["splits"][name]
        assert counted["images"] == len(part.paths)
        assert counted["unlabelled"] == int((part.labels.sum(axis=1) == 0).sum()) > 0
        assert list(counted["per_class"].values()) == part.labels.sum(axis=0, dtype=int).tolist()
    assert summary["overlaps"] == {"train_query": 0, "train_database": 0, "query_database": 0}
    assert (summary["seed"], summary["images"], summary["classes"]) == (0, 11_540, 20)
    assert "difficult" in summary["notes"][0]
    for part in ("voc2012", "tvmonitor", "[unlabelled]", "6,540", "0 in train and query", "note: "):
        assert part in shown


@pytest.mark.parametrize(
    ("rule", "database", "overlap"), [("rest", 13, 0), ("train_and_rest", 22, 9), ("train", 9, 9)]
)
def test_a_folder_is_split_by_class_with_the_database_asked_for(
    raw, tmp_path, rule, database, overlap
):
    assert main(command("folder", raw, tmp_path, f"--database={rule}")) == 0
    train, query, rest = lists(tmp_path)
    assert train.labels.sum(axis=0).tolist() == [3, 3, 3]
    assert query.labels.sum(axis=0).tolist() == [2, 2, 2]
    assert len(rest.paths) == database
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["overlaps"]["train_database"] == overlap
    assert summary["notes"] == ["2 files or folders were ignored: cat/notes.txt, empty/"]
    names = (tmp_path / "classes.txt").read_text().splitlines()
    assert names == ["cat", "dog", "tree house"]
    for path, row in zip(train.paths, train.labels, strict=True):
        assert names[int(np.argmax(row))] == path.split("/")[0]
        assert (raw / "folder" / path).is_file()


@pytest.mark.parametrize("inside", [".", "lists"])
def test_lists_may_be_written_into_the_folder_they_describe(tmp_path, inside):
    for name in ("x/a.jpg", "x/b.jpg", "x/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    arguments = ["folder", f"--raw={tmp_path}", f"--out={tmp_path / inside}",
                 "--train_per_class=1", "--query_per_class=1"]  # fmt: skip
    assert main(arguments) == 0
    first = {name: (tmp_path / inside / name).read_bytes() for name in FILES}
    assert main(arguments) == 0
    assert first == {name: (tmp_path / inside / name).read_bytes() for name in FILES}
    assert json.loads(first["summary.json"])["notes"] == []


def test_other_lists_are_replaced_only_when_asked(raw, tmp_path, capsys):
    assert main(command("folder", raw, tmp_path)) == 0
    before = written(tmp_path)
    assert main(command("folder", raw, tmp_path)) == 0  # the same lists again are no loss
    capsys.readouterr()
    message = refusal(command("folder", raw, tmp_path, "--seed=5"), capsys)
    assert "train.txt, test.txt, database.txt, summary.json" in message
    assert "--overwrite" in message
    assert written(tmp_path) == before
    assert main(command("folder", raw, tmp_path, "--seed=5", "--overwrite")) == 0
    assert written(tmp_path).keys() == before.keys() and written(tmp_path) != before


@pytest.mark.parametrize(
    ("kind", "more", "part"),
    [
        ("nowhere", [], "is not a folder"),
        ("folder", ["--train_per_class=6"], "fewer in: dog (7)"),
        ("folder", ["--train_per_class=8", "--query_per_class=1"], "fewer in: dog (7)"),
    ],
)
def test_what_cannot_be_drawn_is_explained_and_leaves_nothing(
    raw, tmp_path, capsys, kind, more, part
):
    arguments = command("folder", raw, tmp_path / "out", f"--raw={raw / kind}", *more)
    assert part in refusal(arguments, capsys)
    assert not (tmp_path / "out").exists()


def test_a_split_without_an_image_is_refused(tmp_path, capsys):
    (tmp_path / "raw" / "x").mkdir(parents=True)
    for i in range(5):
        (tmp_path / "raw" / "x" / f"{i}.png").touch()
    arguments = ["folder", f"--raw={tmp_path / 'raw'}", f"--out={tmp_path / 'out'}", *SIZES]
    assert "no image is left for database" in refusal(arguments, capsys)
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--database=train"]) == 0


def test_a_line_break_in_a_name_is_refused(tmp_path, capsys):
    (tmp_path / "raw" / "x").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c\n.jpg"):
        (tmp_path / "raw" / "x" / name).touch()
    arguments = ["folder", f"--raw={tmp_path / 'raw'}", f"--out={tmp_path / 'out'}",
                 "--train_per_class=1", "--query_per_class=1"]  # fmt: skip
    assert r"'x/c\n.jpg' has a line break" in refusal(arguments, capsys)


def test_an_out_that_cannot_be_written_is_explained(raw, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(command("folder", raw, tmp_path / "file"), capsys)


def test_ctrl_c_leaves_nothing_behind(raw, tmp_path, capsys, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write_list(*arguments)

    from input_pipeline.lists import split_files

    write_list = split_files.write_list
    monkeypatch.setattr(split_files, "write_list", interrupted)
    assert main(command("folder", raw, tmp_path / "out")) == 130
    assert "stopped" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "DATA_SET"),
        (["imagenet"], "'imagenet'"),
        (["voc2012"], "--raw, --out"),
        (["folder", "--raw=a", "--out=b"], "--train_per_class, --query_per_class"),
        (["folder", "--raw=a", "--out=b", "--train_per_class=0"], "1 or more, got '0'"),
        (["folder", "--raw=a", "--out=b", "--train_per_class=x"], "1 or more, got 'x'"),
        (["folder", "--raw=a", "--out=b", *SIZES, "--database=all"], "train_and_rest"),
        (["voc2012", "--raw=a", "--out=b", "--seed=one"], "'one'"),
        (["mirflickr", "--raw=a", "--out=b", "--seed=-1"], "--seed: must be a whole number from 0"),
        (["voc2012", "--raw=a", "--out=b", f"--seed={2**64}"], "--seed: must be a whole number"),
    ],
)
def test_wrong_flags_end_with_code_2(arguments, part, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert part in capsys.readouterr().err


@pytest.mark.slow
def test_the_module_runs_as_a_program_and_explains_itself(raw, tmp_path):
    program = [sys.executable, "-m", "input_pipeline.make_splits"]

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*program, *arguments], check=False, capture_output=True, text=True, cwd=ROOT
        )

    told = run("--help").stdout
    for part in ("nuswide_21", "mirflickr", "voc2012", "folder", "--train_per_class 20"):
        assert part in told
    done = run("folder", f"--raw={tmp_path / 'nowhere'}", f"--out={tmp_path / 'out'}", *SIZES)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert run(*command("folder", raw, tmp_path / "out")).returncode == 0
    assert sorted(written(tmp_path / "out")) == FILES


@pytest.mark.slow
def test_names_that_the_terminal_cannot_show_do_not_stop_it(tmp_path):
    (tmp_path / "raw" / "猫").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "raw" / "猫" / f"{i}.jpg").touch()
    done = subprocess.run(
        [sys.executable, "-m", "input_pipeline.make_splits", "folder", f"--raw={tmp_path / 'raw'}",
         f"--out={tmp_path / 'out'}", "--train_per_class=1", "--query_per_class=1"],
        check=False, capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"\u732b" in done.stdout
    assert (tmp_path / "out" / "classes.txt").read_text(encoding="utf-8") == "猫\n"


def test_the_sizes_drawn_are_those_of_the_protocols():
    for kind in ("mirflickr", "voc2012"):
        published = LIST_PROTOCOLS[kind]
        assert (make_splits.NUM_TRAIN, make_splits.NUM_QUERY) == (
            published.num_train, published.num_query
        )  # fmt: skip

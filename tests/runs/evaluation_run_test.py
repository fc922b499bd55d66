"""Measuring codes that are already there: ours, or another program's."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from configs import embeddings
from hybridhash_jax import codes, metrics
from hybridhash_jax.codes.files import CodeFileError, CodeSet, save_codes
from hybridhash_jax.evaluation_run import evaluate_checkpoint, evaluate_code_files
from hybridhash_jax.run import train
from hybridhash_jax.runtime import console
from hybridhash_jax.workdir.config import load_config
from tests.runs.small_run import StopAt


def sides():
    random = np.random.RandomState(0)
    for side, count in (("query", 20), ("database", 300)):
        signs = np.where(random.rand(count, 12) < 0.5, -1, 1).astype(np.int8)
        yield side, signs, random.randint(0, 5, count)


@pytest.fixture
def own_codes(tmp_path):
    """A folder as training leaves it."""
    for side, signs, classes in sides():
        labels = np.eye(5, dtype=np.uint8)[classes]
        kept = CodeSet(
            codes.pack(signs), 12, labels, class_names=tuple("abcde"), protocol="toy", top_k=50
        )
        save_codes(tmp_path / "codes" / f"{side}.npz", kept)
    return tmp_path / "codes"


@pytest.fixture
def arrays(tmp_path):
    """The same codes as another program writes them: 0 and 1, labels as class ids."""
    for side, signs, classes in sides():
        np.save(tmp_path / f"{side}.npy", (signs > 0).astype(np.float32))
        np.save(tmp_path / f"{side}_labels.npy", classes)
    return ",".join(
        f"{tmp_path}/{side}{kind}.npy" for side in ("query", "database") for kind in ("", "_labels")
    )


def expected_map(top_k, ties="expected"):
    (_, query, query_ids), (_, database, ids) = sides()
    return metrics.mean_average_precision(query, query_ids, database, ids, top_k, ties)


def test_codes_alone_give_the_numbers_of_the_evaluation_that_made_them(own_codes, tmp_path, capsys):
    console.set_up()
    found = evaluate_code_files(str(own_codes), tmp_path / "out")
    assert found["top_k"] == 50  # as the files say
    assert found["map"] == {ties: expected_map(50, ties) for ties in metrics.TIE_RULES}
    saved = json.loads((tmp_path / "out" / "evaluation" / "report.json").read_text())
    assert saved["map"] == found["map"]
    assert f"mAP@50 {expected_map(50):.4f} (expected over ties" in capsys.readouterr().out


def test_codes_of_another_program_give_the_same(own_codes, arrays, tmp_path):
    own = evaluate_code_files(str(own_codes), tmp_path / "own")
    other = evaluate_code_files(arrays, tmp_path / "other", top_k=50)
    for measured in ("map", "chance", "radius_2", "curves", "code_health"):
        assert own[measured] == other[measured]
    assert evaluate_code_files(arrays, tmp_path / "all")["map"]["expected"] == expected_map(None)


NOTHING = "20 of 20 queries have no relevant item in the database"


def test_queries_with_nothing_to_find_are_warned_of(arrays, tmp_path, capsys):
    console.set_up()
    np.save(tmp_path / "query_labels.npy", np.full(20, 7))
    evaluate_code_files(arrays, tmp_path / "out")
    assert f"warning: {NOTHING}" in capsys.readouterr().out


def test_a_run_whose_queries_have_nothing_to_find_is_warned_of(tmp_path, capsys):
    console.set_up()
    vectors = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    splits, classes = np.repeat(["query", "train", "database"], (20, 30, 30)), np.arange(80) % 3
    labels = np.where(splits == "query", 7, classes)
    np.savez(tmp_path / "x.npz", embeddings=vectors, labels=labels, split=splits)
    config = embeddings.get_config()
    config.data.embeddings, config.method.name = str(tmp_path / "x.npz"), "pca"
    config.bits, config.batch_size, config.num_devices = (4,), 10, 1
    config.evaluation.report, config.evaluation.batch_size = False, 10**6
    train(config, tmp_path / "run", StopAt())
    assert f"warning: {NOTHING}" in capsys.readouterr().out
    # What codes are made with, and what an index fills up to.
    assert load_config(tmp_path / "run").evaluation.batch_size == 1024
    evaluate_checkpoint(load_config(tmp_path / "run"), tmp_path / "run")
    assert f"warning: {NOTHING}" in capsys.readouterr().out


def test_a_page_and_its_pictures_are_written_without_images(arrays, tmp_path):
    evaluate_code_files(arrays, tmp_path)
    names = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert names == {
        "report.html", "report.json", "pr_curve.png", "precision_at_n.png", "bit_balance.png",
    }  # fmt: skip
    for name in names - {"report.html", "report.json"}:
        with Image.open(tmp_path / "evaluation" / name) as picture:
            assert min(picture.size) > 200
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert f"{expected_map(None):.4f}" in page


def test_impossible_cut_offs_and_paths_are_explained_and_write_nothing(own_codes, tmp_path):
    with pytest.raises(ValueError, match="top_k must be a whole number"):
        evaluate_code_files(str(own_codes), tmp_path / "out", top_k=0)
    with pytest.raises(CodeFileError, match="there is no /"):
        evaluate_code_files(str(tmp_path / "out"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_letters_that_the_terminal_lacks_are_shown_as_escapes(own_codes, tmp_path):
    workdir = tmp_path / "\N{LATIN SMALL LETTER E WITH ACUTE}"
    done = subprocess.run(
        [sys.executable, "main.py", "--mode=evaluate", f"--codes={own_codes}",
         f"--workdir={workdir}", "--compilation_cache=off"],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"/\xe9/evaluation/report.html" in done.stdout


def test_nothing_of_others_is_overwritten(own_codes, tmp_path, caplog):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.jpg").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for name, why in (("photographs", "holds other files .cat.jpg"), ("run", "workdir of a run")):
        with pytest.raises(ValueError, match=f"{name} .*{why}.*--output=FOLDER"):
            evaluate_code_files(str(own_codes), tmp_path / "out", output=tmp_path / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "unreadable.txt").touch()  # of an evaluation that failed
    evaluate_code_files(str(own_codes), tmp_path / "out")
    evaluate_code_files(str(own_codes), tmp_path / "out")  # the same again
    copy = shutil.copytree(own_codes, tmp_path / "other")
    with pytest.raises(ValueError, match="holds the evaluation of .*codes; choose another"):
        evaluate_code_files(str(copy), tmp_path / "out")


def test_codes_that_say_nothing_and_a_cut_off_above_the_database_are_told(tmp_path, capsys):
    console.set_up()
    codes_of = {"query": np.ones((4, 8)), "database": np.eye(8)}
    for side, array in codes_of.items():
        np.savez(tmp_path / f"{side}.npz", codes=array, labels=np.arange(len(array)) % 2)
    evaluate_code_files(str(tmp_path), tmp_path / "out", 1000)
    printed = capsys.readouterr().out
    assert "all query codes are one and the same" in printed
    assert "top_k=1000, but the database has 8 images: all count" in printed

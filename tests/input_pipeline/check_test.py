"""`python -m input_pipeline.check`: finds every kind of problem, all of them, with an exit code."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from input_pipeline import check
from input_pipeline.images import image_checks
from input_pipeline.lists.label_lists import write_list

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Six images, with lists of 2 training images, 2 queries and 4 database images."""
    monkeypatch.chdir(tmp_path)
    names = [f"images/{i}.jpg" for i in range(6)]
    (tmp_path / "images").mkdir()
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 12 + i, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 1], [0, 0], [1, 0]])
    for file, rows in (("train", [0, 1]), ("test", [4, 5]), ("database", [0, 1, 2, 3])):
        write_list(tmp_path / f"{file}.txt", [names[row] for row in rows], labels[rows])
    return tmp_path


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def run(folder: Path, *arguments: str) -> int:
    return check.main([f"--dir={folder}", *arguments])


def test_a_sound_data_set_passes_and_is_summarised(folder, capsys):
    (folder / "classes.txt").write_text("sea\nsky\n")
    assert run(folder) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[2].split()[:4] == ["query", "2", "2", "1"]
    assert "least 2 (sea), median 2, most 3 (sky)" in shown
    assert "images: 6 checked, 0 unreadable" in shown
    assert "smallest 12 x 10 ('images/0.jpg'), largest 17 x 10 ('images/5.jpg')" in shown
    assert shown.endswith("no problems\n")
    assert not (folder / "check_problems.txt").exists()


def test_all_problems_are_gathered_in_one_run(folder, capsys):
    append(folder / "train.txt", "images/0.jpg 1 0\nimages/4.jpg 0 0\nimages/9.jpg 1 1\n")
    append(folder / "test.txt", "images/2.jpg 1 1\nimages/3.jpg 1 1\nimages/8.jpg 1 2\n")
    append(folder / "database.txt", "images/7.jpg 1 0 0\n/etc/passwd 0 1\n")
    (folder / "images" / "5.jpg").write_bytes(b"no image")
    assert run(folder) == 1
    shown = capsys.readouterr().out
    everything = (folder / "check_problems.txt").read_text()
    for text in (shown, everything):
        for expected in (
            f"{folder}/train.txt:3: 'images/0.jpg' is listed already on line 1",
            f"{folder}/test.txt:5: the label '2' is not 0 or 1",
            f"{folder}/database.txt:5: 3 labels (0 or 1) after 'images/7.jpg', expected 2",
            f"{folder}/database.txt:6: the path '/etc/passwd' is absolute",
            "2 images are both query and database: 'images/2.jpg'",
            "1 image is both query and training image: 'images/4.jpg'",
            "1 image has other labels in one list than in the other: 'images/3.jpg' is 1 1 in",
            f"{folder}/train.txt:5: 'images/9.jpg': there is no such file",
            f"{folder}/test.txt:2: 'images/5.jpg': not an image",
        ):
            assert expected in text
    assert "9 problems; all of them, image by image, are in check_problems.txt" in shown
    assert "  'images/3.jpg' (" in everything  # an overlap that the summary might leave out


def test_a_clean_check_says_that_the_file_of_problems_is_an_older_one(folder, capsys):
    sound = (folder / "images" / "5.jpg").read_bytes()
    (folder / "images" / "5.jpg").write_bytes(b"no image")
    assert run(folder) == 1
    assert "earlier check" not in capsys.readouterr().out
    (folder / "images" / "5.jpg").write_bytes(sound)
    assert run(folder) == 0
    assert capsys.readouterr().out.endswith(
        "no problems; check_problems.txt is of an earlier check\n"
    )


def test_the_first_twenty_are_shown_and_all_are_in_the_file(folder, capsys):
    lines = "".join(f"missing/{i}.jpg 1 0\n" for i in range(30))
    append(folder / "database.txt", lines)
    assert run(folder, "--out=all.txt") == 1
    shown = capsys.readouterr().out
    assert shown.count("problem: ") == 20
    assert "\nand 10 more\n" in shown and "30 problems" in shown
    assert (folder / "all.txt").read_text().count("there is no such file") == 30


def test_a_missing_list_is_a_problem_and_the_others_are_still_checked(folder, capsys):
    (folder / "test.txt").unlink()
    (folder / "images" / "3.jpg").unlink()
    assert run(folder) == 1
    shown = capsys.readouterr().out
    assert "test.txt: there is no such list file; a line is a relative path" in shown
    assert "'images/3.jpg': there is no such file" in shown
    assert "2 problems" in shown


def test_sizes_and_classes_of_a_published_data_set_are_checked(folder, capsys):
    assert run(folder, "--name=voc2012", "--no_images") == 1
    shown = capsys.readouterr().out
    assert "train.txt:1: 2 labels a line, but 20 classes are expected" in shown
    assert "train.txt: 2 images, expected 4,000" in shown
    assert "database.txt: 4 images, expected 6,540" in shown


def test_class_names_must_be_as_many_as_labels(folder, capsys):
    (folder / "classes.txt").write_text("sea\nsky\nsun\n")
    assert run(folder, "--no_images") == 1
    assert "names 3 classes, but there are 2 labels a line" in capsys.readouterr().out


def test_lists_alone_can_be_checked(folder, capsys):
    for file in (folder / "images").iterdir():
        file.unlink()
    os.rename(folder / "test.txt", folder / "queries.txt")
    assert check.main([f"--lists={folder}", "--no_images", "--query=queries.txt"]) == 0
    assert "images:" not in capsys.readouterr().out


def test_a_tilde_is_the_home_folder_in_every_path(folder, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "images" / "5.jpg").write_bytes(b"no image")
    paths = ["--dir=~", "--lists=~", "--query_list=~/test.txt", "--out=~/all.txt"]
    assert check.main(paths) == 1
    assert f"{folder}/test.txt:2: 'images/5.jpg': not an image" in capsys.readouterr().out
    assert (folder / "all.txt").is_file() and not (folder / "~").exists()


def test_the_same_file_under_two_names_is_a_notice_and_no_problem(folder, capsys):
    (folder / "images" / "2.jpg").write_bytes((folder / "images" / "4.jpg").read_bytes())
    assert run(folder) == 0
    shown = capsys.readouterr().out
    assert "notice: 1 query is the same file, byte for byte, as a database image" in shown
    assert "query 'images/4.jpg' and database 'images/2.jpg'" in shown


def test_odd_images_are_notices_and_no_problems(folder, capsys):
    deep = np.full((30, 30), 40_000, np.uint16)
    Image.fromarray(deep).save(folder / "images" / "2.jpg", "PNG")
    Image.new("RGB", (300, 10)).save(folder / "images" / "3.jpg")
    assert run(folder) == 0
    shown = capsys.readouterr().out
    assert "notice: 1 image of more than 8 bits" in shown
    assert "'images/2.jpg' (16-bit grey, decodes to 100% white and 0% black)" in shown
    assert "over 20 times as long as short" in shown and "'images/3.jpg' (300 x 10)" in shown
    assert shown.endswith("no problems, 2 notices\n")


def test_labels_that_lead_nowhere_are_problems(folder, capsys):
    (folder / "train.txt").write_text("images/0.jpg 0 0\nimages/1.jpg 0 0\n")
    (folder / "database.txt").write_text("images/2.jpg 0 1\nimages/3.jpg 0 1\n")
    assert run(folder) == 1
    printed = capsys.readouterr().out
    assert "not one training image has a label" in printed
    assert "no image has the labels 1 (columns, counted from 1)" in printed


def test_a_folder_of_classes_is_checked_without_lists(folder, capsys):
    for name in ("cat", "dog"):
        (folder / "classes" / name).mkdir(parents=True)
    for i in range(6):
        (folder / f"images/{i}.jpg").rename(folder / f"classes/{('cat', 'dog')[i % 2]}/{i}.jpg")
    twice = (folder / "classes/cat/0.jpg").read_bytes()
    (folder / "classes/dog/copy.jpg").write_bytes(twice)
    (folder / "classes/dog/phone.heic").write_bytes(b"x" * 64)
    assert check.main([f"--dir={folder / 'classes'}", "--folder"]) == 0
    printed = capsys.readouterr().out
    for part in ("cat", "dog", "1 .heic file, convert them to JPEG", "no problems",
                 "1 file equal to another one, byte for byte", "'cat/0.jpg' and 'dog/copy.jpg'"):  # fmt: skip
        assert part in printed
    (folder / "classes/dog/broken.jpg").write_bytes(twice[:100])
    assert check.main([f"--dir={folder / 'classes'}", "--folder"]) == 1
    assert "dog/broken.jpg" in capsys.readouterr().out


def test_what_a_run_refuses_in_a_folder_is_a_problem(folder, capsys):
    (folder / "classes/cat").mkdir(parents=True)
    (folder / "images/0.jpg").rename(folder / "classes/cat/0.jpg")
    assert check.main([f"--dir={folder / 'classes'}", "--folder"]) == 1
    printed = capsys.readouterr().out
    assert "there is one class, cat, and two are needed" in printed
    assert "classes with one image" in printed


def test_a_folder_whose_splits_leave_nothing_to_search_in_is_a_problem(folder, capsys):
    for i in range(4):
        (folder / f"classes/{i % 2}").mkdir(parents=True, exist_ok=True)
        (folder / f"images/{i}.jpg").rename(folder / f"classes/{i % 2}/{i}.jpg")
    assert check.main([f"--dir={folder / 'classes'}", "--folder"]) == 1
    assert "leave no image to search in" in capsys.readouterr().out


def test_lists_whose_training_images_have_one_class_are_a_problem(folder, capsys):
    (folder / "train.txt").write_text("images/0.jpg 0 1\nimages/1.jpg 0 1\n")
    (folder / "database.txt").write_text("images/2.jpg 1 1\nimages/3.jpg 0 1\n")
    assert run(folder, "--no_images") == 1
    shown = capsys.readouterr().out
    assert "train.txt: the training images have one class, label 2 (column" in shown
    assert "\n1 problem; " in shown


def test_images_without_classes_are_checked(folder, capsys):
    images = folder / "images"
    (images / "notes.txt").write_text("no image")
    (images / "empty").mkdir()
    assert check.main([f"--dir={images}", "--folder"]) == 0
    shown = capsys.readouterr().out
    assert "images: 6 checked, 0 unreadable" in shown and "so these have no classes" in shown
    assert "1 .txt file (notes.txt)" in shown and ".jpg file" not in shown
    (images / "6.jpg").write_bytes((images / "5.jpg").read_bytes())
    (images / "0.jpg").write_bytes(b"no image")
    assert check.main([f"--dir={images}", "--folder", "--near_duplicates"]) == 1
    shown = capsys.readouterr().out
    assert "'0.jpg': not an image" in shown and "1 problem; " in shown
    assert "1 pair of near-duplicates" in shown


def test_names_of_classes_are_shown_in_one_line(folder, capsys):
    for i, name in enumerate(("a\nb", "red\x1b[31m")):
        (folder / "classes" / name).mkdir(parents=True)
        (folder / f"images/{i}.jpg").rename(folder / "classes" / name / "0.jpg")
    assert check.main([f"--dir={folder / 'classes'}", "--folder", "--no_images"]) == 1
    shown = capsys.readouterr().out
    assert "cannot be drawn from: a\\nb, red\\x1b[31m\n" in shown
    assert "least 1 (a\\nb)" in shown and "\x1b" not in shown


def test_a_place_that_cannot_take_the_problems_is_refused_first(folder, capsys):
    (folder / "mine.txt").write_text("my own")
    for out, why in (("images", "cannot be written"), ("mine.txt", "exists; give another file")):
        with pytest.raises(SystemExit):
            run(folder, f"--out={out}")
        assert why in capsys.readouterr().err
    assert (folder / "mine.txt").read_text() == "my own"


def test_truncated_and_large_images_are_judged_by_the_options(folder, capsys):
    image = folder / "images" / "5.jpg"
    image.write_bytes(image.read_bytes()[:-40])
    assert run(folder) == 1
    assert run(folder, "--allow_truncated") == 0
    assert run(folder, "--allow_truncated", "--max_pixels=169") == 1
    assert "'images/5.jpg': too large: 17 x 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give --dir IMAGES"),
        (["--lists=x"], "with --no_images"),
        (["--dir=.", "--num_workers=0"], "--num_workers: must be a whole number of 1 or more"),
        (["--dir=.", "--out=nowhere/all.txt"], "there is no folder nowhere"),
        (["--dir=.", "--name=cifar"], "invalid choice: 'cifar'"),
    ],
)
def test_impossible_arguments_exit_with_2(arguments, why, capsys):
    with pytest.raises(SystemExit) as caught:
        check.main(arguments)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


def test_a_missing_image_folder_is_one_error(folder, capsys):
    assert check.main([f"--dir={folder}/nowhere"]) == 1
    assert "error: " in (shown := capsys.readouterr().err) and "nowhere is not a folder" in shown


def test_an_interruption_exits_with_130_and_writes_nothing(folder, capsys, monkeypatch):
    sent = threading.Lock()

    def interrupt(*_: object) -> None:
        if sent.acquire(blocking=False):  # as Ctrl-C: once, to the whole process, in its waiting
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)

    append(folder / "train.txt", "images/9.jpg 1 1\n")
    monkeypatch.setattr(image_checks, "_check_image", interrupt)
    assert run(folder) == 130
    assert "Traceback" not in (shown := capsys.readouterr().err) and "stopped" in shown
    assert not (folder / "check_problems.txt").exists()


@pytest.mark.slow
def test_the_command_runs_as_a_module(folder):
    command = [sys.executable, "-m", "input_pipeline.check", f"--dir={folder}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    (folder / "classes.txt").write_text("mère\nπ\n", encoding="utf-8")
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "m\\xe8re" in done.stdout


def test_files_of_vectors_are_checked_and_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    vectors = np.arange(1, 161, dtype=np.float16).reshape(40, 4)
    np.save("vectors.npy", vectors)
    (tmp_path / "labels.txt").write_text("cat\ndog\n" * 20)
    assert check.main(["--embeddings=vectors.npy", "--labels=labels.txt"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "40 vectors of 4 float16 numbers in vectors.npy"
    assert [line.split()[:3] for line in shown[2:5]] == [
        ["train", "20", "2"], ["query", "4", "2"], ["database", "16", "2"]
    ]  # fmt: skip
    assert "least 10 (cat)" in shown[2]
    vectors[7] = np.nan
    np.save("vectors.npy", vectors)
    assert check.main(["--embeddings=vectors.npy", "--labels=labels.txt"]) == 1
    assert "1 of 40 vectors cannot be used: 1 with NaN (row 7)" in capsys.readouterr().err
    assert check.main(["--embeddings=vectors.npy"]) == 1
    assert "file beside it: --labels=FILE" in capsys.readouterr().err
    np.save("vectors.npy", np.ones((40, 4), np.float16))
    (tmp_path / "labels.txt").write_text("cat\n" * 40)
    assert check.main(["--embeddings=vectors.npy", "--labels=labels.txt"]) == 1
    shown = capsys.readouterr().out
    assert "training vectors have 1 class" in shown and "vectors are all the same" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dir=.", "--labels=x.txt"], "--labels: this goes with --embeddings FILE"),
        (["--embeddings=x.npy", "--folder"], "--embeddings goes without lists, --folder and"),
        (["--embeddings=x.npy", "--query_list=q.txt"], "--embeddings goes without lists"),
        (["--dir=.", "--folder", "--train_list=t.txt"], "--folder needs --dir, and goes without"),
        (["--dir=.", "--folder", "--lists=."], "--folder needs --dir, and goes without lists"),
        (["--name=mnist", "--database_list=d.txt"], "--name=mnist goes with --dir alone"),
    ],
)
def test_options_that_exclude_each_other_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        check.main(arguments)
    assert words in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error():
    code = "from input_pipeline.commands import run_command as run; exit(run(lambda: 'a\\n' * 10**6, ''))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "a\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0

"""The command line packs lists and folders, explains mistakes, and says how to train from it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import pack
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.lists.label_lists import write_list
from input_pipeline.packed import packing
from input_pipeline.sets.image_sets import (
    FolderSplits,
    ListFiles,
    load_folder,
    load_lists,
    load_packed,
)
from tests.input_pipeline.packed.packed_sets import Images, make_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lists(tmp_path) -> Path:
    """A folder with ten images and three lists."""
    images, folder = Images(), tmp_path / "photos"
    for name, data in zip(images.names, images.files, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for file, split in (("train", "train"), ("test", "query"), ("database", "database")):
        rows = getattr(images.splits, split)
        names = [images.names[row] for row in rows]
        write_list(folder / f"{file}.txt", names, images.labels[rows])
    return folder


def run(*arguments: object) -> int:
    return pack.main([str(argument) for argument in arguments])


def check_same(packed, unpacked) -> None:
    """The same names, labels and bytes for every split, in the same order."""
    assert isinstance(packed.images, EncodedImages) and isinstance(unpacked.images, EncodedImages)
    assert packed.class_names == unpacked.class_names
    for split in ("train", "query", "database"):
        ours, theirs = getattr(packed.splits, split), getattr(unpacked.splits, split)
        assert [packed.images.names[i] for i in ours] == [unpacked.images.names[i] for i in theirs]
        np.testing.assert_array_equal(packed.labels[ours], unpacked.labels[theirs])
        for i, j in zip(ours.tolist(), theirs.tolist(), strict=True):
            assert packed.images.reader.read(i) == unpacked.images.reader.read(j)


def test_packed_lists_are_the_same_data_as_the_files(lists, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("--dir", lists, "--name", "things", "--out", out, "--images_per_shard", 4) == 0
    unpacked = load_lists("lists", str(lists), ListFiles())
    check_same(load_packed("lists", str(out)), unpacked)
    printed = capsys.readouterr().out
    assert "9 images" in printed and "shards: 3, of which 0 were there" in printed
    assert "images/s" in printed
    assert "--config=configs/lists.py" in printed
    assert f"--config.data.source=packed --config.data.dir={out / 'things' / '1.0.0'}" in printed
    assert "data.resize" not in printed


def test_a_packed_folder_has_the_splits_that_its_config_would_draw(tmp_path, capsys):
    photos = tmp_path / "photos"
    for i in range(12):
        path = photos / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_image(i))
    sizes = ("--folder", "--train_per_class", 2, "--query_per_class", 1, "--seed", 5)
    options = ("--database", "train", "--resize", 20, "--apply_orientation")
    name = ("--dir", photos, "--name", "folder", "--out", tmp_path / "out")
    assert run(*name, *sizes, *options[:2]) == 0
    unpacked = load_folder(str(photos), 5, FolderSplits(1, 2, "train"))
    packed = load_packed("folder", str(tmp_path / "out"))
    check_same(packed, unpacked)
    assert packed.class_names == ("class 0", "class 1")
    assert len(packed.images) == 6, "images in no split are not packed"
    assert run(*name[:-1], tmp_path / "small", *sizes, *options) == 0
    printed = capsys.readouterr().out
    assert "--config=configs/folder.py" in printed
    assert "--config.data.resize=20 --config.data.apply_orientation=True" in printed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--folder", "--lists", "x"), "--lists: this means nothing with --folder"),
        (("--folder", "--query_list", "x"), "--query_list: this means nothing with --folder"),
        (
            ("--class_folders", "--train_per_class", 20, "--database", "train"),
            "--train_per_class, --database: this means nothing with --class_folders",
        ),
        (("--query_per_class", 3), "--query_per_class: lists are splits already"),
        (("--database", "train", "--seed", 1), "--database, --seed: lists are splits already"),
        (("--quality", 80), "so it needs --resize"),
    ],
)
def test_options_that_would_be_ignored_are_refused(lists, tmp_path, capsys, options, why):
    with pytest.raises(SystemExit):
        run("--dir", lists, "--name", "x", "--out", tmp_path / "out", *options)
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--query_per_class", "--train_per_class"])
@pytest.mark.parametrize("count", [-5, 0])
def test_a_class_has_one_image_of_a_split_at_least(lists, tmp_path, capsys, flag, count):
    with pytest.raises(SystemExit):
        run("--dir", lists, "--name", "x", "--out", tmp_path / "out", "--folder", f"{flag}={count}")
    assert f"argument {flag}: must be a whole number of 1 or more" in capsys.readouterr().err


def test_a_seed_that_cannot_be_is_named(lists, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("--dir", lists, "--name", "x", "--out", tmp_path / "out", "--folder", "--seed=-1")
    assert "argument --seed: must be a whole number from 0" in capsys.readouterr().err


def test_messages_name_the_options_of_this_command(tmp_path, capsys):
    for i in range(4):
        path = tmp_path / "photos" / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_image(i))
    name = ("--dir", tmp_path / "photos", "--name", "x", "--out", tmp_path / "out", "--folder")
    assert run(*name, "--query_per_class", 9) == 1
    message = capsys.readouterr().err
    assert "--query_per_class=" in message
    assert "--config" not in message


def test_lists_may_lie_elsewhere_under_other_names(lists, tmp_path):
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    for old, new in (("train", "a"), ("test", "b"), ("database", "c")):
        (lists / f"{old}.txt").rename(elsewhere / f"{new}.lst")
    names = ("--train_list", "a.lst", "--query_list", "b.lst", "--database_list", "c.lst")
    where = ("--dir", lists, "--lists", elsewhere, "--out", tmp_path / "out", "--name", "x")
    assert run(*where, *names) == 0
    assert len(load_packed("lists", str(tmp_path / "out")).images) == 9


def test_a_tilde_is_the_home_folder_in_every_path(lists, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("--dir=~/photos", "--lists=~/photos", "--name=x", "--out=~/out") == 0
    assert len(load_packed("lists", str(tmp_path / "out")).images) == 9


def test_unreadable_images_end_the_run_or_are_left_out(lists, tmp_path, capsys):
    images = Images()
    (lists / images.names[8]).write_bytes(b"no image")
    (lists / images.names[5]).unlink()
    arguments = ("--dir", lists, "--name", "things", "--out", tmp_path / "out")
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: 2 of 9 images cannot be read:")
    assert f"{images.names[8]}: not an image" in error
    assert run(*arguments, "--on_unreadable", "skip") == 0
    printed = capsys.readouterr().out
    assert "left out: 2 unreadable images (1 train, 1 query, 1 database)" in printed
    assert f"  {images.names[8]}: not an image" in printed


def test_the_sizes_of_a_published_protocol_are_checked(lists, tmp_path, capsys):
    assert run("--dir", lists, "--name", "coco", "--out", tmp_path / "out") == 1
    assert "error: the lists cannot be used for coco" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "My Set"), "the name 'My Set'"),
        (("--name", "x", "--resize", "9", "--quality", "0"), "quality must be in 1..100"),
        (("--name", "x", "--dir", "nowhere"), "nowhere is not a folder"),
        (("--name", "x", "--lists", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_1(lists, tmp_path, capsys, arguments, message):
    assert run("--dir", lists, "--out", tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out").exists()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    assert "python -m input_pipeline.pack --name coco" in capsys.readouterr().out


def test_interrupting_says_that_the_same_command_goes_on(lists, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "write_shard", interrupt)
    arguments = ("--dir", lists, "--name", "things", "--out", tmp_path / "out")
    assert run(*arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(*arguments) == 0


@pytest.mark.slow
def test_ctrl_c_ends_a_real_process_without_a_traceback(tmp_path):
    folder, count = tmp_path / "photos", 3000
    for i in range(2):
        (folder / f"class{i}").mkdir(parents=True)
    data = make_image(0, 200, 150)
    for i in range(count):
        (folder / f"class{i % 2}" / f"{i}.jpg").write_bytes(data)
    command = [sys.executable, "-m", "input_pipeline.pack", "--dir", folder, "--folder"]
    command += ["--name", "x", "--out", tmp_path / "out", "--resize", "100"]
    command += ["--images_per_shard", "100", "--num_workers", "2"]
    process = subprocess.Popen(
        [os.fspath(word) for word in command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    directory = tmp_path / "out" / "x" / "1.0.0"
    deadline = time.monotonic() + 60
    while not list(directory.glob("*-00000-of-00030")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "goes on" in error
    assert not list(directory.glob("*.incomplete"))
    assert not (directory / "dataset_info.json").exists()

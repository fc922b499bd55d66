"""`hybridhash index`: what it prints, and its exit codes."""

import dataclasses
import io
import json
import subprocess
import sys

import pytest

from hybridhash_jax.retrieval.index import open_index, open_writer
from hybridhash_jax.retrieval.index.command import main
from tests.retrieval.index.made import MODEL, codes_of, entry_of, hashes_of, make

PATHS = [b"cat/1.jpg", b"cat/2.jpg", b"dog/1.jpg", b"\xff,\n.jpg"]


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "i", PATHS)


def test_info_tells_what_there_is(path, capsys):
    with open_writer(path) as writer:
        writer.note_backend("cuda", "float32", 256, 12)
        writer.remove([b"dog/1.jpg"])
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    for part in (
        "3 images, 64 bits",
        f"{MODEL.name}, fingerprint a1a1a1a1a1a1\n",
        "float32 on cpu",
        "3 searched, 1 gone, in 1 segment",
        "cat 2, (none) 1",
        "float32 on cuda: 12 of 16,384 bits of 256 sample images differ",
    ):
        assert part in text


def test_labels_are_escaped_once(tmp_path, capsys):
    path = make(tmp_path / "i", [b"caf\xe9/1.jpg", b"a\\b/2.jpg"])
    assert main(["info", str(path)]) == 0
    assert r"  labels      a\\b 1, caf\xe9 1" in capsys.readouterr().out.splitlines()


def test_info_as_json(path, capsys):
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 4
    assert facts["labels"] == {"": 1, "cat": 2, "dog": 1}
    assert facts["model"]["fingerprint"] == MODEL.fingerprint


def test_verify_exits_with_1_where_there_is_damage(path, capsys):
    assert main(["verify", str(path)]) == 0
    assert "is whole" in capsys.readouterr().out
    (file,) = path.rglob("*.codes")
    file.write_bytes(bytes(32))
    assert main(["verify", str(path)]) == 1
    assert f"{file} is damaged: rows 0 to 3" in capsys.readouterr().out
    assert main(["info", str(path)]) == 0
    assert f"DAMAGED     segments/{file.name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["cat/1.jpg", "nowhere.jpg"], PATHS[1:]),
        (["--where", "label=cat"], PATHS[2:]),
        (["--where", "label=cat", "path=*/1.jpg"], PATHS[1:]),
        (["--where", "label=cat", "--where", "path=*/1.jpg"], PATHS[1:]),
        (["dog/1.jpg", "--where", "label=cat"], PATHS[3:]),
    ],
)
def test_images_are_removed(path, arguments, left, capsys):
    assert main(["remove", str(path), *arguments]) == 0
    assert open_index(path).paths()[0] == left
    out = capsys.readouterr().out
    assert f"removed {4 - len(left)} image" in out
    assert ("nowhere.jpg" in out) == ("nowhere.jpg" in arguments)


@pytest.mark.parametrize(
    "data",
    [
        b"cat/1.jpg\ncat/2.jpg\n",
        b"cat/1.jpg\r\n\r\ncat/2.jpg\r\n",  # as Windows writes it
        b"\xff,\n.jpg\0cat/1.jpg\0",
    ],
)
def test_a_list_names_what_is_removed(path, data, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["remove", str(path), "--list=-"]) == 0
    assert len(open_index(path)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to remove"),
        (["nowhere.jpg"], "has none of these images"),
        (["--where", "cat"], "takes KEY=VALUE"),
        (["--where", "color=red"], "give label or path"),
        (["--list=missing.txt"], "missing.txt: No such file"),
    ],
)
def test_what_cannot_be_removed_is_one_line(path, arguments, message, capsys):
    assert main(["remove", str(path), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert len(open_index(path)) == 4


def test_indexes_are_merged_and_compacted(path, tmp_path, capsys):
    other = make(tmp_path / "o", [b"new"], model=dataclasses.replace(MODEL, backend="tpu"))
    assert main(["merge", str(path), str(other), f"--out={tmp_path / 'all'}"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("warning: ") and "float32 on tpu" in printed.err
    assert "5 images" in printed.out
    with open_writer(tmp_path / "all") as writer:
        writer.add([entry_of(b"x")], codes_of([b"x"]), hashes_of([b"x"]))
    assert main(["compact", str(tmp_path / "all")]) == 0
    assert "6 images" in capsys.readouterr().out
    assert len(open_index(tmp_path / "all").segments) == 1


def test_usage_errors_exit_with_2(capsys):
    for arguments in ([], ["erase"], ["merge", "a"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["merge", "--help"])
    assert ended.value.code == 0
    assert "hybridhash index merge a.idx b.idx --out=all.idx" in capsys.readouterr().out


def test_images_that_moved_are_found_again(path, tmp_path, capsys):
    assert main(["move", str(path), str(tmp_path)]) == 1
    assert "has none of 4 images of" in capsys.readouterr().err
    (tmp_path / "new" / "cat").mkdir(parents=True)
    (tmp_path / "new" / "cat" / "2.jpg").touch()
    assert main(["move", str(path), str(tmp_path / "new")]) == 0
    with open_index(path) as index:
        assert index.root == tmp_path / "new"
        assert len(index) == 4


def test_an_answer_that_cannot_be_printed_is_an_error(tmp_path):
    path = make(tmp_path / "i", [b"0"])
    command = [sys.executable, "-m", "hybridhash_jax", "index", "info", str(path)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file", "it is a file, and an index is a folder"),
        ("folder", "it is a folder without index.json. `hybridhash encode FOLDER --index=NEW`"),
        ("nothing", "it does not exist"),
    ],
)
def test_what_is_no_index_is_told_by_what_it_is(tmp_path, capsys, place, words):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    assert main(["info", str(tmp_path / place)]) == 1
    assert words in capsys.readouterr().err


def test_nothing_is_moved_to_a_folder_that_is_not_there(tmp_path, capsys):
    path = make(tmp_path / "i")
    assert main(["move", str(path), str(tmp_path / "typo")]) == 1
    assert "typo is no folder" in capsys.readouterr().err


def test_the_root_of_a_merged_index_is_checked_as_that_of_a_moved_one(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = [
        make(tmp_path / name, [name.encode()], root=tmp_path / f"old{name}") for name in "12"
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1").touch()
    command = ["merge", *map(str, sources), f"--out={tmp_path / 'all'}"]
    for root, message in (("~/typo", "typo is no folder"), ("~/photos", "has none of 1 images of")):
        assert main([*command, f"--root={root}"]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
    (tmp_path / "photos" / "2").touch()
    assert main([*command, "--root=~/photos"]) == 0
    assert open_index(tmp_path / "all").root == tmp_path / "photos"


def test_an_index_is_not_made_inside_another(tmp_path, capsys):
    path = make(tmp_path / "i", [b"0"])
    assert main(["merge", str(path), f"--out={path}/x"]) == 1
    assert "is inside the index" in capsys.readouterr().err


def test_the_list_may_be_in_the_home_folder(path, tmp_path, monkeypatch):
    (tmp_path / "gone.txt").write_text("cat/1.jpg\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["remove", str(path), "--list=~/gone.txt"]) == 0
    with open_index(path) as index:
        assert b"cat/1.jpg" not in index.paths()[0]

"""`input_pipeline.check --near_duplicates`: notices, over lists and over a folder."""

from pathlib import Path

import numpy as np
import pytest

from input_pipeline import check
from input_pipeline.lists.label_lists import write_list
from tests.input_pipeline.near_duplicates.scenes import crop, scene


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Scenes 0 to 7 in classes a and b; 0 again smaller, and a crop of 1."""
    monkeypatch.chdir(tmp_path)
    images = {f"{'ab'[seed % 2]}/{seed}.png": scene(seed) for seed in range(8)}
    images |= {"a/small.png": scene(0).resize((90, 70)), "b/part.png": crop(scene(1), 0.8, 0, 1)}
    for name, picture in images.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "images" / name)
    return tmp_path


def write_lists(folder: Path, train: list[str], test: list[str], database: list[str]) -> None:
    for name, paths in (("train", train), ("test", test), ("database", database)):
        labels = np.ones((len(paths), 2), np.uint8)
        write_list(folder / "images" / f"{name}.txt", paths, labels)


def run(*arguments: str) -> int:
    return check.main(["--dir=images", "--near_duplicates", "--num_workers=2", *arguments])


def test_pairs_of_queries_and_what_they_are_searched_in_are_notices(folder, capsys):
    train = ["b/3.png", "b/1.png"]
    # small.png and 0.png are both in the database: no leak.
    write_lists(folder, train, ["b/part.png", "b/5.png"], ["a/0.png", "a/small.png", "a/2.png"])
    assert run() == 0
    shown = capsys.readouterr().out
    assert "1 pair of near-duplicates of a query and a training image" in shown
    assert "query 'b/part.png' and training 'b/1.png' (shows more, similarity " in shown
    assert "and a database image" not in shown
    written = (folder / "check_problems.txt").read_text()
    assert "notice:   query 'b/part.png' and training 'b/1.png'" in written


def test_a_query_that_is_equal_to_a_database_image_is_told_so(folder, capsys):
    scene(0).save(folder / "images" / "b" / "copy.bmp")
    write_lists(folder, ["b/3.png"], ["b/copy.bmp"], ["a/0.png"])
    assert run() == 0
    shown = capsys.readouterr().out
    assert "query 'b/copy.bmp' and database 'a/0.png' (equal, similarity 1.00)" in shown


def test_a_query_that_is_in_the_database_is_not_paired_with_itself(folder, capsys):
    write_lists(folder, ["b/3.png"], ["a/0.png"], ["a/0.png", "a/small.png", "a/2.png"])
    assert run() == 1  # which is a problem of its own
    shown = capsys.readouterr().out
    assert "1 pair of near-duplicates of a query and a database image" in shown
    assert "query 'a/0.png' and database 'a/small.png' (same view" in shown


def test_a_folder_has_pairs_anywhere(folder, capsys):
    assert run("--folder") == 0
    shown = capsys.readouterr().out
    assert "2 pairs of near-duplicates, which may become query and database" in shown
    assert "no problems, 1 notice; every notice, pair by pair, is in check_problems.txt" in shown
    assert (
        "'b/1.png' and 'b/part.png' (cropped, similarity " in Path("check_problems.txt").read_text()
    )


def test_images_that_cannot_be_read_are_passed_over(folder, capsys):
    (folder / "images" / "a" / "bad.png").write_bytes(b"nothing")
    assert run("--folder") == 1
    assert "2 pairs of near-duplicates" in capsys.readouterr().out


def test_it_goes_with_images_only(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        run("--folder", "--no_images")
    assert ended.value.code == 2 and "--near_duplicates reads images" in capsys.readouterr().err

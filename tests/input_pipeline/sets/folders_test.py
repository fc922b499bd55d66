"""One subfolder a class: which files count, what is left out, and that no link makes it hang."""

import io
import os
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from input_pipeline.errors import DataError
from input_pipeline.sets.folders import FolderImages, scan_folder


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def classes(found: FolderImages) -> list[str]:
    return [found.class_names[i] for i in found.class_ids]


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan_folder(root)
    return str(caught.value)


def test_names_and_classes_are_sorted_and_images_may_lie_deeper(tmp_path):
    found = scan_folder(make(tmp_path, "dog/b.jpg", "cat/z.jpg", "cat/a/deep/x.png", "dog/a.jpg"))
    assert found.names == ["cat/a/deep/x.png", "cat/z.jpg", "dog/a.jpg", "dog/b.jpg"]
    assert found.class_names == ("cat", "dog")
    assert found.class_ids.tolist() == [0, 0, 1, 1]
    assert found.class_ids.dtype == np.int64
    assert found.ignored == ()


def test_a_class_whose_name_starts_like_another_keeps_its_images(tmp_path):
    found = scan_folder(make(tmp_path, "a/x.jpg", "a b/x.jpg", "a-b/x.jpg", "a/y.jpg"))
    assert found.names == ["a b/x.jpg", "a-b/x.jpg", "a/x.jpg", "a/y.jpg"]
    assert classes(found) == ["a b", "a-b", "a", "a"]


def test_images_are_told_by_their_suffix_in_any_case(tmp_path):
    names = ["a.JPG", "b.jpeg", "c.Png", "d.bmp", "e.gif", "f.webp", "g.tif", "h.TIFF", "h.jfif"]
    others = ["i.txt", "j.jpg.part", "jpg", "k.mp4"]
    found = scan_folder(make(tmp_path, *(f"x/{name}" for name in names + others)))
    assert found.names == [f"x/{name}" for name in names]
    assert found.ignored == ("x/i.txt", "x/j.jpg.part", "x/jpg", "x/k.mp4")


def test_files_of_other_endings_are_told_by_their_content(tmp_path):
    make(tmp_path, "x/notes.txt", "x/empty")
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "PNG")
    for name in ("IMG_0001", "photo.original"):
        (tmp_path / "x" / name).write_bytes(image.getvalue())
    found = scan_folder(tmp_path)
    assert found.names == ["x/IMG_0001", "x/photo.original"]
    assert found.ignored == ("x/empty", "x/notes.txt")


def test_a_damaged_file_that_is_named_as_an_image_is_not_ignored(tmp_path):
    found = scan_folder(make(tmp_path, "x/a.MPO", "x/b.apng", "x/c.avifs", "x/d.hif"))
    assert found.names == ["x/a.MPO", "x/b.apng", "x/c.avifs"]
    assert "1 .hif file, convert them to JPEG" in found.left_out()[0]  # not read everywhere


def test_junk_of_storage_boxes_and_archives_is_no_image(tmp_path):
    junk = ["x/@eaDir/a.jpg", "__MACOSX/x/b.jpg", "x/Thumbs.db", "#recycle/c.jpg", "x/._a.jpg"]
    found = scan_folder(make(tmp_path, "x/a.jpg", *junk))
    assert found.names == ["x/a.jpg"]
    assert found.class_names == ("x",)
    assert found.ignored == ()


def test_what_is_left_out_is_told_by_kind_and_every_class_by_name(tmp_path):
    make(tmp_path, "x/a.jpg", *(f"x/{i}.heic" for i in range(5)), "kiwi/1.txt", "plum/", "y/b.jpg")
    told = "; ".join(scan_folder(tmp_path).left_out())
    assert "folders without images: kiwi/" in told
    assert "5 .heic files, convert them to JPEG (x/0.heic, x/1.heic, x/2.heic and 2 more)" in told
    assert "1 .txt file (kiwi/1.txt)" in told


@pytest.mark.parametrize(
    "names", [("train", "val"), ("Training", "test"), ("train", "valid", "test")]
)
def test_splits_are_not_taken_for_classes(tmp_path, names):
    make(tmp_path, *(f"{name}/cat/a.jpg" for name in names))
    message = refusal(tmp_path)
    assert "look like splits" in message
    assert "--config.data.name=class_folders --config.data.protocol=class_folders" in message


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    found = scan_folder(
        make(tmp_path, "x/a.jpg", "x/.b.jpg", ".git/c.jpg", "x/.thumbs/d.jpg", ".DS_Store")
    )
    assert found.names == ["x/a.jpg"]
    assert found.ignored == ()


def test_loose_images_and_empty_classes_are_ignored_and_told(tmp_path):
    make(tmp_path, "x/a.jpg", "loose.jpg", "notes.txt", "y/readme.md")
    (tmp_path / "empty").mkdir()
    found = scan_folder(tmp_path)
    assert found.class_names == ("x",)
    assert found.ignored == ("empty/", "loose.jpg", "notes.txt", "y/", "y/readme.md")


def test_a_folder_without_classes_or_images_is_explained(tmp_path):
    assert "is not a folder" in refusal(tmp_path / "nowhere")
    assert "has no subfolders; put" in refusal(tmp_path)
    make(tmp_path, "a.jpg", "b.png", "c.txt")
    assert "2 images lie right in it" in refusal(tmp_path)
    make(tmp_path, "x/readme.md")
    assert "1 subfolders but no image" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "a.jpg")


def test_links_to_images_and_to_folders_elsewhere_are_followed(tmp_path):
    root = make(tmp_path / "root", "x/a.jpg")
    make(tmp_path / "store", "y/b.jpg", "y/deep/c.jpg", "d.jpg")
    (root / "y").symlink_to(tmp_path / "store" / "y")
    (root / "x" / "d.jpg").symlink_to(tmp_path / "store" / "d.jpg")
    assert scan_folder(root).names == ["x/a.jpg", "x/d.jpg", "y/b.jpg", "y/deep/c.jpg"]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("x/up", ".."),
        ("x/self", "self"),
        ("x/here", "."),
        ("x/root", "/"),
        ("x/other", "../y"),
        ("again", "x"),
        ("x/deep/up", "../.."),
    ],
)
def test_links_that_lead_back_are_left_out_and_told(tmp_path, link, target):
    make(tmp_path, "x/a.jpg", "x/deep/b.jpg", "y/c.jpg")
    (tmp_path / link).symlink_to(target)
    found = scan_folder(tmp_path)
    assert found.names == ["x/a.jpg", "x/deep/b.jpg", "y/c.jpg"]
    assert [name.rstrip("/") for name in found.ignored] == [link]


def test_loops_outside_the_folder_end_too(tmp_path):
    make(tmp_path / "store", "y/b.jpg", "z/c.jpg")
    (tmp_path / "store" / "y" / "up").symlink_to("..")
    (tmp_path / "store" / "y" / "z").symlink_to("../z")
    (tmp_path / "store" / "z" / "y").symlink_to("../y")
    root = make(tmp_path / "root", "x/a.jpg")
    (root / "y").symlink_to(tmp_path / "store" / "y")
    found = scan_folder(root)
    assert found.names == ["x/a.jpg", "y/b.jpg", "y/z/c.jpg"]
    assert found.ignored == ("y/up/", "y/z/y/")


def test_a_link_from_elsewhere_to_above_the_folder_is_left_out(tmp_path):
    root = make(tmp_path / "place" / "root", "x/a.jpg")
    make(tmp_path / "place", "other/z.jpg")
    make(tmp_path / "store" / "y", "b.jpg")
    (tmp_path / "store" / "y" / "place").symlink_to(tmp_path / "place")
    (root / "y").symlink_to(tmp_path / "store" / "y")
    found = scan_folder(root)
    assert found.names == ["x/a.jpg", "y/b.jpg"]
    assert found.ignored == ("y/place/",)


def test_broken_links_and_pipes_are_no_images(tmp_path):
    make(tmp_path, "x/a.jpg")
    (tmp_path / "x" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "x" / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "x" / "pipe.jpg")
    found = scan_folder(tmp_path)
    assert found.names == ["x/a.jpg"]
    assert found.ignored == ("x/gone.jpg", "x/pipe.jpg")


def test_names_that_are_no_text_are_left_out_and_shown(tmp_path):
    make(tmp_path, "x/a.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/x/caf\xe9.jpg")).touch()
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    found = scan_folder(tmp_path)
    assert found.names == ["x/a.jpg"]
    assert found.ignored == ("\\xff/", "x/caf\\xe9.jpg")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make(tmp_path, "x/a.jpg")

    def scandir(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert f"cannot read the folder {tmp_path}" in refusal(tmp_path)


@hypothesis.given(
    st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "p/", "q/"]), st.integers(0, 9)))
    .filter(bool)
)  # fmt: skip
def test_every_image_is_found_once_in_its_class(tmp_path_factory, files):
    names = [f"{class_name}/{inner}{i}.jpg" for class_name, inner, i in files]
    found = scan_folder(make(tmp_path_factory.mktemp("root"), *names))
    assert found.names == sorted(names)
    assert classes(found) == [name[0] for name in found.names]


def test_a_single_class_is_explained_with_the_folder_that_may_be_meant(tmp_path):
    found = scan_folder(make(tmp_path, "animals/cat/a.jpg", "animals/dog/b.jpg"))
    assert found.one_class_only() == (
        "there is one class, animals, and two are needed; its subfolders cat, dog may be the "
        "classes: give animals"
    )
    make(tmp_path, "plants/c.jpg")
    assert scan_folder(tmp_path).one_class_only() is None


def test_a_packed_data_set_and_loose_images_are_told_apart_from_classes(tmp_path):
    make(tmp_path / "packed", "1.0.0/packing.json", "1.0.0/things.array_record")
    assert "holds a packed data set: add --config.data.source=packed" in refusal(
        tmp_path / "packed"
    )
    make(tmp_path / "classes", "x/a.jpg", "loose.jpg")
    (tmp_path / "classes/x/gone.jpg").symlink_to("nowhere")
    told = "; ".join(scan_folder(tmp_path / "classes").left_out())
    assert "2 .jpg files in no class, or links to nothing (loose.jpg, x/gone.jpg)" in told

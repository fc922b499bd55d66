"""Which files of a folder or a list are encoded, in which order, whatever their names are."""

import os

import pytest
from PIL import Image

from hybridhash_jax.retrieval.encoding.comparison import compare, file_facts, gone, is_missing
from hybridhash_jax.retrieval.encoding.listing import list_folder, read_list, shard_of
from hybridhash_jax.retrieval.encoding.path_list import PathList
from hybridhash_jax.retrieval.encoding.unreadable import (
    FILE,
    Refused,
    read_unreadable,
    write_unreadable,
)
from hybridhash_jax.retrieval.index import Known
from hybridhash_jax.retrieval.names import exact, inside, shown
from input_pipeline.errors import DataError
from input_pipeline.images.formats import FORMATS
from input_pipeline.near_duplicates.reading import image_files

ODD = [b"a\nb.jpg", b"c,d.PNG", b"q\"'.webp", b"caf\xe9.jpg", b"tab\t\\n.gif", "日本.tif".encode()]


def make(root, *paths):
    for path in paths:
        whole = os.path.join(os.fsencode(root), path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "wb") as file:
            file.write(b"x")


def test_paths_are_in_the_order_of_their_bytes_with_any_names(tmp_path):
    paths = [b"a/1.jpg", b"a.b/1.jpg", b"a-1.jpg", b"a0.jpg", b"Z.jpeg", *ODD, b"a/b/c/2.heic"]
    make(tmp_path, *paths)
    listing = list_folder(tmp_path)
    assert list(listing.paths) == sorted(paths)
    assert listing.left_out() == ""


def test_folders_may_lie_deeper_in_each_other_than_calls_may(tmp_path):
    depth, name = 1200, "d/"
    folders = [tmp_path / (name * number) for number in range(1, depth + 1)]
    try:
        for folder in folders:
            os.mkdir(folder)
        (folders[-1] / "1.jpg").touch()
        assert list(list_folder(tmp_path).paths) == [os.fsencode(f"{name * depth}1.jpg")]
    finally:  # what clears the test's folder calls itself, too
        (folders[-1] / "1.jpg").unlink(missing_ok=True)
        for folder in reversed(folders):
            os.rmdir(folder)


def test_encoding_and_near_duplicates_take_the_same_files(tmp_path):
    Image.init()
    ends = [end for end, name in Image.EXTENSION.items() if name in (*FORMATS, "MPO", "DIB")]
    named = {f"1{end}" for end in (*ends, ".MPO", ".heic", ".heif", ".hif")}
    assert {"1.mpo", "1.apng", "1.avifs"} <= named
    make(tmp_path, *map(os.fsencode, named), b"1.eps", b"1.txt", b"jpg")
    assert set(image_files(tmp_path)) == named
    assert list(list_folder(tmp_path).paths) == sorted(map(os.fsencode, named))


def test_what_is_left_out_is_counted(tmp_path):
    root = tmp_path / "root"
    make(root, b"1.jpg", b"notes.txt", b".hidden.jpg", b".thumbs/2.jpg", b"d/3.jpg")
    make(tmp_path, b"outside/4.jpg")
    os.symlink("../outside/4.jpg", root / "out.jpg")
    os.symlink("../outside", root / "folder")
    os.symlink("d/3.jpg", root / "in.jpg")
    os.symlink(".", root / "loop")
    os.symlink("nothing", root / "broken.jpg")
    make(root, b"x.idx/index.json", b"x.idx/segments/a", b"x.idx/thumbnails/5.jpg")
    make(root, b"own.idx/6.jpg")
    listing = list_folder(root, leave_out=root / "own.idx")
    assert list(listing.paths) == [b"1.jpg", b"d/3.jpg", b"in.jpg"]
    assert (listing.others, listing.hidden, listing.links) == (1, 2, 4)
    assert "2 hidden names" in listing.left_out()


def test_a_folder_that_cannot_be_read_is_named_and_loses_nothing(tmp_path, monkeypatch):
    make(tmp_path, b"a/1.jpg", b"b/2.jpg")
    scan = os.scandir

    def refuse(path):
        if path.endswith(b"/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_folder(tmp_path)
    assert list(listing.paths) == [b"a/1.jpg"]
    assert listing.left_out() == "the folder b (Permission denied)"
    known = [b"a/1.jpg", b"a/9.jpg", b"b/2.jpg"]
    assert gone(known, listing.paths, b"") == [b"a/9.jpg", b"b/2.jpg"]
    assert gone([*known[:2], b"ab/1.jpg"], [], b"a") == [b"a/1.jpg", b"a/9.jpg"]
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        list_folder(tmp_path, b"b")


def test_only_a_file_or_what_cannot_be_looked_at_is_not_missing(tmp_path, monkeypatch):
    make(tmp_path, b"a/1.jpg", b"folder.jpg/1.jpg")
    os.symlink("a/1.jpg", tmp_path / "link.jpg")
    os.symlink("nothing", tmp_path / "broken.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    top = os.fsencode(tmp_path)
    for there in (b"a/1.jpg", b"link.jpg"):
        assert not is_missing(os.path.join(top, there))
    # In a/1.jpg/x.jpg a file stands where its folder was.
    for gone_ in (b"a/2.jpg", b"broken.jpg", b"folder.jpg", b"pipe.jpg", b"a/1.jpg/x.jpg"):
        assert is_missing(os.path.join(top, gone_))

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert not is_missing(b"a/2.jpg")


def test_a_list_may_be_reached_through_a_link_and_begin_with_a_mark(tmp_path):
    make(tmp_path, b"real/1.jpg")
    os.symlink("real", tmp_path / "link")
    listing = read_list(b"\xef\xbb\xbf1.jpg\n", tmp_path / "link", tmp_path / "real")
    assert list(listing.paths) == [b"1.jpg"]


def test_shards_are_the_listing_cut_in_parts():
    paths = PathList(b"%d" % number for number in range(10))
    parts = [list(shard_of(paths, index, 4)) for index in range(1, 5)]
    assert sum(parts, []) == list(range(10))
    assert {len(part) for part in parts} == {2, 3}


def test_a_list_may_have_any_names_and_stays_below_its_root(tmp_path):
    start = tmp_path / "lists"
    lines = b"b/2.jpg\r\n\n" + os.fsencode(start / "a.jpg") + b"\nb/../b/2.jpg\n"
    assert list(read_list(lines, start, start).paths) == [b"a.jpg", b"b/2.jpg"]
    assert list(read_list(lines, start, tmp_path).paths) == [b"lists/a.jpg", b"lists/b/2.jpg"]
    assert list(read_list(b"\0".join(ODD), start, start).paths) == sorted(ODD)
    with pytest.raises(DataError, match=r"line 2 of the list, \.\./c\.jpg, is not below .*--root"):
        read_list(b"a.jpg\n../c.jpg", start, start)


def test_a_path_list_is_a_sequence():
    paths = PathList(ODD)
    assert list(paths) == [paths[i] for i in range(len(ODD))] == ODD
    assert paths[-1] == ODD[-1] and list(paths[1:3]) == ODD[1:3]
    with pytest.raises(IndexError):
        paths[len(ODD)]


@pytest.mark.parametrize("name", [*ODD, b"\\", b"\\x41", b"a b", bytes(range(1, 256))])
def test_a_name_is_shown_in_one_line_and_kept_exactly(name):
    text = shown(name)
    assert text.isprintable()
    assert exact(text) == name


def test_a_path_is_inside_only_below_the_root(tmp_path):
    assert inside(tmp_path / "a/../b", tmp_path) == b"b"
    assert inside(tmp_path, tmp_path) == b""
    assert inside(f"{tmp_path}x", tmp_path) is None
    assert inside("/a/b", "/") == b"a/b"


def test_the_unreadable_are_listed_and_read_again(tmp_path):
    refused = {name: Refused("not an\nimage", 5, 7) for name in ODD} | {
        b"gone.jpg": Refused("gone")
    }
    write_unreadable(tmp_path, refused)
    assert (tmp_path / FILE).read_text().count("\n") == len(refused)
    back = read_unreadable(tmp_path)
    assert back.keys() == refused.keys()
    assert back[b"c,d.PNG"] == Refused("not an image", 5, 7)
    assert back[b"gone.jpg"] == Refused("gone")
    write_unreadable(tmp_path, {})
    assert not (tmp_path / FILE).exists()


def test_only_what_is_new_or_changed_is_to_be_done(tmp_path):
    names = [b"changed.jpg", b"new.jpg", b"other_refused.jpg", b"refused.jpg", b"same.jpg"]
    make(tmp_path, *names)
    top = os.fsencode(tmp_path)
    facts = file_facts(top, b"same.jpg")
    known = {b"same.jpg": Known(0, *facts), b"changed.jpg": Known(1, 1, 1)}
    refused = {
        b"refused.jpg": Refused("broken", *file_facts(top, b"refused.jpg")),
        b"other_refused.jpg": Refused("no permission"),
    }
    found = compare(PathList(names), range(5), top, known, refused)
    assert [names[i] for i in found.to_do] == [b"changed.jpg", b"new.jpg", b"other_refused.jpg"]
    assert (found.changed, found.unchanged, list(found.refused)) == (1, 1, [b"refused.jpg"])
    assert len(compare(PathList(names), range(5), top, known, {}).to_do) == 4

"""Packing keeps every byte, goes on after a kill with the same result, and never half-finishes."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from input_pipeline.errors import DataError, UnreadableImage
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.packed.records import open_packed
from input_pipeline.splits import Splits
from tests.input_pipeline.packed.packed_sets import CLASSES, Images, contents, make_image

ROOT = Path(__file__).resolve().parents[3]
DIRECTORY = Path("things") / "1.0.0"
BROKEN = b"\xff\xd8\xff not an image"


def test_records_hold_the_files_bytes_by_first_appearance_in_the_lists(tmp_path):
    images = Images()
    summary = images.pack(tmp_path)
    assert (summary.num_images, summary.num_shards, summary.reused_shards) == (9, 3, 0)
    packed = open_packed(summary.directory)
    reader = packed.open_reader()
    assert [reader.read(i) for i in range(9)] == [images.files[row] for row in images.order]
    assert packed.lists[0].paths == [images.names[row] for row in (7, 2, 5)]
    assert packed.lists[1].paths == [images.names[row] for row in (1, 8)]
    assert packed.lists[2].paths == [images.names[row] for row in (5, 0, 3, 4, 6)]
    np.testing.assert_array_equal(packed.lists[2].labels, images.labels[[5, 0, 3, 4, 6]])
    assert sorted(images.reads) == sorted(images.order), "image 9 is in no split"


@pytest.mark.parametrize("resize", [None, 20])
def test_the_same_images_give_the_same_bytes_with_any_number_of_threads(tmp_path, resize):
    for workers in (1, 3):
        Images().pack(tmp_path / str(workers), resize=resize, num_workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert set(contents(tmp_path / "1" / DIRECTORY)) == {
        *(f"things-images.array_record-0000{i}-of-00003" for i in range(3)),
        *("train.txt", "test.txt", "database.txt", "classes.txt", "packing.json"),
        *("features.json", "dataset_info.json"),
    }


def interrupted(images: Images, after: int):
    """A `read` that ends with Ctrl-C."""

    def read(row: int) -> bytes:
        if len(images.reads) >= after:
            raise KeyboardInterrupt
        return images.read(row)

    return read


def test_an_interrupted_pack_leaves_whole_shards_and_goes_on_to_the_same_bytes(tmp_path):
    Images().pack(tmp_path / "whole")
    images = Images()
    with pytest.raises(KeyboardInterrupt):
        images.pack(tmp_path / "cut", read=interrupted(images, 6))
    left = set(contents(tmp_path / "cut" / DIRECTORY))
    first = "things-images.array_record-00000-of-00003"
    assert left == {first, f"{first}.json", "packing.part.json"}
    (tmp_path / "cut" / DIRECTORY / ".packing.json.7.part").write_text("half a file")
    images.reads.clear()
    summary = images.pack(tmp_path / "cut")
    assert summary.reused_shards == 1
    assert sorted(images.reads) == sorted(images.order[4:]), "the first shard is not read again"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.input_pipeline.packed.packed_sets import Images
images = Images()
def read(row):
    if row == images.order[6]:
        os.kill(os.getpid(), signal.SIGKILL)
    return images.files[row]
images.pack(Path(sys.argv[1]), read=read)
"""


@pytest.mark.slow
def test_a_killed_pack_goes_on_to_the_same_bytes(tmp_path):
    cut = tmp_path / "cut"
    command = [sys.executable, "-c", KILLED, os.fspath(cut)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with pytest.raises(DataError, match="not complete"):
        open_packed(cut)
    assert Images().pack(cut).reused_shards == 1
    Images().pack(tmp_path / "whole")
    assert contents(cut) == contents(tmp_path / "whole")


def test_two_packs_do_not_write_into_one_directory(tmp_path):
    images, refused = Images(), []

    def read(row: int) -> bytes:
        with pytest.raises(DataError, match="another process packs into .*things.*wait") as error:
            Images().pack(tmp_path / "one")
        refused.append(error)
        return images.files[row]

    images.pack(tmp_path / "one", read=read)
    assert len(refused) == 9
    Images().pack(tmp_path / "whole")
    assert contents(tmp_path / "one") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["cut off", "replaced"])
def test_a_shard_of_another_size_than_was_written_is_written_again(tmp_path, change):
    images = Images()
    with pytest.raises(KeyboardInterrupt):
        images.pack(tmp_path / "cut", read=interrupted(images, 6))
    name = DIRECTORY / "things-images.array_record-00000-of-00003"
    shard = tmp_path / "cut" / name
    if change == "cut off":
        os.truncate(shard, shard.stat().st_size - 1)
    else:
        others = Images()
        others.files = [make_image(6, 300, 400)] * 10
        others.pack(tmp_path / "others")
        shard.write_bytes((tmp_path / "others" / name).read_bytes())
    assert images.pack(tmp_path / "cut").reused_shards == 0
    Images().pack(tmp_path / "whole")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize("after", [6, None])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"resize": 20}, "resize was null, is now 20"),
        ({"images_per_shard": 5}, "images_per_shard was 4, is now 5"),
        ({"class_names": "abc"}, "class_names was"),
        ({"options": DecodeOptions(allow_truncated=True)}, "decoding was"),
    ],
)
def test_other_settings_do_not_mix_with_what_is_there(tmp_path, after, option, message):
    images = Images()
    if after is None:
        images.pack(tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            images.pack(tmp_path, read=interrupted(images, after))
    before = contents(tmp_path)
    with pytest.raises(DataError, match=message):
        images.pack(tmp_path, **option)
    assert contents(tmp_path) == before


def test_other_lists_do_not_mix_with_what_is_there(tmp_path):
    images = Images()
    images.pack(tmp_path)
    images.labels = 1 - images.labels
    with pytest.raises(DataError, match="lists_sha256 was"):
        images.pack(tmp_path)


def test_a_complete_pack_is_not_made_again(tmp_path):
    images = Images()
    images.pack(tmp_path)
    before = contents(tmp_path)
    images.reads.clear()
    assert images.pack(tmp_path).reused_shards == 3
    assert not images.reads
    assert contents(tmp_path) == before


def test_a_data_set_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / DIRECTORY).mkdir(parents=True)
    (tmp_path / DIRECTORY / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match="did not write"):
        Images().pack(tmp_path)
    assert contents(tmp_path / DIRECTORY) == {"dataset_info.json": b"{}"}


def test_all_unreadable_images_are_found_and_mending_them_completes_the_pack(tmp_path):
    images = Images()
    images.files[2], images.files[3] = BROKEN, b""
    with pytest.raises(DataError, match="2 of 9 images cannot be read") as caught:
        images.pack(tmp_path)
    assert "folder 2/2.jpg: " in str(caught.value)
    assert "folder 0/3.jpg: the file is empty" in str(caught.value)
    file = tmp_path / DIRECTORY / "unreadable.txt"
    assert str(file) in str(caught.value)
    assert len(file.read_text().splitlines()) == 2
    with pytest.raises(DataError, match="not complete"):
        open_packed(tmp_path)
    images = Images()
    summary = images.pack(tmp_path)
    assert summary.reused_shards == 1, "the last shard had no broken image"
    Images().pack(tmp_path / "whole")
    assert contents(tmp_path / "things") == contents(tmp_path / "whole" / "things")


def test_only_the_first_twenty_unreadable_images_are_shown(tmp_path):
    images = Images(30)
    images.splits = Splits(np.arange(28), np.array([28]), np.array([29]))
    images.files[:25] = [BROKEN] * 25
    with pytest.raises(DataError, match="25 of 30 images") as caught:
        images.pack(tmp_path)
    assert str(caught.value).count(".jpg: ") == 20
    assert "\n  and 5 more\n" in str(caught.value)
    assert len((tmp_path / DIRECTORY / "unreadable.txt").read_text().splitlines()) == 25


def test_a_file_that_cannot_be_opened_counts_as_unreadable(tmp_path):
    images = Images()

    def read(row: int) -> bytes:
        return (tmp_path / images.names[row]).read_bytes()

    with pytest.raises(DataError, match="(?s)9 of 9 images cannot be read.*No such file"):
        images.pack(tmp_path, read=read)


def test_skipped_images_are_in_no_record_and_no_list_but_reported(tmp_path):
    images = Images()
    images.files[5], images.files[8] = BROKEN, BROKEN
    summary = images.pack(tmp_path, on_unreadable="skip")
    assert summary.num_images == 7
    assert [(name, splits) for name, _, splits in summary.left_out] == [
        ("folder 2/5.jpg", ("train", "database")),
        ("folder 2/8.jpg", ("query",)),
    ]
    packed = open_packed(tmp_path)
    assert packed.left_out == ("folder 2/5.jpg", "folder 2/8.jpg")
    assert packed.shard_lengths == (3, 3, 1)
    assert packed.lists[0].paths == [images.names[row] for row in (7, 2)]
    assert packed.lists[1].paths == [images.names[1]]
    assert packed.lists[2].paths == [images.names[row] for row in (0, 3, 4, 6)]
    kept = [images.files[row] for row in (7, 2, 1, 0, 3, 4, 6)]
    assert [packed.open_reader().read(i) for i in range(7)] == kept


def test_a_shard_with_skipped_images_is_not_enough_when_they_are_errors(tmp_path):
    images = Images()
    images.files[7] = BROKEN
    with pytest.raises(KeyboardInterrupt):
        images.pack(tmp_path, on_unreadable="skip", read=interrupted(images, 6))
    with pytest.raises(DataError, match="1 of 9 images cannot be read"):
        images.pack(tmp_path)
    assert Images().pack(tmp_path).num_images == 9, "mended"


def test_a_shard_may_lose_all_its_images_but_a_split_may_not(tmp_path):
    images = Images()
    images.files[4] = BROKEN
    images.pack(tmp_path / "shard", images_per_shard=1, on_unreadable="skip")
    assert open_packed(tmp_path / "shard").shard_lengths == (1, 1, 1, 1, 1, 1, 1, 0, 1)
    images.files[1], images.files[8] = BROKEN, BROKEN
    with pytest.raises(DataError, match="not one query image can be read"):
        images.pack(tmp_path / "split", on_unreadable="skip")


def test_a_truncated_jpeg_is_taken_only_when_allowed(tmp_path):
    images = Images()
    images.files[7] = images.files[7][:-200]
    with pytest.raises(DataError, match="1 of 9 images cannot be read"):
        images.pack(tmp_path / "strict")
    summary = images.pack(tmp_path / "mild", options=DecodeOptions(allow_truncated=True))
    assert open_packed(summary.directory).open_reader().read(0) == images.files[7]


def test_a_full_disk_is_explained_and_leaves_the_complete_shards(tmp_path):
    images = Images()
    sizes = [len(data) for data in images.files]
    images.files[8] = make_image(6, 300, 400)  # a BMP of 360 KB, in the second shard
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert sum(sizes) < 150_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))
    try:
        with pytest.raises(DataError, match="cannot write .*00001-of-00003.*File too large"):
            images.pack(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    first = "things-images.array_record-00000-of-00003"
    assert set(contents(tmp_path / DIRECTORY)) == {first, f"{first}.json", "packing.part.json"}
    assert images.pack(tmp_path).reused_shards == 1


def test_a_directory_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "things").write_text("a file")
    with pytest.raises(DataError, match="cannot use .*things"):
        Images().pack(tmp_path)


def test_progress_counts_every_image_also_those_that_were_there(tmp_path):
    images, counts = Images(), []
    with pytest.raises(KeyboardInterrupt):
        images.pack(tmp_path, read=interrupted(images, 6))
    images.pack(tmp_path, progress=counts.append)
    assert sum(counts) == 9
    assert counts[0] == 4


def test_packing_json_says_what_was_packed(tmp_path):
    images = Images()
    images.pack(tmp_path, resize=20, quality=90)
    packing = json.loads((tmp_path / DIRECTORY / "packing.json").read_text())
    assert packing["num_images"] == 9
    assert packing["settings"]["resize"] == 20
    assert packing["settings"]["quality"] == 90
    assert set(packing["settings"]["versions"]) >= {"pillow", "array_record"}
    assert (tmp_path / DIRECTORY / "classes.txt").read_text() == "cat\ndog\ntree\n"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"name": "My photos"}, "the name 'My photos'"),
        ({"resize": 0}, "resize must be"),
        ({"quality": 101}, "quality must be"),
        ({"images_per_shard": 0}, "images_per_shard"),
        ({"num_workers": 0}, "num_workers"),
        ({"class_names": CLASSES[:2]}, "2 class names for 3 labels"),
        ({"class_names": ("a", "b", "c\nd")}, "single lines"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        Images().pack(tmp_path, **option)
    assert not list(tmp_path.iterdir())


def test_splits_and_names_that_do_not_fit_are_refused(tmp_path):
    images = Images()
    images.names[3] = images.names[4]
    with pytest.raises(ValueError, match="named twice"):
        images.pack(tmp_path)
    images = Images()
    images.splits = Splits(np.array([0]), np.zeros(0, np.int64), np.array([1]))
    with pytest.raises(ValueError, match="query split has no images"):
        images.pack(tmp_path)
    images.splits = Splits(np.array([0]), np.array([10]), np.array([1]))
    with pytest.raises(ValueError, match="query split has rows outside"):
        images.pack(tmp_path)


def test_an_error_of_the_reader_itself_is_not_taken_for_a_broken_image(tmp_path):
    def read(row: int) -> bytes:
        raise UnreadableImage("no") if row == 7 else DataError("the bucket does not answer")

    with pytest.raises(DataError, match="the bucket does not answer"):
        Images().pack(tmp_path, read=read, on_unreadable="skip")

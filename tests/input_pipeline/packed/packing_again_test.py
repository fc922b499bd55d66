"""A finished pack of which files are no longer whole is mended by the same command."""

import json
import os

import pytest

from input_pipeline.errors import DataError
from input_pipeline.packed.records import open_packed
from tests.input_pipeline.packed.packed_sets import Images, contents
from tests.input_pipeline.packed.packing_test import BROKEN, interrupted


@pytest.mark.parametrize(
    "damage", ["cut off", "missing", "no records", "another list", "features.json", "classes.txt"]
)
def test_what_is_not_whole_of_a_finished_pack_is_made_again_to_the_same_bytes(tmp_path, damage):
    images = Images()
    images.files[7] = BROKEN  # in the first shard, which stays
    summary = images.pack(tmp_path, on_unreadable="skip")
    before = contents(tmp_path)
    shard = summary.directory / "things-images.array_record-00001-of-00003"
    if damage == "cut off":
        os.truncate(shard, 100)
    elif damage == "missing":
        shard.unlink()
    elif damage == "no records":
        shard.write_bytes(bytes(shard.stat().st_size))
    elif damage == "another list":
        (summary.directory / "test.txt").write_text("a.jpg 1 0 0\n")
    else:
        (summary.directory / damage).unlink()
    lists_only = damage in ("another list", "features.json", "classes.txt")
    images.reads.clear()
    if not lists_only:
        with pytest.raises(KeyboardInterrupt):
            images.pack(tmp_path, read=interrupted(images, 2), on_unreadable="skip")
        assert not (summary.directory / "dataset_info.json").exists()
        with pytest.raises(DataError, match="not complete; run the same .* command again"):
            open_packed(tmp_path)
    images.reads.clear()
    summary = images.pack(tmp_path, on_unreadable="skip")
    assert summary.reused_shards == (3 if lists_only else 2)
    assert sorted(images.reads) == ([] if lists_only else sorted(images.order[4:8]))
    assert [name for name, *_ in summary.left_out] == [images.names[7]]
    assert contents(tmp_path) == before


def test_a_packing_json_that_lacks_something_is_explained(tmp_path):
    images = Images()
    directory = images.pack(tmp_path).directory
    facts = json.loads((directory / "packing.json").read_text())
    del facts["left_out"]
    (directory / "packing.json").write_text(json.dumps(facts))
    (directory / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"did not write, or a damaged one \('left_out'\)"):
        images.pack(tmp_path)

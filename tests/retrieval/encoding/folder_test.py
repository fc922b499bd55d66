"""Every file ends encoded, unchanged or unreadable, the counts add up, and a later run goes on."""

import dataclasses
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hybridhash_jax.retrieval.encoding import command, folder, job, making
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.prepare import Preparation, thumbnail
from hybridhash_jax.retrieval.encoding.request import Request
from hybridhash_jax.retrieval.encoding.unreadable import FILE, read_unreadable
from hybridhash_jax.retrieval.index import (
    IndexFileError,
    Writer,
    create_index,
    open_index,
    open_writer,
)
from input_pipeline.errors import DataError
from input_pipeline.images.decode import DecodeOptions, decode_image
from input_pipeline.images.transforms import ImageTransform
from input_pipeline.near_duplicates.hashing import perceptual_hash
from input_pipeline.signals import Terminated
from tests.input_pipeline.near_duplicates.scenes import scene
from tests.retrieval.encoding.fakes import FakeEncoder


@pytest.fixture
def encoder(monkeypatch):
    fake = FakeEncoder()
    monkeypatch.setattr(making, "new_encoder", lambda *_: fake)
    monkeypatch.setattr(making, "encoder_for", lambda *_: fake)
    return fake


def picture(number: int, width: int = 12, height: int = 8) -> np.ndarray:
    return np.full((height, width, 3), (number, number // 2, 7), np.uint8)


def save(root, name: bytes, number: int, **size):
    path = os.path.join(os.fsencode(root), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    kind = name.decode("latin1").rpartition(".")[2].upper()
    Image.fromarray(picture(number, **size)).save(os.fsdecode(path), kind)


NAMES = [
    b"cat/1.png",
    b"cat/2.png",
    b"dog/a,b.png",
    b"dog/line\nbreak.bmp",
    b"caf\xe9/3.png",
    b"z.gif",
]


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(NAMES):
        save(tmp_path / "root", name, 10 * number)
    return tmp_path / "root"


def run(images, index, num_workers=3, **options):
    return folder.encode(Request(str(images), index, num_workers=num_workers, **options))


def content(index):
    """Path -> (code, label, width, height) of what is searched."""
    with open_index(index) as opened:
        paths, rows = opened.paths()
        packed = opened.packed(rows)
        entries = opened.entries(rows)
    return {
        path: (tuple(code.tolist()), entry.label, entry.width, entry.height)
        for path, code, entry in zip(paths, packed, entries, strict=True)
    }


def test_a_folder_is_encoded_once(root, tmp_path, encoder):
    index = tmp_path / "x.idx"
    assert run(root, index) == "6 image files: 6 encoded, 0 unchanged, 0 unreadable"
    found = content(index)
    assert list(found) == sorted(NAMES)
    assert found[b"cat/2.png"] == ((10, 5, 7), "cat", 12, 8)
    assert found[b"z.gif"][1] == "" and found[b"caf\xe9/3.png"][1] == "caf\\xe9"
    assert run(root, index) == "6 image files: 0 encoded, 6 unchanged, 0 unreadable"
    assert encoder.images == 6


def test_hashes_and_thumbnails_are_kept_unless_told_otherwise(root, tmp_path, encoder):
    save(root, b"large.png", 99, width=640, height=320)
    run(root, tmp_path / "x.idx")
    with open_index(tmp_path / "x.idx") as opened:
        assert opened.segments[0].hashes is not None
        row = opened.row_of(b"large.png")
        assert row is not None and (data := opened.thumbnail(row))
        assert Image.open(io.BytesIO(data)).size == (160, 80)
    run(root, tmp_path / "y.idx", hashes=False, thumbnails=False)
    with open_index(tmp_path / "y.idx") as opened:
        assert opened.segments[0].hashes is None
        assert opened.thumbnail(0) is None


def test_thumbnails_that_cannot_be_kept_are_told(root, tmp_path, encoder, capsys):
    index = tmp_path / "x.idx"
    create_index(index, encoder.model, root, encoder.files)
    (index / "thumbnails.sqlite").mkdir()  # as good as a full disk
    assert command.main([str(root), f"--index={index}", "--num_workers=1"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("6 image files: 6 encoded")
    warning = "warning: the thumbnails of 6 images could not be kept: unable to open database file."
    assert warning in printed.err and printed.err.count("thumbnails") == 1


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_what_is_kept_of_a_turned_image_is_upright_and_the_network_sees_it_as_it_was_trained(
    tmp_path, kind
):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned.{kind}"
    scene(0).save(path, kind, exif=exif)
    upright = decode_image(path.read_bytes(), DecodeOptions(apply_orientation=True))
    assert upright.shape == (200, 150, 3)
    for turns, seen in ((False, decode_image(path.read_bytes())), (True, upright)):
        transform = ImageTransform(8, 10, options=DecodeOptions(apply_orientation=turns))
        found = Preparation(transform, hashes=True, thumbnails=True).of_file(path)
        np.testing.assert_array_equal(found.crop, Preparation(transform).crop(seen))
        assert (found.width, found.height) == (150, 200)
        assert found.hash == perceptual_hash(upright)
        assert found.thumbnail == thumbnail(upright)


def test_what_changed_is_encoded_again_and_what_is_gone_leaves_with_prune(root, tmp_path, encoder):
    index = tmp_path / "x.idx"
    run(root, index)
    save(root, b"cat/1.png", 200, width=16)
    save(root, b"new/9.png", 90)
    (root / "cat/2.png").unlink()
    summary = run(root, index)
    counts = "2 encoded, 4 unchanged, 0 unreadable; 1 changed since the last time"
    assert summary.startswith(f"6 image files: {counts}")
    assert "1 image of the index whose files are gone; --prune" in summary
    assert content(index)[b"cat/1.png"] == ((200, 100, 7), "cat", 16, 8)
    assert "1 image taken out" in run(root, index, prune=True)
    assert b"cat/2.png" not in content(index) and len(content(index)) == 6


def test_the_unreadable_are_listed_counted_and_not_tried_again(root, tmp_path, encoder):
    index = tmp_path / "x.idx"
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (root / "empty.png").write_bytes(b"")
    summary = run(root, index)
    assert summary.startswith(
        f"8 image files: 6 encoded, 0 unchanged, 2 unreadable ({index}/{FILE})"
    )
    refused = read_unreadable(index)
    assert refused[b"empty.png"].reason == "the file is empty"
    looked_at = encoder.images
    assert "0 encoded, 6 unchanged, 2 unreadable" in run(root, index)
    assert encoder.images == looked_at
    Image.fromarray(picture(50)).save(root / "empty.png")
    assert "1 encoded, 6 unchanged, 1 unreadable" in run(root, index, retry=True)
    (root / "broken.jpg").unlink()
    assert run(root, index).endswith("0 encoded, 7 unchanged, 0 unreadable")
    assert not (index / FILE).exists()


def test_a_file_that_is_damaged_later_leaves_the_index(root, tmp_path, encoder):
    run(root, tmp_path / "x.idx")
    (root / "z.gif").write_bytes(b"GIF89a")
    assert "0 encoded, 5 unchanged, 1 unreadable" in run(root, tmp_path / "x.idx")
    assert b"z.gif" not in content(tmp_path / "x.idx")


def test_a_file_that_goes_while_files_are_read_is_told_and_tried_again(
    root, tmp_path, encoder, monkeypatch
):
    real = folder.list_folder

    def then_remove(*arguments, **options):
        found = real(*arguments, **options)
        (root / "z.gif").unlink()
        return found

    monkeypatch.setattr(folder, "list_folder", then_remove)
    assert "5 encoded, 0 unchanged, 1 unreadable" in run(root, tmp_path / "x.idx")
    assert read_unreadable(tmp_path / "x.idx")[b"z.gif"].reason == "there is no such file"
    monkeypatch.undo()


def test_an_image_whose_output_is_nan_is_unreadable(root, tmp_path, encoder):
    Image.fromarray(np.full((8, 8, 3), 13, np.uint8)).save(root / "nan.png")
    assert "6 encoded, 0 unchanged, 1 unreadable" in run(root, tmp_path / "x.idx")
    assert "NaN" in read_unreadable(tmp_path / "x.idx")[b"nan.png"].reason


def segments(index):
    return sorted((path.name, path.read_bytes()) for path in (index / "segments").iterdir())


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_run_that_was_killed_goes_on_to_the_same_index(
    tmp_path, encoder, monkeypatch, stop_after
):
    root = tmp_path / "root"
    for number in range(23):
        save(root, b"%02d.png" % number, number + 20)
    (root / "04.png").write_bytes(b"x")
    (root / "11.png").write_bytes(b"x")
    options = {"segment": 5}
    run(root, tmp_path / "whole.idx", **options)
    write, count = job.FolderJob._write, 0

    def killed(self):
        nonlocal count
        count += 1
        if count > stop_after:
            raise KeyboardInterrupt
        write(self)

    monkeypatch.setattr(job.FolderJob, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "killed.idx", **options)
    monkeypatch.setattr(job.FolderJob, "_write", write)
    assert len(content(tmp_path / "killed.idx")) == (4 if stop_after == 1 else 9)
    run(root, tmp_path / "killed.idx", **options)
    assert segments(tmp_path / "killed.idx") == segments(tmp_path / "whole.idx")
    assert content(tmp_path / "killed.idx") == content(tmp_path / "whole.idx")
    assert (tmp_path / "killed.idx" / FILE).read_text() == (
        tmp_path / "whole.idx" / FILE
    ).read_text()


def test_shards_hold_every_image_once(root, tmp_path, encoder):
    found = {}
    for part in (1, 2, 3):
        index = tmp_path / f"{part}.idx"
        assert f", part {part} of 3: 2 encoded" in run(root, index, shard=(part, 3))
        found |= content(index)
    run(root, tmp_path / "all.idx")
    assert found == content(tmp_path / "all.idx")


def test_a_list_and_a_folder_in_the_root_go_into_the_same_index(
    root, tmp_path, encoder, monkeypatch
):
    index = tmp_path / "x.idx"
    run(root / "cat", index, root=root)
    assert list(content(index)) == [b"cat/1.png", b"cat/2.png"]
    names = root / "list.txt"
    names.write_bytes(b"z.gif\nnothing.png\ncat/1.png\n")
    summary = run(names, index)
    assert summary.startswith("3 image files: 1 encoded, 1 unchanged, 1 unreadable")
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"dog/line\nbreak.bmp\0")))
    assert run("-", index).startswith("1 image file: 1 encoded")
    assert len(content(index)) == 4
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DataError, match="is of the images below .*elsewhere is not"):
        run(tmp_path / "elsewhere", index)


def test_lines_of_a_list_that_lie_elsewhere_are_told_with_what_they_mean(
    root, tmp_path, encoder, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"z.gif\n")))
    with pytest.raises(DataError, match=f"start from {tmp_path}, so it is {tmp_path}/z.gif;"):
        run("-", tmp_path / "x.idx", root=root)


def test_another_root_than_the_indexs_is_refused(root, tmp_path, encoder):
    run(root, tmp_path / "x.idx", root=root)
    with pytest.raises(DataError, match=f"start from {root}; leave --root={root}/cat out"):
        run(root, tmp_path / "x.idx", root=root / "cat")


def test_that_nothing_could_be_read_is_an_error(root, tmp_path, encoder, capsys):
    names = root / "list.txt"
    names.write_bytes(b"nothing.png\nnor_this.png\n")
    (root / "nothing.png").write_bytes(b"no image")
    assert command.main([str(names), f"--index={tmp_path}/x.idx"]) == 1
    assert "2 image files: 0 encoded, 0 unchanged, 2 unreadable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"ML\xefR\x01\x02\n/etc/passwd\n", "this is no list of paths: line 1 holds control"),
        (b"<html>\n<body>\n", "names no file that is there: the first of 2 paths is /.*/<body>."),
        (b"gone/1.png\0gone/2.png\0", "names no file that is there"),
    ],
)
def test_what_is_no_list_of_files_makes_no_index(root, tmp_path, encoder, given, told):
    names, index = root / "list.txt", tmp_path / "x.idx"
    names.write_bytes(given)
    with pytest.raises(DataError, match=told):
        run(names, index)
    assert not index.exists()
    run(root, index)
    with pytest.raises(DataError, match=told):
        run(names, index)
    assert not (index / FILE).exists()
    save(root, b"odd\x01.png", 5)  # a name may hold any byte
    names.write_bytes(b"odd\x01.png\n" + (b"gone.png\n" if b"\0" in given else b""))
    assert "1 encoded" in run(names, index)


def test_a_full_disk_ends_with_what_is_kept_and_with_what_is_lost(
    root, tmp_path, encoder, monkeypatch
):
    index, add = tmp_path / "x.idx", Writer.add
    create_index(index, encoder.model, root, encoder.files)
    (index / "thumbnails.sqlite").mkdir()
    monkeypatch.setattr(encoder, "batch_size", 2)

    def until_full(writer, *given):
        if len(writer.index) == 4:
            raise IndexFileError("the disk is full")
        add(writer, *given)

    monkeypatch.setattr(Writer, "add", until_full)
    told = []
    with pytest.raises(IndexFileError, match=r"the disk is full. The index has 4 images"):
        folder.encode(Request(str(root), index, num_workers=1, segment=2), told.append)
    assert any("the thumbnails of 4 images could not be kept" in line for line in told)


def test_a_folder_that_goes_away_is_an_error(root, tmp_path, encoder, monkeypatch):
    start = encoder.start
    monkeypatch.setattr(encoder, "batch_size", 2)

    def moved_meanwhile(crops):
        if root.exists():
            root.rename(tmp_path / "moved")
        return start(crops)

    monkeypatch.setattr(encoder, "start", moved_meanwhile)
    with pytest.raises(DataError, match="root went away meanwhile.* goes on once it is back"):
        run(root, tmp_path / "x.idx", num_workers=1)
    (tmp_path / "moved").rename(root)
    monkeypatch.setattr(encoder, "start", start)
    run(root, tmp_path / "x.idx")
    assert sorted(content(tmp_path / "x.idx")) == sorted(NAMES)


def test_lost_hashes_are_made_again(root, tmp_path, encoder):
    index = tmp_path / "x.idx"
    run(root, index)
    (lost,) = (index / "segments").glob("*.hashes")
    expected = lost.read_bytes()
    lost.unlink()
    assert run(root, index) == "6 image files: 6 encoded, 0 unchanged, 0 unreadable"
    assert lost.read_bytes() == expected
    with open_index(index) as opened:
        assert not opened.damaged and opened.hashed.all()
    assert "6 unchanged" in run(root, index)


def test_nothing_is_pruned_where_no_image_is_left(root, tmp_path, encoder):
    run(root, tmp_path / "x.idx")
    for name in NAMES:
        os.unlink(os.path.join(os.fsencode(root), name))
    with pytest.raises(DataError, match="not mounted"):
        run(root, tmp_path / "x.idx", prune=True)
    for named in (b"\n".join(NAMES), b""):  # a list of these images, and an empty one
        (root / "list.txt").write_bytes(named)
        with pytest.raises(DataError, match="not mounted"):
            run(root / "list.txt", tmp_path / "x.idx", prune=True)
    assert len(content(tmp_path / "x.idx")) == 6


def test_what_is_there_is_not_pruned(root, tmp_path, encoder):
    run(root, tmp_path / "x.idx")
    os.unlink(os.path.join(os.fsencode(root), b"z.gif"))
    os.rename(root / "cat", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root / "cat")  # links to folders are not listed
    assert "1 image taken out" in run(root, tmp_path / "x.idx", prune=True)
    assert sorted(content(tmp_path / "x.idx")) == sorted(set(NAMES) - {b"z.gif"})


def test_what_holds_no_images_is_refused(tmp_path, encoder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images; accepted are JPEG"):
        run(tmp_path / "empty", tmp_path / "x.idx")
    (tmp_path / "empty/notes.txt").write_text("x")
    with pytest.raises(DataError, match="no images .1 file that is no image by its name"):
        run(tmp_path / "empty", tmp_path / "x.idx")
    with pytest.raises(DataError, match="nowhere cannot be read: No such file"):
        run(tmp_path / "nowhere", tmp_path / "x.idx")
    save(tmp_path, b"one.png", 5)
    with pytest.raises(DataError, match="is an image; give a folder, or a list"):
        run(tmp_path / "one.png", tmp_path / "x.idx")
    assert not (tmp_path / "x.idx").exists()


def test_an_index_that_another_writes_to_or_that_has_other_codes_is_refused(
    root, tmp_path, encoder
):
    run(root, tmp_path / "x.idx")
    with open_writer(tmp_path / "x.idx"), pytest.raises(IndexFileError, match="is writing to"):
        run(root, tmp_path / "x.idx")
    with pytest.raises(EncoderError, match="codes of 24 bits"):
        run(root, tmp_path / "x.idx", bits=32)
    with pytest.raises(EncoderError, match="codes fitted with seed 7; leave --seed=0 out"):
        run(root, tmp_path / "x.idx", seed=0)
    assert "0 encoded, 6 unchanged" in run(root, tmp_path / "x.idx", bits=24, seed=7)
    with pytest.raises(EncoderError, match="codes of means, not of a run"):
        run(root, tmp_path / "x.idx", workdir=tmp_path)


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ({"kind": "label-free"}, "fitted with a seed that it does not tell"),
        ({"kind": "label-free", "seed": None}, "fitted with a seed that it does not tell"),
        ({"kind": "workdir", "workdir": "w", "checkpoint": 1}, "of a trained network"),
    ],
)
def test_a_seed_that_cannot_be_compared_is_refused(root, tmp_path, source, codes):
    made = FakeEncoder()
    model = dataclasses.replace(made.model, source=source)
    create_index(tmp_path / "x.idx", model, root, made.files)
    with pytest.raises(EncoderError, match=f"codes {codes}; leave --seed=0 out"):
        run(root, tmp_path / "x.idx", seed=0)


def test_the_command_says_what_is_wrong_in_one_line(root, tmp_path, encoder, capsys):
    index = f"--index={tmp_path}/x.idx"
    assert command.main([str(root), index, "--num_workers=2"]) == 0
    assert capsys.readouterr().out.startswith("6 image files: 6 encoded")
    assert command.main([str(tmp_path / "nowhere"), index]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    for bad in (
        ["--shard=3/2"],
        ["--bits=0"],
        ["--bits=8", "--workdir=x"],
        ["--checkpoint=5"],
        ["--seed=0", "--workdir=x"],
        ["--seed=0", "--like=x"],
    ):
        with pytest.raises(SystemExit) as stopped:
            command.main([str(root), index, *bad])
        assert stopped.value.code == 2
        assert re.search(r"error: .*--(shard|bits|checkpoint|seed)", capsys.readouterr().err)


def test_jax_is_not_imported_where_nothing_is_to_do(root, tmp_path, encoder):
    run(root, tmp_path / "x.idx")
    code = (
        "import sys; from hybridhash_jax.retrieval.encoding import command; "
        "code = command.main(sys.argv[1:]); assert 'jax' not in sys.modules; sys.exit(code)"
    )
    command_line = [sys.executable, "-c", code, str(root), f"--index={tmp_path}/x.idx"]
    found = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert "0 encoded, 6 unchanged" in found.stdout


def test_an_index_that_goes_on_elsewhere_tells_how_many_bits_differ(root, tmp_path, encoder):
    run(root, tmp_path / "x.idx")
    save(root, b"new.png", 99)
    encoder.model = dataclasses.replace(encoder.model, backend="gpu", dtype="bfloat16")
    real, told = encoder.start, []

    def start(crops, quick=False):
        batch = real(crops)
        batch.packed[:, 0] ^= 1
        return batch

    encoder.start = start
    folder.encode(Request(str(root), tmp_path / "x.idx"), told.append)
    warning = next(line for line in told if line.startswith("warning"))
    assert "begun in float32 on cpu" in warning
    assert "in bfloat16 on gpu: 6 of 144 bits of 6 images differ" in warning
    with open_index(tmp_path / "x.idx") as opened:
        assert opened.backends == {("gpu", "bfloat16"): (6, 6)}


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_ctrl_c_and_sigterm_keep_what_is_encoded(
    root, tmp_path, encoder, monkeypatch, capsys, stop, code
):
    start = encoder.start
    monkeypatch.setattr(encoder, "batch_size", 2)

    def interrupted(crops):
        if encoder.images == 4:
            raise stop
        return start(crops)

    monkeypatch.setattr(encoder, "start", interrupted)
    index = tmp_path / "x.idx"
    assert command.main([str(root), f"--index={index}"]) == code
    assert "the same command goes on" in capsys.readouterr().err
    # The batch that was just computed is not fetched yet.
    assert list(content(index)) == sorted(NAMES)[:2]
    monkeypatch.setattr(encoder, "start", start)
    assert run(root, index) == "6 image files: 4 encoded, 2 unchanged, 0 unreadable"

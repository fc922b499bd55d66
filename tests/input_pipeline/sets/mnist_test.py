"""MNIST's four files in every form give the same images; anything wrong with them is explained."""

import dataclasses
import errno
import functools
import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from input_pipeline.check import main
from input_pipeline.datasets import load_dataset
from input_pipeline.errors import DataError
from input_pipeline.sets import mnist, published
from input_pipeline.sets.mnist import FILES

COUNTS = (30, 20)  # training and test images, instead of 60,000 and 10,000
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
CLASS_IDS = np.arange(50) % 10
INSTALLED = Path("/usr/share/datasets/fashion-mnist")

read = functools.partial(mnist.read_mnist, download=False, counts=COUNTS)


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def contents() -> dict[str, bytes]:
    images, labels = IMAGES[..., 0], CLASS_IDS
    return dict(
        zip(FILES, map(idx, (images[:30], labels[:30], images[30:], labels[30:])), strict=True)
    )


def write(folder: Path, changes: dict[str, bytes | None] | None = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (contents() | (changes or {})).items():
        if content is not None:
            (folder / name).write_bytes(content)
    return str(folder)


def assert_all_images(pooled):
    np.testing.assert_array_equal(pooled.images, IMAGES, strict=True)
    np.testing.assert_array_equal(pooled.class_ids, CLASS_IDS, strict=True)
    assert pooled.num_train == 30


def test_every_form_of_the_files_gives_the_same_images(tmp_path):
    write(tmp_path / "plain")
    write(tmp_path / "torchvision" / "FashionMNIST" / "raw")
    zipped, unzipped_on_the_way, dots = (tmp_path / x for x in ("zipped", "other", "dots"))
    for folder in (zipped, unzipped_on_the_way, dots):
        folder.mkdir()
    for name, content in contents().items():
        (zipped / f"{name}.gz").write_bytes(gzip.compress(content))
        (unzipped_on_the_way / f"{name}.gz").write_bytes(content)
        (dots / name.replace("-idx", ".idx")).write_bytes(content)
    for place in tmp_path.iterdir():
        assert_all_images(read("fashion_mnist", str(place)))


def test_only_the_published_contents_are_called_official(tmp_path, monkeypatch):
    folder = write(tmp_path)
    pooled = read("mnist", folder)
    assert pooled.official is False
    assert "not comparable with published MNIST numbers" in pooled.provenance
    md5s = tuple(hashlib.md5(content).hexdigest() for content in contents().values())
    known = dataclasses.replace(mnist.SETS["mnist"], unpacked_md5=md5s)
    monkeypatch.setitem(mnist.SETS, "mnist", known)
    assert read("mnist", folder).official is True
    with pytest.raises(DataError, match=r"holds MNIST: give --config\.data\.name=mnist"):
        read("fashion_mnist", folder)


WHOLE = contents()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            TRAIN_IMAGES,
            WHOLE[TRAIN_IMAGES][:-1],
            r"truncated: its header says images \[30, 28, 28\]",
        ),
        (TRAIN_IMAGES, WHOLE[TRAIN_IMAGES] + b"x", "goes on after its end"),
        (TRAIN_IMAGES, WHOLE[TRAIN_IMAGES][:9], r"is truncated; expected images"),
        (TRAIN_IMAGES, b"", "is empty.*get it again"),
        (
            TRAIN_IMAGES,
            WHOLE[TEST_IMAGES],
            r"holds images \[20, 28, 28\].*expected images \[30, 28",
        ),
        (TRAIN_IMAGES, WHOLE[TRAIN_LABELS], r"holds labels \[30\].*each other's names"),
        (TEST_LABELS, WHOLE[TEST_IMAGES], r"holds images \[20.*each other's names"),
        (TEST_LABELS, WHOLE[TRAIN_LABELS], r"holds labels \[30\].*expected labels \[20\]"),
        (TEST_LABELS, idx(np.full(20, 10)), "a label of 10; those of Fashion-MNIST are 0 to 9"),
        (TEST_IMAGES, idx(np.zeros((20, 32, 32))), r"holds images \[20, 32, 32\]"),
        (TEST_IMAGES, b"\0\0\x0d" + WHOLE[TEST_IMAGES][3:], "no IDX file of bytes"),
        (f"{TEST_IMAGES}.gz", b"<!DOCTYPE html>", r"no IDX file.*b'<!DOCTYPE html>'"),
        (f"{TEST_IMAGES}.gz", gzip.compress(b"PK", mtime=0), r"no IDX file.*b'PK'"),
        (
            f"{TEST_IMAGES}.gz",
            gzip.compress(WHOLE[TEST_IMAGES], mtime=0)[:900],
            r"truncated or damaged \(Comp",
        ),
        (
            f"{TEST_IMAGES}.gz",
            gzip.compress(WHOLE[TEST_IMAGES], mtime=0)[:-8] + bytes(8),
            r"damaged \(CRC",
        ),
        (f"{TEST_IMAGES}.gz", b"\x1f\x8b\x08\0" + bytes(50), r"truncated or damaged"),
    ],
)
def test_wrong_contents_are_explained(tmp_path, name, content, why):
    changes = {name.removesuffix(".gz"): None, name: content}
    with pytest.raises(DataError, match=f"{name}.*{why}"):
        read("fashion_mnist", write(tmp_path, changes))


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    folder, opened = write(tmp_path), Path.open

    def refused(path, *arguments):
        if path.name == TEST_LABELS:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PermissionError, match=TEST_LABELS):
        read("fashion_mnist", folder)


@pytest.mark.parametrize("name", [TEST_LABELS, f"{TEST_LABELS}.gz"])
def test_what_is_no_file_is_told(tmp_path, name):
    folder = write(tmp_path, {TEST_LABELS: None})
    Path(folder, name).symlink_to("nowhere")
    with pytest.raises(DataError, match=f"{name} is no file; take it away"):
        read("fashion_mnist", folder)


def test_a_download_that_fails_leaves_no_folder(tmp_path, monkeypatch, server, caplog):
    at = dataclasses.replace(mnist.SETS["mnist"], url=f"{server[0]}/")
    monkeypatch.setitem(mnist.SETS, "mnist", at)
    with pytest.raises(DataError, match="cannot download"):
        mnist.read_mnist("mnist", str(tmp_path / "mistyped" / "folder"))
    assert f"{tmp_path / 'mistyped' / 'folder'} does not exist yet" in caplog.text
    assert not (tmp_path / "mistyped").exists()


def test_all_images_are_insisted_on_by_default(tmp_path):
    with pytest.raises(DataError, match=r"holds images \[30, 28, 28\].*\[60000, 28, 28\]"):
        mnist.read_mnist("mnist", write(tmp_path), download=False)


def test_missing_files_are_named_with_what_to_do(tmp_path):
    folder = write(tmp_path, {TEST_IMAGES: None, TEST_LABELS: None})
    told = f"lacks {TEST_IMAGES}.gz, {TEST_LABELS}.gz, and downloading is off"
    with pytest.raises(DataError, match=told) as caught:
        read("fashion_mnist", folder)
    for part in (*FILES, "http://fashion-mnist.s3", folder, "dataset-fashion-mnist", "data.dir="):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="https://ossci-datasets") as caught:
        read("mnist", str(tmp_path / "absent"))
    assert "package" not in str(caught.value)


def test_a_folder_of_something_else_is_not_downloaded_into(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DataError, match=r"no MNIST files in .*holiday\.jpg.*an empty folder"):
        mnist.read_mnist("mnist", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_only_missing_files_are_downloaded_and_checked(tmp_path, monkeypatch, server):
    url, served = server
    for name, content in contents().items():
        (served / f"{name}.gz").write_bytes(gzip.compress(content))
    md5s = [hashlib.md5((served / f"{name}.gz").read_bytes()).hexdigest() for name in FILES]
    (served / f"{TRAIN_LABELS}.gz").unlink()  # is there already
    md5s[3] = "0" * 32
    at = dataclasses.replace(mnist.SETS["mnist"], url=f"{url}/", gzipped_md5=tuple(md5s))
    monkeypatch.setitem(mnist.SETS, "mnist", at)
    target = tmp_path / "target"
    write(target, dict.fromkeys((TRAIN_IMAGES, TEST_IMAGES, TEST_LABELS)))
    with pytest.raises(DataError, match=f"{TEST_LABELS}.*was deleted") as caught:
        read("mnist", str(target), download=True)
    assert "--config.data.dir=" in str(caught.value)
    there = {path.name for path in target.iterdir()}
    assert there == {TRAIN_LABELS, f"{TRAIN_IMAGES}.gz", f"{TEST_IMAGES}.gz"}
    (served / f"{TRAIN_IMAGES}.gz").unlink()
    md5s[3] = hashlib.md5((served / f"{TEST_LABELS}.gz").read_bytes()).hexdigest()
    monkeypatch.setitem(mnist.SETS, "mnist", dataclasses.replace(at, gzipped_md5=tuple(md5s)))
    assert_all_images(read("mnist", str(target), download=True))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_loaded_set_is_grey_and_has_its_class_names(tmp_path, monkeypatch, name):
    monkeypatch.setattr(published, "read_mnist", functools.partial(mnist.read_mnist, counts=COUNTS))
    found = load_dataset(name, "official", directory=write(tmp_path))
    assert isinstance(found.images, np.ndarray) and found.images.shape == (50, 28, 28, 1)
    assert found.splits.query.tolist() == list(range(30, 50))
    assert found.splits.train.tolist() == found.splits.database.tolist() == list(range(30))
    assert found.class_names[0] == {"mnist": "zero", "fashion_mnist": "T-shirt/top"}[name]
    with pytest.raises(ValueError, match="'cifar10-1'; accepted: 'official', 'official-10k', '5k'"):
        load_dataset(name, "cifar10-1")
    with pytest.raises(ValueError, match="class 0 has 3 images, too few.*1000 a class"):
        load_dataset(name, "official-10k", directory=str(tmp_path))


def test_check_tells_what_the_files_hold_or_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published, "read_mnist", functools.partial(mnist.read_mnist, counts=COUNTS))
    arguments = ["--name=mnist", f"--dir={write(tmp_path)}"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "50 images, 28 x 28\n" in told and "notice: not the official files" in told
    assert told.endswith("no problems, 1 notice\n")
    rows = [line.split()[:3] for line in told.splitlines()]
    assert ["train", "30", "10"] in rows and ["test", "20", "10"] in rows
    write(tmp_path, {TEST_LABELS: idx(np.where(CLASS_IDS == 7, 8, CLASS_IDS)[30:])})
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "notice: test has no image of seven\n" in told and told.endswith(" 2 notices\n")
    (tmp_path / TEST_LABELS).unlink()
    assert main(arguments) == 1
    assert re.search(f"lacks {TEST_LABELS}.* --dir=FOLDER", capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main([*arguments, "--near_duplicates"])
    assert "--name=mnist goes with --dir alone" in capsys.readouterr().err


@pytest.mark.skipif(
    not INSTALLED.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_files_of_debian_s_package_are_found_and_official(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # nothing is downloaded there
    found = load_dataset("fashion_mnist", "official-10k", download=False)
    assert found.official is True
    assert found.checksum == "3ce0726622a32a1b"
    rows = [found.splits.train, found.splits.query]
    sums = [hashlib.sha256(x.astype("<i8").tobytes()).hexdigest()[:16] for x in rows]
    assert sums == ["c4cc741cf53a4241", "8d294bd1e8418920"]
    assert not list(tmp_path.iterdir())

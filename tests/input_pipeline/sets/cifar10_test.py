"""CIFAR-10 in every official form gives the same arrays; anything wrong with it is explained."""

import functools
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.sets import cifar10
from input_pipeline.sets.download import fetch

COUNT = 20  # images a file, instead of 10,000
NAMES = list(cifar10.PYTHON_FILES_MD5)
IMAGES = np.random.default_rng(0).integers(0, 256, (6 * COUNT, 32, 32, 3), dtype=np.uint8)
CLASS_IDS = np.random.default_rng(1).integers(0, 10, 6 * COUNT)
FLAT = IMAGES.transpose(0, 3, 1, 2).reshape(6, COUNT, 3072)
CLASSES = CLASS_IDS.reshape(6, COUNT)

read = functools.partial(cifar10.read_cifar10, download=False, images_per_file=COUNT)


def python_files() -> dict[str, bytes]:
    return {
        f"cifar-10-batches-py/{name}": pickle.dumps(
            {b"data": FLAT[i], b"labels": CLASSES[i].tolist()}, 2
        )
        for i, name in enumerate(NAMES)
    }


def binary_files() -> dict[str, bytes]:
    return {
        f"cifar-10-batches-bin/{name}.bin": np.concatenate(
            [CLASSES[i][:, None].astype(np.uint8), FLAT[i]], axis=1
        ).tobytes()
        for i, name in enumerate(NAMES)
    }


FILES = {"python": python_files, "binary": binary_files}
ARCHIVES = {"python": cifar10.PYTHON_ARCHIVE, "binary": cifar10.BINARY_ARCHIVE}


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def assert_all_images(pooled: cifar10.PooledImages):
    np.testing.assert_array_equal(pooled.images, IMAGES, strict=True)
    np.testing.assert_array_equal(pooled.class_ids, CLASS_IDS, strict=True)


@pytest.mark.parametrize("version", ["python", "binary"])
def test_every_place_the_official_files_can_be_in_gives_the_same_images(tmp_path, version):
    files = FILES[version]()
    folder = write_folder(tmp_path / "unpacked", files)
    packed = tmp_path / "packed"
    packed.mkdir()
    archive = write_archive(packed / ARCHIVES[version], files)
    renamed = write_archive(tmp_path / "renamed.tar.gz", files)
    inner = folder / next(iter(files)).split("/")[0]
    for place in (folder, inner, packed, archive, renamed):
        assert_all_images(read(str(place)))


def test_files_in_another_order_and_strangers_in_an_archive_change_nothing(tmp_path):
    members = list(python_files().items())
    strangers = [("../outside", b"x"), ("cifar-10-batches-py/readme.html", b"<html>")]
    shuffled = dict(strangers + [("./" + name, content) for name, content in members[::-1]])
    assert_all_images(read(str(write_archive(tmp_path / "a.tar.gz", shuffled))))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"], "nothing is unpacked"
    assert not (tmp_path.parent / "outside").exists()


def test_other_python_files_are_called_not_official(tmp_path):
    pooled = read(str(write_folder(tmp_path, python_files())))
    assert pooled.official is False
    assert "not comparable with published CIFAR-10 numbers" in pooled.provenance


def test_files_with_the_published_md5s_are_called_official(tmp_path, monkeypatch):
    files = python_files()
    md5s = {name.split("/")[1]: hashlib.md5(blob).hexdigest() for name, blob in files.items()}
    monkeypatch.setattr(cifar10, "PYTHON_FILES_MD5", md5s)
    assert read(str(write_folder(tmp_path, files))).official is True
    md5s["test_batch"] = "0" * 32
    assert read(str(tmp_path)).official is False


def test_binary_files_are_official_only_in_the_published_archive(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "a.tar.gz", binary_files())
    assert read(str(archive)).official is None
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "BINARY_ARCHIVE_MD5", md5)
    assert read(str(archive)).official is True
    assert read(str(write_folder(tmp_path / "unpacked", binary_files()))).official is None


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("archived", [True, False])
def test_a_missing_file_is_named(tmp_path, version, archived):
    files = FILES[version]()
    missing = list(files)[3]
    del files[missing]
    place = (write_archive if archived else write_folder)(tmp_path / "x", files)
    with pytest.raises(DataError, match=missing.split("/")[1]):
        read(str(place))


@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
def test_a_truncated_archive_is_named(tmp_path, keep):
    archive = write_archive(tmp_path / "a.tar.gz", binary_files())
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"a\.tar\.gz"):
        read(str(archive))


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.95])
def test_a_damaged_archive_is_named(tmp_path, version, where):
    archive = write_archive(tmp_path / "a.tar.gz", FILES[version]())
    content = bytearray(archive.read_bytes())
    start = int(where * len(content))
    content[start : start + 1000] = bytes(1000)
    archive.write_bytes(content)
    with pytest.raises(
        DataError, match=r"a\.tar\.gz.*(download it|get the file) again|a\.tar\.gz/"
    ):
        read(str(archive))


def test_an_archive_of_something_else_is_refused(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", {"holiday.jpg": b"x"})
    with pytest.raises(DataError, match=r"a\.tar\.gz contains no CIFAR-10 file"):
        read(str(archive))


def test_a_link_in_place_of_a_file_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(DataError, match="data_batch_1 is not a file"):
        read(str(path))


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        ({"data": FLAT[0][:, :9], "labels": CLASSES[0].tolist()}, r"'data' is \(20, 9\)"),
        ({"data": FLAT[0][:9], "labels": CLASSES[0].tolist()}, r"'data' is \(9, 3072\)"),
        ({"labels": CLASSES[0].tolist()}, "'data' is NoneType"),
        ({"data": FLAT[0], "labels": [0] * 19}, "not a list of 20"),
        ({"data": FLAT[0], "labels": [10] * 20}, r"not an integer 0\.\.9"),
        ({"data": FLAT[0], "labels": [-1] * 20}, r"not an integer 0\.\.9"),
        ({"data": FLAT[0], "labels": ["0"] * 20}, r"not an integer 0\.\.9"),
    ],
)
def test_wrong_contents_of_a_python_file_are_explained(tmp_path, batch, why):
    files = python_files() | {"cifar-10-batches-py/data_batch_1": pickle.dumps(batch, 2)}
    with pytest.raises(DataError, match="data_batch_1.*" + why):
        read(str(write_folder(tmp_path, files)))


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\0" * 3073 * 19, "truncated"), (b"\xff" * 3073 * 20, "label above 9"), (b"", "0 bytes")],
)
def test_wrong_contents_of_a_binary_file_are_explained(tmp_path, content, why):
    files = binary_files() | {"cifar-10-batches-bin/test_batch.bin": content}
    with pytest.raises(DataError, match=r"test_batch\.bin.*" + why):
        read(str(write_folder(tmp_path, files)))


def test_a_malicious_file_is_refused_and_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it_ran"),)

    files = python_files() | {"cifar-10-batches-py/test_batch": pickle.dumps(Attack(), 2)}
    with pytest.raises(DataError, match=r"test_batch: its pickle asks for .*mkdir"):
        read(str(write_folder(tmp_path, files)))
    assert not (tmp_path / "it_ran").exists()


def test_ten_thousand_images_a_file_are_insisted_on_by_default(tmp_path):
    with pytest.raises(DataError, match=r"expected uint8 of shape \(10000, 3072\)"):
        cifar10.read_cifar10(str(write_folder(tmp_path, python_files())), download=False)


def assert_tells_what_to_do(message: str, root: Path):
    for part in (cifar10.PYTHON_URL, cifar10.PYTHON_ARCHIVE, str(root), "--config.data.dir="):
        assert part in message


def test_without_files_and_download_the_error_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match="downloading is off") as caught:
        read(str(tmp_path / "absent"))
    assert_tells_what_to_do(str(caught.value), tmp_path / "absent")


def test_absent_files_are_downloaded_once_and_read(tmp_path, monkeypatch, server):
    url, folder = server
    archive = write_archive(folder / cifar10.PYTHON_ARCHIVE, python_files())
    monkeypatch.setattr(cifar10, "PYTHON_URL", f"{url}/{archive.name}")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "PYTHON_ARCHIVE_MD5", md5)
    target = tmp_path / "new" / "folder"
    assert_all_images(read(str(target), download=True))
    assert [path.name for path in target.iterdir()] == [cifar10.PYTHON_ARCHIVE]
    archive.unlink()
    assert_all_images(read(str(target), download=True))


def test_a_download_with_a_wrong_checksum_leaves_nothing_behind(tmp_path, monkeypatch, server):
    url, folder = server
    archive = write_archive(folder / cifar10.PYTHON_ARCHIVE, python_files())
    monkeypatch.setattr(cifar10, "PYTHON_URL", f"{url}/{archive.name}")
    target = tmp_path / "new"
    with pytest.raises(DataError, match="c58f30108f.*was deleted") as caught:
        read(str(target), download=True)
    assert_tells_what_to_do(str(caught.value), target)
    assert not target.exists()


def test_an_http_error_is_explained(tmp_path, monkeypatch, server):
    url, _ = server
    monkeypatch.setattr(cifar10, "PYTHON_URL", f"{url}/{cifar10.PYTHON_ARCHIVE}")
    with pytest.raises(DataError, match="404") as caught:
        read(str(tmp_path / "new"), download=True)
    assert_tells_what_to_do(str(caught.value), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_unreachable_host_is_explained(tmp_path, monkeypatch):
    # Port 1 of the loopback interface: refused at once, without leaving the machine.
    url = f"http://127.0.0.1:1/{cifar10.PYTHON_ARCHIVE}"
    monkeypatch.setattr(cifar10, "PYTHON_URL", url)
    with pytest.raises(DataError, match="cannot download") as caught:
        read(str(tmp_path / "new"), download=True)
    assert_tells_what_to_do(str(caught.value), tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to"):
        fetch("http://127.0.0.1:1/x", tmp_path / "file" / "x", "0" * 32)

"""Finds the images of a folder that has one subfolder a class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.images.formats import (
    HEIF_SUFFIXES,
    IMAGE_SUFFIXES,
    accepted_formats,
    starts_as,
)
from input_pipeline.messages import counted, one_line, shortened

# What storage boxes, archives and systems leave in folders of photographs.
_JUNK = (
    "@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "system volume information",
    "thumbs.db", "desktop.ini",
)  # fmt: skip
_SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing", "query")


@dataclass(frozen=True, eq=False)
class FolderImages:
    """The images of a folder and the class of each: a function of the names alone; all sorted.

    `ignored` are files that are no images or lie in no class, and folders (with a `/` at the end)
    that hold no images or lead back to others; hidden and junk ones are not told.
    """

    names: list[str]  # paths with `/` relative to the folder; each starts with its class's name
    class_ids: np.ndarray  # int64 [N], rows of `class_names`
    class_names: tuple[str, ...]  # the subfolders with images; none of a folder without classes
    ignored: tuple[str, ...]

    def one_class_only(self) -> str | None:
        """Why nothing can be learned from a single class, and which folder may be meant."""
        classes = list(self.class_names)
        if len(classes) > 1:
            return None
        name = one_line(classes[0])
        below = sorted({one_line(x.split("/")[1]) for x in self.names if x.count("/") > 1})
        hint = (
            f"; its subfolders {shortened(below)} may be the classes: give {name}" if below else ""
        )
        return f"there is one class, {name}, and two are needed{hint}"

    def left_out(self) -> list[str]:
        """What was ignored, in words: every class without images, the files by kind."""
        empty = [name for name in self.ignored if name.endswith("/")]
        words = [f"folders without images: {shortened(empty, 20)}"] if empty else []
        kinds: dict[str, list[str]] = {}
        for name in self.ignored:
            if not name.endswith("/"):
                kinds.setdefault(os.path.splitext(name)[1].lower(), []).append(name)
        for kind, names in sorted(kinds.items()):
            convertible = kind in (*HEIF_SUFFIXES, ".jp2", ".raw")
            advice = ", convert them to JPEG" if convertible else ""
            what = f"{kind} file" if kind else "file without an ending"
            if kind in IMAGE_SUFFIXES:
                advice = " in no class, or links to nothing"
            words.append(f"{counted(len(names), what)}{advice} ({shortened(names, 3)})")
        return words


def scan_folder(
    directory: str | os.PathLike[str], *, without_classes: bool = False
) -> FolderImages:
    """Lists the images in every subfolder of `directory`, at any depth.

    Where these have none, it takes those right in it if it may be `without_classes`.
    Each subfolder is a class. Hidden names and junk are passed over. A link to a folder is
    followed unless it leads back into `directory`, to a folder that contains the link, or to one
    that was reached before, so no image is counted twice and no loop is entered.
    """
    root = Path(directory).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one with a subfolder for each class")
    scan = _Scan(str(root))
    if not scan.found:
        loose = [entry.name for entry in _visible(str(root)) if _is_image(entry)]
        if without_classes and loose:
            left_out = sorted(set(scan.ignored) - set(map(one_line, loose)))
            return FolderImages(loose, np.zeros(len(loose), np.int64), (), tuple(left_out))
        raise DataError(f"{root} {_why_empty(scan, len(loose))}")
    if len(scan.classes) > 1 and {name.lower() for name in scan.classes} <= set(_SPLIT_NAMES):
        raise DataError(
            f"{root} holds the folders {' and '.join(scan.classes)}, which look like splits and not "
            f"like classes: give one of them, such as {root / scan.classes[0]}, or use "
            "--config.data.name=class_folders --config.data.protocol=class_folders, which takes train "
            "and val as they are"
        )
    scan.found.sort()
    class_names = sorted({class_name for _, class_name in scan.found})
    ids = {name: i for i, name in enumerate(class_names)}
    return FolderImages(
        names=[name for name, _ in scan.found],
        class_ids=np.array([ids[class_name] for _, class_name in scan.found], np.int64),
        class_names=tuple(class_names),
        ignored=tuple(sorted(scan.ignored)),
    )


class _Scan:
    """One walk: `found` becomes (image, class) pairs, `ignored` everything left out."""

    def __init__(self, root: str) -> None:
        self.found: list[tuple[str, str]] = []
        self.ignored: list[str] = []
        self.root = root
        self.real_root = os.path.realpath(root)
        self.reached = {self.real_root}
        self.classes: list[str] = []
        for entry in _visible(root):
            if not _is_folder(entry):
                self.ignored.append(one_line(entry.name))
            elif self._enter(entry, entry.name):
                self.classes.append(entry.name)
        for class_name in self.classes:
            before = len(self.found)
            self._collect(class_name)
            if len(self.found) == before:
                self.ignored.append(one_line(class_name) + "/")

    def _collect(self, class_name: str) -> None:
        waiting = [class_name]
        while waiting:
            folder = waiting.pop()
            for entry in _visible(os.path.join(self.root, folder)):
                name = f"{folder}/{entry.name}"
                if _is_folder(entry):
                    waiting += [name] if self._enter(entry, name) else []
                elif _is_image(entry):
                    self.found.append((name, class_name))
                else:
                    self.ignored.append(one_line(name))

    def _enter(self, entry: os.DirEntry[str], name: str) -> bool:
        """Whether to walk a folder; if not, it is noted as ignored."""
        real = os.path.realpath(entry.path)
        leads_back = entry.is_symlink() and (
            _contains(self.real_root, real)
            or _contains(real, self.real_root)
            or _contains(real, os.path.realpath(os.path.dirname(entry.path)))
        )
        if leads_back or real in self.reached or not _is_text(entry.name):
            self.ignored.append(one_line(name) + "/")
            return False
        self.reached.add(real)
        return True


def _visible(folder: str) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder by name, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            visible = [
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower() not in _JUNK
            ]
    except OSError as error:
        raise DataError(
            f"cannot read the folder {one_line(folder)} ({error}); make it readable or move it away"
        ) from error
    yield from sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link is asked by its path, because DirEntry raises where a link points to itself.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _is_image(entry: os.DirEntry[str]) -> bool:
    is_file = os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()
    if not (is_file and _is_text(entry.name)):
        return False
    # A file with such a name counts unopened. HEIF does where it can be read.
    return entry.name.lower().endswith(IMAGE_SUFFIXES) or _starts_as_image(entry.path)


def _starts_as_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(starts_as(file.read(32)))
    except OSError:
        return False


def _contains(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def _is_text(name: str) -> bool:
    """False for names that are not UTF-8, which no list file could hold."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _why_empty(scan: _Scan, num_loose: int) -> str:
    packed = [*Path(scan.root).glob("packing.json"), *Path(scan.root).glob("*/packing.json")]
    if packed:
        return "holds a packed data set: add --config.data.source=packed"
    if scan.classes:
        return (
            f"has {len(scan.classes)} subfolders but no image in any of them; accepted: "
            f"{', '.join(accepted_formats())}"
        )
    images = f"{num_loose} images lie right in it; " if num_loose else ""
    return f"has no subfolders; {images}put the images of each class into a subfolder of its own"

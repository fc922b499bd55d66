"""Which images a run is of: kept in its workdir, and compared at every start."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hybridhash_jax.workdir import names
from input_pipeline.atomic_file import write_atomically, write_json
from input_pipeline.dataset import Dataset
from input_pipeline.errors import DataError
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.lists.label_lists import format_list
from input_pipeline.lists.listed import LIST_FILES, load_lists
from input_pipeline.messages import shortened
from input_pipeline.packed.records import CLASSES_FILE, lists_checksum

_WORDS = {"train": "training", "query": "query", "database": "database"}


def save_data(workdir: Path, dataset: Dataset) -> None:
    """Writes data.json and, of image files, the splits as list files; keeps what is there."""
    if (workdir / names.DATA).exists():
        return
    lists = _list_files(dataset)
    for name, content in lists.items():
        (workdir / names.LISTS).mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / names.LISTS / name, content)
    write_json(workdir / names.DATA, _record(dataset, lists))


def change_of_data(workdir: Path, dataset: Dataset) -> str | None:
    """How the images differ from those of the workdir's run, in words; None where they do not.

    Nor is anything said of a workdir that an earlier version made, which kept no record.
    """
    path = workdir / names.DATA
    if not path.exists():
        return None
    try:
        kept = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise DataError(f"{path} cannot be read; restore it, or choose another workdir") from None
    now = _record(dataset, _list_files(dataset))
    key = "lists_sha256" if kept.get("lists_sha256") and now["lists_sha256"] else "checksum"
    if kept.get(key) == now[key]:
        return None
    if key == "lists_sha256" and (told := _moved(workdir / names.LISTS, dataset)):
        return told
    different = [
        f"{name} {kept.get(name)} then, {now[name]} now"
        for name in ("dataset", "images", "classes", "checksum")
        if kept.get(name) != now[name]
    ]
    return "; ".join(different) or "the order of the images differs"


def check_data(workdir: Path, dataset: Dataset) -> None:
    """Refuses to go on with other images than the run began with.

    Raises:
      DataError: says what changed, and how to go on.
    """
    if change := change_of_data(workdir, dataset):
        kept = (workdir / names.LISTS).is_dir()
        again = (
            "go on with exactly the images of then: --config.data.splits=kept; or " if kept else ""
        )
        raise DataError(
            f"the images are not those that the run in {workdir} began with: {change}.\n"
            f"Put them back as they were; or {again}choose another --workdir"
        )


def _record(dataset: Dataset, lists: dict[str, bytes]) -> dict[str, Any]:
    splits = dataset.splits.by_name()
    return {
        "dataset": dataset.name,
        "protocol": dataset.protocol,
        "checksum": dataset.checksum,
        "images": {name: len(rows) for name, rows in splits.items()},
        "classes": list(dataset.class_names),
        "lists_sha256": lists_checksum(lists.values()) if lists else None,
    }


def _list_files(dataset: Dataset) -> dict[str, bytes]:
    """The splits of image files by name, with classes.txt; none where no list can hold a name."""
    if not isinstance(dataset.images, EncodedImages):
        return {}
    files = {}
    try:
        for split, rows in dataset.splits.by_name().items():
            paths = [str(dataset.images.names[row]) for row in rows.tolist()]
            if paths:
                files[LIST_FILES[split]] = format_list(paths, dataset.labels[rows], split)
    except ValueError:
        return {}
    return files | {CLASSES_FILE: "".join(f"{x}\n" for x in dataset.class_names).encode()}


def _moved(folder: Path, dataset: Dataset) -> str:
    """Which images are new, gone, in another split, or have other labels."""
    assert isinstance(dataset.images, EncodedImages)
    present = [file for file in LIST_FILES.values() if (folder / file).exists()]
    splits = [split for split, file in LIST_FILES.items() if file in present]
    then: dict[str, dict[str, bytes]] = {}
    for split, one in zip(splits, load_lists(folder, present), strict=True):
        for path, labels in zip(list(one.paths), one.labels, strict=True):
            then.setdefault(path, {})[split] = labels.tobytes()
    now: dict[str, dict[str, bytes]] = {}
    paths = list(map(str, dataset.images.names))
    for split, rows in dataset.splits.by_name().items():
        for row in rows.tolist():
            labels = dataset.labels[row].astype(np.uint8).tobytes()
            now.setdefault(paths[row], {})[split] = labels
    parts = []
    for word, there, other in (("new", now, then), ("gone", then, now)):
        if found := sorted(there.keys() - other.keys()):
            parts.append(f"{len(found):,} {word} ({shortened(found, 3)})")
    moves = Counter(
        (_words(then[path]), _words(now[path]))
        for path in then.keys() & now.keys()
        if then[path].keys() != now[path].keys()
    )
    parts += [f"{count:,} from {a} to {b}" for (a, b), count in moves.items()]
    relabelled = [
        path
        for path in then.keys() & now.keys()
        if set(then[path].values()) != set(now[path].values())
    ]
    if relabelled:
        parts.append(f"{len(relabelled):,} have other labels ({shortened(sorted(relabelled), 3)})")
    return "; ".join(parts)


def _words(splits: dict[str, bytes]) -> str:
    return " and ".join(_WORDS[split] for split in splits)

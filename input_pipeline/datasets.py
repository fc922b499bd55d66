"""One function from a data set's and a protocol's name to images, labels and splits."""

import dataclasses
from collections.abc import Iterable

from input_pipeline.dataset import Dataset, checksum, one_hot
from input_pipeline.lists.folder_splits import FolderSplits
from input_pipeline.options import Option
from input_pipeline.sets import arrays, image_sets
from input_pipeline.sets.image_sets import ListFiles
from input_pipeline.sets.published import read_published
from input_pipeline.splits import DATABASE_RULES, LIST_PROTOCOLS, PROTOCOLS, protocol_splits
from input_pipeline.vectors.embeddings import EmbeddingFiles, load_embeddings

# "archive": the files a data set is published as (for digits, those inside scikit-learn).
# "files": image files; "packed": what input_pipeline.pack made of them; "arrays": NumPy files of
# images; "vectors": files of what another model made of images.
SOURCES = {
    "cifar10": ("archive", "tfds"),
    "digits": ("archive",),
    "fashion_mnist": ("archive",),
    "mnist": ("archive",),
    **dict.fromkeys(LIST_PROTOCOLS, ("files", "packed")),
    "folder": ("files", "packed"),
    "class_folders": ("files", "packed"),
    "arrays": ("arrays",),
    "tiny_imagenet32": ("arrays",),
    "embeddings": ("vectors",),
}
OPTIONS = (
    Option("name", "data set", tuple(SOURCES)),
    Option("splits", "which splits", ("drawn", "kept"), may_change=True),
    Option("split_seed", "of the splits", at_least=0, at_most=2**64 - 1),
    Option("query_per_class", "queries of each class", at_least=1),
    Option("train_per_class", "training images of each class", at_least=1),
    Option("database", "which images are searched", DATABASE_RULES),
    Option("dir", "where the data are", may_change=True),
    Option("lists", "where the list files are", may_change=True),
    Option("embeddings", "file of vectors", may_change=True),
    Option("labels", "file of their labels", may_change=True),
    Option("names", "file of their names", may_change=True),
    Option("split_file", "file of their splits", may_change=True),
    Option("download", "whether missing files are fetched", may_change=True),
)


_OF_LISTS = ("lists", "train_list", "query_list", "database_list")
_OF_FOLDERS = ("query_per_class", "train_per_class", "database")
_OF_VECTORS = ("embeddings", "labels", "names", "split_file")
_OF_FILES = ("resize", "random_area", "on_unreadable", "allow_truncated", "apply_orientation")


def unused_fields(name: str, source: str) -> tuple[str, ...]:
    """Fields of the group `data` that mean nothing for a data set."""
    if source == "vectors":
        return (*_OF_LISTS, *_OF_FILES, "max_pixels", "horizontal_flip", "crop_padding")
    if source in ("archive", "tfds", "arrays"):
        return (*_OF_LISTS, *_OF_FOLDERS, *_OF_FILES, *_OF_VECTORS, "max_pixels")
    if source == "packed" or name == "folder":
        return (*_OF_LISTS, *_OF_VECTORS)
    if name == "class_folders":
        return (*_OF_LISTS, *_OF_VECTORS, "train_per_class", "database")
    return (*_OF_FOLDERS, *_OF_VECTORS)


def load_dataset(
    name: str,
    protocol: str,
    *,
    source: str = "archive",
    directory: str | None = None,
    split_seed: int = 0,
    download: bool = True,
    lists: ListFiles | None = None,
    folder: FolderSplits | None = None,
    embeddings: EmbeddingFiles | None = None,
) -> Dataset:
    """Finds all images of a data set, in memory or as files, and a protocol's splits.

    `name` is a key of `SOURCES` and `source` one of its values; `protocol` is of `splits.PROTOCOLS`
    for images in memory, else the same as `name`. `directory` None: the usual place of an archive.
    `split_seed` is in [0, 2**64). `lists` are for list-file sets; `folder` for "folder", its
    query_per_class also for "class_folders", all of it for "embeddings", whose files `embeddings` are.

    Raises:
      ValueError: an unknown name, protocol or source, or images too few for the protocol.
      DataError: files are missing, damaged or cannot be downloaded, or lists break a rule.
    """
    _check_names(name, protocol, source)
    if source in ("archive", "tfds"):
        return _load_in_memory(name, protocol, source, directory, split_seed, download)
    if source == "vectors":
        files, rules = embeddings or EmbeddingFiles(), folder or FolderSplits()
        return load_embeddings(files, directory, split_seed, rules)
    if directory is None:
        raise ValueError(
            f"say where the {source} of data.name={name} are: --config.data.dir=FOLDER"
        )
    rules = folder or FolderSplits()
    if source == "packed":
        return image_sets.load_packed(name, directory)
    if source == "arrays":
        return arrays.load_arrays(name, directory)
    if name == "class_folders":
        return image_sets.load_class_folders(directory, split_seed, rules.query_per_class)
    if name == "folder":
        return image_sets.load_folder(directory, split_seed, rules)
    return image_sets.load_lists(name, directory, lists or ListFiles())


def load_kept(name: str, directory: str | None, lists: str) -> Dataset:
    """The data set `name` of image files with the splits of three list files, whatever it has now.

    Raises:
      DataError: no such lists, or they are damaged.
      ValueError: no directory.
    """
    if directory is None:
        raise ValueError(f"say where the files of data.name={name} are: --config.data.dir=FOLDER")
    found = image_sets.load_lists("lists", directory, ListFiles(lists))
    top_k = LIST_PROTOCOLS.get(name, LIST_PROTOCOLS["lists"]).top_k
    return dataclasses.replace(found, name=name, protocol=name, top_k=top_k)


def _load_in_memory(
    name: str, protocol: str, source: str, directory: str | None, split_seed: int, download: bool
) -> Dataset:
    pooled, class_names = read_published(name, source, directory, download=download)
    rules = PROTOCOLS[protocol]
    labels = one_hot(pooled.class_ids, len(class_names))
    return Dataset(
        name=name,
        protocol=protocol,
        class_names=class_names,
        images=pooled.images,
        labels=labels,
        splits=protocol_splits(rules, pooled.class_ids, split_seed, pooled.num_train),
        top_k=rules.top_k,
        provenance=pooled.provenance,
        official=pooled.official,
        checksum=checksum(pooled.images, labels),
    )


def _check_names(name: str, protocol: str, source: str) -> None:
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}; accepted: {_listed(SOURCES)}")
    accepted = [key for key, rules in PROTOCOLS.items() if name in rules.datasets] or [name]
    if protocol not in accepted:
        raise ValueError(f"{name} has no protocol {protocol!r}; accepted: {_listed(accepted)}")
    if source not in SOURCES[name]:
        raise ValueError(f"{name} has no source {source!r}; accepted: {_listed(SOURCES[name])}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)

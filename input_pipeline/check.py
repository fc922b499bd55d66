"""Checks the lists and every image of a data set, or files of vectors, before a long run.

The first 20 problems are shown, all are in a file. The exit code is 1 if there are any, else 0.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from input_pipeline.atomic_file import write_atomically
from input_pipeline.commands import (
    add_decoding_options,
    add_list_options,
    check_image_folder,
    expanded,
    make_parser,
    run_command,
)
from input_pipeline.dataset import one_hot
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.encoded import FileReader
from input_pipeline.images.image_checks import (
    ImageFacts,
    check_images,
    image_table,
    odd_images,
    same_files,
)
from input_pipeline.lists.folder_splits import FolderSplits, draw_splits
from input_pipeline.lists.label_lists import LabelList
from input_pipeline.lists.list_tables import list_table
from input_pipeline.lists.listed import (
    LIST_FILES,
    ListProblem,
    fitting_class_names,
    label_use_problems,
    list_problems,
    parse_lists,
)
from input_pipeline.messages import counted, ensure_utf8, one_line, shortened
from input_pipeline.progress import Progress
from input_pipeline.sets.folders import FolderImages, scan_folder
from input_pipeline.sets.published import PUBLISHED, check_published
from input_pipeline.splits import LIST_PROTOCOLS
from input_pipeline.vectors.embeddings import EmbeddingFiles
from input_pipeline.vectors.whole_check import check_vectors

_EXAMPLES = """\
  python -m input_pipeline.check --dir COCO --lists COCO/lists --name coco
  python -m input_pipeline.check --lists my_lists --no_images
  python -m input_pipeline.check --dir photographs --folder --near_duplicates
  python -m input_pipeline.check --name fashion_mnist
  python -m input_pipeline.check --embeddings vectors.npy --labels labels.npy
"""
_SHOWN = 20
_BESIDE = ("labels", "names", "split_file")


@dataclass
class Findings:
    """What was found, and counts as text.

    `problems` are what a run would stop at or give wrong results with; `notices` are no mistakes.
    """

    problems: list[ListProblem] = field(default_factory=list)
    notices: list[ListProblem] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


def check(options: argparse.Namespace) -> Findings:
    """Runs all checks that the command line asks for; DataError without the image folder."""
    if options.dir:
        check_image_folder(options.dir)
    findings = Findings()
    if options.name in PUBLISHED:
        findings.tables, notices = check_published(options.name, options.dir)
        findings.notices = [ListProblem(text) for text in notices]
        return findings
    if options.folder or options.embeddings:
        (_check_folder if options.folder else _check_embeddings)(options, findings)
        return findings
    expected = LIST_PROTOCOLS[options.name]
    place = options.lists or options.dir
    names = (options.train_list, options.query_list, options.database_list)
    lists, problems = parse_lists(place, names, expected.num_classes)
    class_names, of_names = fitting_class_names(place, lists)
    train, query, database = lists
    findings.problems += problems + list_problems(train, query, database, expected)
    findings.problems += label_use_problems(lists) + of_names
    findings.tables.append(list_table(dict(zip(LIST_FILES, lists, strict=True)), class_names))
    if not options.no_images:
        _check_images(options, lists, findings)
    return findings


def _check_folder(options: argparse.Namespace, findings: Findings) -> None:
    """The same of a folder with a subfolder a class, or of images without classes."""
    found = scan_folder(options.dir, without_classes=True)
    findings.notices += [ListProblem(f"left out: {words}") for words in found.left_out()]
    if found.class_names:
        _check_classes(options.dir, found, findings)
    else:
        text = "no subfolder has images, so these have no classes: they can be encoded and searched"
        findings.notices.append(ListProblem(f"{text}, and not trained on"))
    if options.no_images:
        return
    listed = LabelList(found.names, np.zeros((len(found.names), 0), np.uint8), options.dir)
    facts = _check_images(options, [listed], findings)
    rows = np.arange(len(found.names))
    pairs = [pair for pair in same_files(facts, rows, rows) if pair[0] != pair[1]]
    if details := tuple(f"{found.names[j]!r} and {found.names[i]!r}" for i, j in pairs):
        text = f"{counted(len(details), 'file')} equal to another one, byte for byte, which may "
        text += f"become query and database image, for example {details[0]}"
        findings.notices.append(ListProblem(text, details))


def _check_classes(directory: str, found: FolderImages, findings: Findings) -> None:
    """What a run refuses, whatever splits are drawn, and where its usual ones leave no database."""
    labels = one_hot(found.class_ids, len(found.class_names))
    listed = LabelList(found.names, labels, directory)
    findings.tables.append(list_table({"images": listed}, found.class_names))
    if reason := found.one_class_only():
        findings.problems.append(ListProblem(reason))
    counts = np.bincount(found.class_ids)
    if few := [one_line(found.class_names[i]) for i in np.flatnonzero(counts < 2)]:
        text = "classes with one image, which a query and a training image cannot be drawn from"
        findings.problems.append(ListProblem(f"{text}: {shortened(few, 20)}", tuple(few)))
        return
    splits = draw_splits(directory, found.class_ids, found.class_names, 0, FolderSplits())
    if not len(splits.database):
        text = (
            "a tenth of each class as queries and half of it for training leave no image to search "
            "in: add images, or train with --config.data.database=train"
        )
        findings.problems.append(ListProblem(text))


def _check_embeddings(options: argparse.Namespace, findings: Findings) -> None:
    """What files of vectors hold, with the splits that a run would draw from seed 0."""
    given = (options.embeddings, options.labels, options.names, options.split_file)
    tables, reasons = check_vectors(EmbeddingFiles(*given), options.dir)
    findings.tables += tables
    findings.problems += [ListProblem(reason) for reason in reasons]


def _check_images(
    options: argparse.Namespace, lists: Sequence[LabelList], findings: Findings
) -> list[ImageFacts]:
    places: dict[str, str] = {}
    for listed in lists:
        for row, name in enumerate(listed.paths):
            if name not in places:
                places[name] = listed.file if options.folder else listed.place(row)
    names = list(places)
    reader, workers = FileReader(options.dir, names), options.num_workers
    decoding = DecodeOptions(options.allow_truncated, options.max_pixels)
    started = time.perf_counter()
    with Progress("checking", len(names)) as told:
        facts = check_images(
            reader, len(names), decoding, num_workers=workers, progress=told.update
        )
    findings.tables.append(image_table(names, facts, time.perf_counter() - started))
    findings.problems += [
        ListProblem(f"{places[name]}: {name!r}: {fact.reason}")
        for name, fact in zip(names, facts, strict=True)
        if fact.reason
    ]
    if len(lists) == len(LIST_FILES):
        findings.notices += _same_file_notices(names, facts, lists)
    if options.near_duplicates:
        from input_pipeline.near_duplicates.notices import near_duplicate_notices  # loads Numba

        splits = None if options.folder else [listed.paths for listed in lists]
        findings.notices += near_duplicate_notices(reader, names, splits, decoding, workers)
    for what, images in odd_images(names, facts).items():
        text = f"{counted(len(images), 'image')} {what}: {shortened(images)}"
        findings.notices.append(ListProblem(text, tuple(images)))
    return facts


def _same_file_notices(
    names: list[str], facts: list[ImageFacts], lists: Sequence[LabelList]
) -> list[ListProblem]:
    """One notice for database and one for train: their files that are also a query's."""
    numbers = {name: row for row, name in enumerate(names)}
    train, query, database = (np.array([numbers[x] for x in y.paths], np.int64) for y in lists)
    notices = []
    for rows, split in ((database, "database"), (train, "training")):
        pairs = same_files(facts, query, rows)
        details = tuple(f"query {names[i]!r} and {split} {names[j]!r}" for i, j in pairs)
        if pairs:
            are = "query is" if len(pairs) == 1 else "queries are"
            text = f"{len(pairs):,} {are} the same file, byte for byte, as a {split} image"
            notices.append(
                ListProblem(f"{text} of another name, for example {details[0]}", details)
            )
    return notices


def _report(findings: Findings, out: str, written: bool) -> str:
    """The text for the screen."""
    problems = [f"problem: {problem.summary}" for problem in findings.problems]
    lines = [*findings.tables, *(f"notice: {notice.summary}" for notice in findings.notices)]
    if not problems:
        noticed = f", {counted(len(findings.notices), 'notice')}" if findings.notices else ""
        older = f"; {out} is of an earlier check" if os.path.exists(out) else ""
        where = f"; every notice, pair by pair, is in {out}" if written else older
        return "\n".join([*lines, f"no problems{noticed}{where}"])
    last = f"{counted(len(problems), 'problem')}; all of them, image by image, are in {out}"
    return "\n".join([*lines, shortened(problems, _SHOWN, "\n"), last])


def _everything(findings: Findings) -> str:
    """The text for the file."""
    lines = list(findings.tables)
    for kind, found in (("problem", findings.problems), ("notice", findings.notices)):
        for one in found:
            lines += [f"{kind}: {one.summary}", *(f"{kind}:   {detail}" for detail in one.details)]
    return "\n".join([*lines, ""])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("input_pipeline.check", __doc__, _EXAMPLES)
    add = parser.add_argument
    add("--dir", type=expanded, metavar="IMAGES", help="folder that the paths in lists start from")
    add("--folder", action="store_true", help="no lists: a subfolder of IMAGES is a class, if any")
    add("--embeddings", type=expanded, metavar="FILE", help="vectors: see docs/embeddings.md")
    for name in _BESIDE:
        add(f"--{name}", type=expanded, metavar="FILE", help=f"{name}, where in a file of its own")
    told = "this published data set (default lists: lists of any size)"
    add("--name", choices=[*LIST_PROTOCOLS, *PUBLISHED], default="lists", help=told)
    add_list_options(parser)
    add("--no_images", action="store_true", help="check the lists only")
    add("--near_duplicates", action="store_true", help="also look for images nearly the same")
    out = "check_problems.txt"
    add("--out", type=expanded, metavar="FILE", default=out, help=f"default {out}")
    add_decoding_options(parser)
    options = parser.parse_args(arguments)
    lists = options.lists or any(getattr(options, f"{x}_list") != y for x, y in LIST_FILES.items())
    beside = [f"--{name}" for name in _BESIDE if getattr(options, name)]
    if beside and not options.embeddings:
        parser.error(f"{', '.join(beside)}: this goes with --embeddings FILE")
    if options.embeddings and (lists or options.folder or options.name != "lists"):
        parser.error("--embeddings goes without lists, --folder and --name")
    if options.name in PUBLISHED:
        if lists or options.near_duplicates or options.no_images:
            parser.error(f"--name={options.name} goes with --dir alone")
    elif not options.dir and not options.embeddings and not (options.no_images and options.lists):
        parser.error("give --dir IMAGES, or --lists LISTS with --no_images to check lists only")
    if options.folder and (lists or not options.dir or options.name != "lists"):
        parser.error("--folder needs --dir, and goes without lists and --name")
    if not os.path.isdir(folder := os.path.dirname(options.out) or "."):
        parser.error(f"--out: there is no folder {folder}")  # now rather than after hours
    if not os.access(folder, os.W_OK) or os.path.isdir(options.out) or options.out == "-":
        parser.error(f"--out={options.out} cannot be written; give another file")
    if os.path.exists(options.out) and options.out != parser.get_default("out"):
        parser.error(f"--out={options.out} exists; give another file, or remove it")
    if options.near_duplicates and (options.no_images or options.embeddings):
        parser.error("--near_duplicates reads images: leave --no_images and --embeddings out")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options, findings = _parse(arguments), Findings()

    def work() -> str:
        nonlocal findings
        findings = check(options)
        written = bool(findings.problems or (options.near_duplicates and findings.notices))
        if written:
            write_atomically(options.out, _everything(findings).encode(errors="backslashreplace"))
        return _report(findings, options.out, written)

    code = run_command(work, "nothing was written")
    return 1 if findings.problems else code


if __name__ == "__main__":
    ensure_utf8()
    sys.exit(main())

"""Checks the lists and every image of a data set before a long run.

Problems are gathered, not just the first one is shown: the first 20 on the screen, all of them in
a file. The exit code is 1 if there are any, else 0.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from input_pipeline.atomic_file import write_atomically
from input_pipeline.check_tables import image_table, list_table
from input_pipeline.errors import DataError
from input_pipeline.images.decode import MAX_PIXELS, DecodeOptions
from input_pipeline.images.encoded import FileReader
from input_pipeline.images.image_checks import ImageFacts, check_images, same_files
from input_pipeline.lists.label_lists import LabelList, parse_list, read_list_bytes
from input_pipeline.lists.listed import ListProblem, find_list_problems, list_path, size_problems
from input_pipeline.sources import available_cores
from input_pipeline.splits import LIST_PROTOCOLS

_EXAMPLES = """\
examples:
  python -m input_pipeline.check --dir COCO --lists COCO/lists --name coco
  python -m input_pipeline.check --lists my_lists --no_images
"""
_SHOWN = 20


@dataclass
class Findings:
    """What was found.

    Attributes:
      problems: what a run would stop at or give wrong results with.
      notices: worth knowing, but no mistake.
      tables: counts, as text.
    """

    problems: list[ListProblem] = field(default_factory=list)
    notices: list[ListProblem] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


def check(options: argparse.Namespace) -> Findings:
    """Runs all checks that the command line asks for.

    Raises:
      DataError: if the image folder is not there.
      ValueError: for an impossible option.
    """
    if options.dir and "://" not in options.dir and not os.path.isdir(options.dir):
        raise DataError(f"{options.dir} is not a folder; give the one with the images as --dir")
    findings = Findings()
    lists = _read_lists(options, findings)
    expected = LIST_PROTOCOLS[options.name]
    train, query, database = lists
    findings.problems += find_list_problems(train, query, database)
    sizes = size_problems(train, query, database, expected)
    findings.problems += [ListProblem(text) for text in sizes]
    class_names = _class_names(options.lists or options.dir, lists, findings)
    findings.tables.append(
        list_table(dict(zip(("train", "query", "database"), lists)), class_names)
    )
    if not options.no_images:
        _check_images(options, lists, findings)
    return findings


def _read_lists(options: argparse.Namespace, findings: Findings) -> list[LabelList]:
    """The three lists; empty where one cannot be read at all."""
    lists = []
    num_classes = LIST_PROTOCOLS[options.name].num_classes
    for name in (options.train, options.query, options.database):
        file = list_path(options.lists or options.dir, name)
        try:
            found, problems = parse_list(read_list_bytes(file), file, num_classes)
        except DataError as error:
            found, problems = LabelList([], np.zeros((0, 1), np.uint8), file), [str(error)]
        lists.append(found)
        findings.problems += [ListProblem(text) for text in problems]
    return lists


def _class_names(
    directory: str, lists: Sequence[LabelList], findings: Findings
) -> tuple[str, ...] | None:
    """The lines of classes.txt beside the lists; None if there is none that fits."""
    file = list_path(directory, "classes.txt")
    try:
        text = read_list_bytes(file).decode(errors="replace")
    except DataError:  # it need not be there
        return None
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    wrong = {x.labels.shape[1] for x in lists if x.paths} - {len(names)}
    if not wrong:
        return names
    widths = " and ".join(map(str, sorted(wrong)))
    text = f"{file}: names {len(names)} classes, but there are {widths} labels a line"
    findings.problems.append(ListProblem(text))
    return None


def _check_images(
    options: argparse.Namespace, lists: Sequence[LabelList], findings: Findings
) -> None:
    from tqdm import tqdm

    places: dict[str, str] = {}
    for listed in lists:
        for row, name in enumerate(listed.paths):
            if name not in places:
                places[name] = listed.place(row)
    names = list(places)
    started = time.perf_counter()
    with tqdm(total=len(names), unit="image", disable=None) as bar:
        facts = check_images(
            FileReader(options.dir, names),
            len(names),
            DecodeOptions(allow_truncated=options.allow_truncated, max_pixels=options.max_pixels),
            num_workers=options.num_workers,
            progress=bar.update,
        )
    findings.tables.append(image_table(names, facts, time.perf_counter() - started))
    findings.problems += [
        ListProblem(f"{places[name]}: {name!r}: {fact.reason}")
        for name, fact in zip(names, facts, strict=True)
        if fact.reason
    ]
    findings.notices += _same_file_notices(names, facts, lists)


def _same_file_notices(
    names: list[str], facts: list[ImageFacts], lists: Sequence[LabelList]
) -> list[ListProblem]:
    """One notice for database and one for train: their files that are also a query's."""
    numbers = dict(zip(names, range(len(names)), strict=True))
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


def _report(findings: Findings, out: str) -> str:
    """The text for the screen."""
    lines = [*findings.tables, *(f"notice: {notice.summary}" for notice in findings.notices)]
    problems = findings.problems
    lines += [f"problem: {problem.summary}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"... and {len(problems) - _SHOWN:,} more")
    count = f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}"
    last = f"{count}; all of them, image by image, are in {out}" if problems else "no problems"
    return "\n".join([*lines, last])


def _write_everything(findings: Findings, out: str) -> None:
    lines = [f"problem: {line}" for problem in findings.problems for line in _all_lines(problem)]
    lines += [f"notice: {line}" for notice in findings.notices for line in _all_lines(notice)]
    text = "\n".join([*findings.tables, *lines, ""])
    write_atomically(out, text.encode(errors="backslashreplace"))


def _all_lines(problem: ListProblem) -> list[str]:
    return [problem.summary, *(f"  {detail}" for detail in problem.details)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.check",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dir", metavar="IMAGES", help="folder that the paths in the lists start from")
    add("--lists", metavar="LISTS", help="folder of the list files (default: IMAGES)")
    add(
        "--name",
        choices=list(LIST_PROTOCOLS),
        default="lists",
        help="check the sizes of this published data set (default lists: any sizes)",
    )
    for split, file in (
        ("train", "train.txt"),
        ("query", "test.txt"),
        ("database", "database.txt"),
    ):
        add(
            f"--{split}",
            f"--{split}_list",
            dest=split,
            default=file,
            metavar="FILE",
            help=f"default {file}",
        )
    add("--no_images", action="store_true", help="check the lists only")
    add("--out", metavar="FILE", default="check_problems.txt", help="default check_problems.txt")
    add("--num_workers", type=int, default=available_cores(), help="threads; default: all cores")
    add("--allow_truncated", action="store_true", help="take a JPEG whose end is missing")
    add("--max_pixels", type=int, default=MAX_PIXELS, help=f"refuse larger (default {MAX_PIXELS})")
    return parser


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.dir and not (options.no_images and options.lists):
        parser.error("give --dir IMAGES, or --lists LISTS with --no_images to check lists only")
    folder = os.path.dirname(options.out) or "."
    if not os.path.isdir(folder):  # found out now rather than after hours
        parser.error(f"--out: there is no folder {folder}")
    if options.num_workers < 1:
        parser.error(f"--num_workers must be 1 or more, got {options.num_workers}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parse(arguments)
    try:
        findings = check(options)
        if findings.problems:
            _write_everything(findings, options.out)
    except (DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    # Class names and paths may have letters that the terminal's encoding lacks.
    encoding = sys.stdout.encoding or "utf-8"
    print(_report(findings, options.out).encode(encoding, "backslashreplace").decode(encoding))
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())

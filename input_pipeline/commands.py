"""What the three commands share: their parsers, their options and their exit codes."""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from input_pipeline import signals
from input_pipeline.atomic_file import is_special
from input_pipeline.errors import DataError
from input_pipeline.images.decode import MAX_PIXELS
from input_pipeline.images.formats import starts_as
from input_pipeline.lists.listed import LIST_FILES
from input_pipeline.messages import (
    HELD,
    NO_HOME,
    discard_output,
    in_words,
    is_of_home,
    is_out_of_memory,
)
from input_pipeline.splits import DATABASE_RULES
from input_pipeline.threads import available_cores

_OUT_OF_MEMORY = (
    f"out of memory. {HELD}, and JAX_PLATFORMS=cpu in the environment takes the processor instead"
)


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, as all errors are told."""

    def error(self, message: str) -> NoReturn:
        """Exits with 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` lists what can be given\n")


def make_parser(module: str, description: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m MODULE`, whose help says `hybridhash VERB` where that was called."""
    program = f"python -m {module}"
    if Path(sys.argv[0]).name == "hybridhash":
        verb = f"hybridhash {module.rpartition('.')[2].replace('_', '-')}"
        examples = examples.replace(program, verb)
        program = verb
    return Parser(
        prog=program,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """The type of a flag: a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """The type of a flag: a whole number that random numbers can start from."""
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to 2**64 - 1, got {text!r}"
        )
    return int(text)


def given(text: str) -> str:
    """The type of a flag: a text that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty (an unset variable?)")
    return text


def expanded(text: str) -> str:
    """The type of a flag: a path or an address. Bash leaves the ~ of --FLAG=~/FOLDER alone."""
    return os.path.expanduser(given(text))


def local_path(text: str) -> Path:
    """The type of a flag: a path on this machine."""
    try:
        return Path(given(text)).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {NO_HOME}") from error


def add_list_options(group: argparse._ActionsContainer) -> None:
    """--lists and the names of the three lists in it."""
    add = functools.partial(group.add_argument, type=expanded)
    add("--lists", metavar="LISTS", help="folder of the list files (default IMAGES)")
    for split, file in LIST_FILES.items():
        add(f"--{split}_list", default=file, metavar="FILE", help=f"default {file}")


def add_decoding_options(group: argparse._ActionsContainer) -> None:
    """What counts as readable, and how many threads decode."""
    add, cores = group.add_argument, available_cores()
    add("--num_workers", type=positive, default=cores, help="threads; default: all cores")
    add("--allow_truncated", action="store_true", help="take a JPEG whose end is missing")
    add(
        "--max_pixels",
        type=positive,
        default=MAX_PIXELS,
        help=f"refuse larger (default {MAX_PIXELS})",
    )


def add_database_option(group: argparse._ActionsContainer) -> None:
    """Which images of a folder are searched in."""
    group.add_argument(
        "--database",
        choices=DATABASE_RULES,
        default="rest",
        help="which images are searched in (default rest: neither queries nor training images)",
    )


def check_outputs(parser: argparse.ArgumentParser, **files: str | None) -> None:
    """Refuses files that cannot be written, images, and one file for two; before the work."""
    given = {name: file for name, file in files.items() if file}
    for name, file in given.items():
        if file == "-":
            parser.error(f"--{name}=-; give the name of a file")
        # A file is replaced by one that is written beside it; a device or a pipe is written to.
        special = is_special(file)
        written = file if special else os.path.dirname(file) or "."
        if os.path.isdir(file) or not os.access(written, os.W_OK):
            parser.error(f"--{name}={file!r} cannot be written; give another file")
        if not special and _is_image(file):
            parser.error(f"--{name}={file!r} is an image, which would be lost; give another file")
    if len({os.path.realpath(file) for file in given.values()}) < len(given):
        names = " and ".join(f"--{name}" for name in given)
        parser.error(f"{names} name one file; give each a file of its own")


def _is_image(file: str) -> bool:
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        return bool(starts_as(opened.read(64)))
    return False


def check_image_folder(directory: str) -> None:
    """Raises `DataError` for a local folder that is not there."""
    if "://" not in directory and not Path(directory).is_dir():
        raise DataError(f"{directory} is not a folder; give the one with the images as --dir")


def run_command(work: Callable[[], str | None], when_stopped: str) -> int:
    """Prints what `work` returns, if anything, or its error as one line; returns the exit code."""
    try:
        with signals.raised():
            text = work()
        if text is not None:
            # Class names and paths may have letters that the terminal's encoding lacks.
            encoding = sys.stdout.encoding or "utf-8"
            _print(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:  # `| head` has read enough
        discard_output()
    except (DataError, ValueError, OSError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            print(f"error: {_OUT_OF_MEMORY}", file=sys.stderr)
            return 1
        if isinstance(error, RuntimeError) and not is_of_home(error):
            raise
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"stopped; {when_stopped}", file=sys.stderr)
        return 143 if isinstance(stop, signals.Terminated) else 130
    return 0


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:  # which names no file
        discard_output()
        raise DataError(f"standard output: {error.strerror}") from None

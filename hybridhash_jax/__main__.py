"""The console command: `hybridhash VERB`, or `python -m hybridhash_jax VERB`."""

import difflib
import importlib
import os
import sys
from typing import NamedTuple, NoReturn

from hybridhash_jax import __version__
from input_pipeline import messages, signals


class Verb(NamedTuple):
    """What follows `hybridhash`.

    Attributes:
      sentence: what it does.
      example: the arguments of a first command.
      module: where its `main(arguments)` is, which returns the exit code. It is imported only to
        run it.
    """

    sentence: str
    example: str
    module: str


VERBS = {
    "train": Verb(
        "Trains a network, goes on with a run, or measures it (--mode=evaluate).",
        "--config=digits --workdir=runs/digits",
        "hybridhash_jax.command_line",
    ),
    "encode": Verb(
        "Encodes a folder of images into an index, with a trained network or without labels.",
        "~/Pictures --index=pictures.idx",
        "hybridhash_jax.retrieval.encoding.command",
    ),
    "search": Verb(
        "Finds the images of an index that are most similar to given ones.",
        "--index=pictures.idx holiday.jpg --html=found.html",
        "hybridhash_jax.retrieval.search.command",
    ),
    "index": Verb(
        "Tells, verifies, merges, compacts an index, or removes images from it.",
        "info pictures.idx",
        "hybridhash_jax.retrieval.index.command",
    ),
    "duplicates": Verb(
        "Finds images that are nearly the same; deletes nothing.",
        "~/Pictures --html=duplicates.html",
        "hybridhash_jax.retrieval.duplicates.command",
    ),
    "serve": Verb(
        "Serves an index: a page for people, a JSON API for programs.",
        "--index=pictures.idx",
        "hybridhash_jax.retrieval.service.command",
    ),
    "export": Verb(
        "Copies the codes of an index into another search engine, and compares its answers.",
        "--index=pictures.idx --to=parquet --output=pictures.parquet",
        "hybridhash_jax.retrieval.export.command",
    ),
    "export-model": Verb(
        "Writes what encodes images as one file that needs no code of ours.",
        "--workdir=runs/photos --out=photos.stablehlo",
        "hybridhash_jax.retrieval.model_file.command",
    ),
    "check": Verb(
        "Checks the lists and every image of a data set, or vectors, before a long run.",
        "--dir IMAGES --lists LISTS",
        "input_pipeline.check",
    ),
    "make-splits": Verb(
        "Draws training, query and database lists, the same everywhere.",
        "folder --raw=IMAGES --out=LISTS --train_per_class=100 --query_per_class=20",
        "input_pipeline.make_splits",
    ),
    "pack": Verb(
        "Packs many small image files into a few large ones.",
        "--name=lists --dir=IMAGES --lists=LISTS --out=PACKED",
        "input_pipeline.pack",
    ),
    "convert-weights": Verb(
        "Converts weights between PyTorch's names, Google's and our runs.",
        "--from=runs/digits --to=digits.safetensors",
        "hybridhash_jax.tools.convert_weights",
    ),
}
# Verbs that need little of a GPU's memory, of which JAX would take 75 % at once.
_SMALL = ("search", "serve")
# Modes of training that look like verbs.
_OF_TRAIN = {
    "evaluate": "train --mode=evaluate",
    "eval": "train --mode=evaluate",
    "tune_batch": "train --mode=tune_batch",
    "compare": "train --mode=compare",
}


def main() -> NoReturn:
    """Runs the verb that the command line names; exits with 2 where there is no such verb."""
    messages.ensure_utf8()
    signals.listen()
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h", "help"):
        messages.print_help(_help())
        sys.exit(0)
    if verb == "--version":
        print(f"hybridhash_jax {__version__}")
        sys.exit(0)
    verb = verb if verb in VERBS else verb.replace("_", "-")
    if verb not in VERBS:
        near = [_OF_TRAIN[verb]] if verb in _OF_TRAIN else []
        near += difflib.get_close_matches(verb, VERBS, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        print(f"error: {verb!r} is no verb.{hint} Verbs: {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    if verb in _SMALL:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sys.argv[0] = "hybridhash"  # with `python -m` it is this file's path, which results would show
    sys.exit(importlib.import_module(VERBS[verb].module).main(arguments))


def _help() -> str:
    lines = ["Deep hashing for image retrieval.", "", "hybridhash VERB --help explains a verb."]
    for name, verb in VERBS.items():
        lines += ["", f"{name}: {verb.sentence}", f"  hybridhash {name} {verb.example}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

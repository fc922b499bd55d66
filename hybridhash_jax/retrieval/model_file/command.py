"""Writes what encodes images as one file that needs no code of ours: StableHLO, weights included.

Crops of images go in, packed codes come out; a model card beside it says how crops are made, and
what is recorded of data, training and mAP. Before anything is written, the codes of 100 images are
compared with the encoder's.
"""

import argparse
import sys
from collections.abc import Sequence

from hybridhash_jax.retrieval import outputs
from input_pipeline.commands import local_path, make_parser, run_command

_DTYPES = ("float32", "bfloat16")
_EXAMPLES = """\
  hybridhash export-model --workdir=runs/photos --out=photos.stablehlo
  hybridhash export-model --index=pictures.idx --out=pictures.stablehlo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not (options.workdir or options.index):
        parser.error("nothing to export; give --workdir=RUN or --index=INDEX")
    if options.checkpoint and options.index:
        parser.error("--checkpoint is of a run; an index names its own")
    if options.out.suffix.lower() == ".onnx":
        parser.error(
            f"--out={options.out} would be StableHLO; `python -m hybridhash_jax.tools.to_onnx` "
            "writes ONNX"
        )
    outputs.check_outputs(parser, out=str(options.out))
    return run_command(lambda: _run(options), "nothing was written")


def _run(options: argparse.Namespace) -> str:
    from hybridhash_jax.retrieval.model_file.writing import Request, export_model

    request = Request(
        workdir=options.workdir,
        index=options.index,
        checkpoint=options.checkpoint,
        dtype=options.dtype,
    )
    return export_model(request, options.out, lambda line: print(line, file=sys.stderr))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hybridhash_jax.retrieval.export_model", __doc__, _EXAMPLES)
    parser.prog = "hybridhash export-model"
    add = parser.add_argument
    add(
        "--workdir",
        type=local_path,
        metavar="RUN",
        help="a trained run; with --index, where its run is now",
    )
    add("--index", type=local_path, metavar="INDEX", help="an index, whose encoder is exported")
    add(
        "--out",
        type=local_path,
        required=True,
        metavar="FILE",
        help="the file; its model card is FILE.md",
    )
    add(
        "--checkpoint",
        metavar="WHICH",
        help="of a run: selected (as in its results, the default), latest, or a step",
    )
    add(
        "--dtype",
        choices=_DTYPES,
        default="float32",
        help="of the computation (default float32); bfloat16 turns some bits",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

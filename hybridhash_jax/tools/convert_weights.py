"""Converts weights between PyTorch's names, Google's and our runs, bit for bit.

Reads what --config.init.weights reads: timm's NesT and the authors' HybridHash (.pth, .safetensors),
Google's NesT (.flax, or the folder) and workdirs of this program. Writes .safetensors with the
authors' names (timm's, for a network without a hash head) or .flax with Google's.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from hybridhash_jax.pretrained.account import group
from hybridhash_jax.pretrained.network import looks_like, shapes_of
from hybridhash_jax.pretrained.sources import Source, read_source
from hybridhash_jax.pretrained.writing import Encoded, encode
from input_pipeline.atomic_file import write_atomically
from input_pipeline.commands import local_path, make_parser, run_command
from input_pipeline.messages import show_any_letter

_EXAMPLES = """\
  python -m hybridhash_jax.tools.convert_weights --from=runs/cifar10 --to=hybridhash.safetensors
  python -m hybridhash_jax.tools.convert_weights --from=nest-b_imagenet --to=nest_base.safetensors
  python -m hybridhash_jax.tools.convert_weights --from=jx_nest_base.pth --to=nest_base.flax
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hybridhash_jax.tools.convert_weights", __doc__, _EXAMPLES)
    parser.add_argument("--from", dest="source", required=True, metavar="PATH")
    parser.add_argument(
        "--to", type=local_path, required=True, metavar="OUT", help="OUT.safetensors or OUT.flax"
    )
    parser.add_argument(
        "--checkpoint",
        default="selected",
        help="of a workdir: selected (default), latest, or a step",
    )
    parser.add_argument(
        "--num_heads",
        type=_numbers,
        default=(),
        metavar="N,N,N",
        help="attention heads of each level, where neither the file nor its widths tell",
    )
    parser.add_argument(
        "--leave_out",
        action="append",
        default=[],
        metavar="REGEX",
        help="what to leave out, such as 'hash_head|global_branch'; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def convert(options: argparse.Namespace) -> str:
    """Reads, converts and writes; returns what was done, in words; ValueError where it cannot."""
    out = options.to
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file in it, such as {out / 'x.safetensors'}")
    if out.exists() and not options.force:
        raise ValueError(f"{out} exists; give --force to replace it, or another name")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"the folder {out.absolute().parent} does not exist; make it first")
    source = read_source(options.source, options.checkpoint)
    encoded = encode(source, out, num_heads=options.num_heads, leave_out=options.leave_out)
    write_atomically(out, encoded.data)
    return _report(source, encoded, out)


def _report(source: Source, encoded: Encoded, out: Path) -> str:
    sizes = looks_like(shapes_of(source.arrays))
    lines = [f"read {source.path} ({source.kind}), which looks like {sizes}"]
    lines += [f"  note: {note}" for note in source.notes]
    among = [*source.names.values(), *source.unused, *source.unknown]
    for reason in dict.fromkeys(encoded.left_out.values()):
        names = [name for name, why in encoded.left_out.items() if why == reason]
        lines += [f"  left out: {label}; {reason}" for label in group(names, among)]
    size = len(encoded.data)
    lines.append(f"wrote {out} ({encoded.kind}): {encoded.num_arrays} arrays, {size:,} bytes")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    show_any_letter()
    options = _parser().parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # Orbax warns of files that never were
    return run_command(lambda: convert(options), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())

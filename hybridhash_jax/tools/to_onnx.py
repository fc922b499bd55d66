"""Writes an encoder as an ONNX file: what hybridhash export-model writes, for other runtimes.

In an environment of its own, for jax2onnx wants an older orbax-checkpoint than training does:

  python -m venv onnx-env && onnx-env/bin/pip install -r requirements-onnx.txt
  onnx-env/bin/python -m hybridhash_jax.tools.to_onnx --workdir=runs/photos --out=photos.onnx

The codes of 100 images in onnxruntime are compared with the encoder's before anything is written.
"""

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any
from unittest import mock

import numpy as np

from hybridhash_jax.retrieval import outputs
from input_pipeline.atomic_file import write_atomically
from input_pipeline.commands import local_path, make_parser, run_command

_EXAMPLES = """\
  python -m hybridhash_jax.tools.to_onnx --workdir=runs/photos --out=photos.onnx
  python -m hybridhash_jax.tools.to_onnx --index=pictures.idx --out=pictures.onnx
"""
_INSTALL = (
    "ONNX is written in an environment of its own: python -m venv onnx-env && onnx-env/bin/pip "
    "install -r requirements-onnx.txt, then run this with onnx-env/bin/python"
)
_OPSET = 21
_BATCH = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = make_parser("hybridhash_jax.tools.to_onnx", __doc__, _EXAMPLES)
    add = parser.add_argument
    add(
        "--workdir",
        type=local_path,
        metavar="RUN",
        help="a trained run; with --index, where it is now",
    )
    add("--index", type=local_path, metavar="INDEX", help="an index, whose encoder is taken")
    add("--checkpoint", metavar="WHICH", help="of a run: selected (default), latest, or a step")
    add("--out", type=local_path, required=True, metavar="FILE", help="the .onnx file")
    options = parser.parse_args(arguments)
    if not (options.workdir or options.index):
        parser.error("nothing to write; give --workdir=RUN or --index=INDEX")
    if options.out.suffix.lower() == ".stablehlo":
        parser.error(
            f"--out={options.out} would be ONNX; `hybridhash export-model` writes StableHLO"
        )
    outputs.check_outputs(parser, out=str(options.out))
    return run_command(lambda: _write(options), "nothing was written")


def _write(options: argparse.Namespace) -> str:
    try:
        for name in ("jax2onnx", "onnxruntime"):
            importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed. {_INSTALL}") from None
    from hybridhash_jax.retrieval.model_file.check import compare
    from hybridhash_jax.retrieval.model_file.writing import Request, choose

    request = Request(options.workdir, options.index, options.checkpoint)
    chosen = choose(request, lambda line: print(line, file=sys.stderr))
    data = _onnx_of(chosen.program, chosen.facts)
    codes = _run(data, chosen.sample.crops)
    found = compare(chosen.encoder, codes, chosen.facts.dtype, chosen.sample)
    write_atomically(options.out, data)
    return f"{options.out}: {len(data) / 1e6:.1f} MB\ncompared with the encoder: {found}"


def _onnx_of(program: Any, facts: Any) -> bytes:
    """The ONNX model: `crops` uint8 [b, S, S, 3] -> `codes` uint8 [b, ceil(bits / 8)]."""
    import jax
    import jax.numpy as jnp
    from jax import export

    from hybridhash_jax.retrieval.model_file.program import make_encode

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # of types that it goes on without
    (batch,) = export.symbolic_shape("b")
    crops = jax.ShapeDtypeStruct((batch, facts.size, facts.size, 3), jnp.uint8)
    encode = _traced(make_encode(program, lambda x: x.astype(jnp.float16).astype(x.dtype)), crops)
    model = importlib.import_module("jax2onnx").to_onnx(
        encode, inputs=[crops], model_name="encoder", opset=_OPSET,
        input_names=["crops"], output_names=["codes"],
    )  # fmt: skip
    entry = model.metadata_props.add()
    entry.key, entry.value = "hybridhash", json.dumps(asdict(facts), sort_keys=True)
    return model.SerializeToString()


def _traced(encode: Callable[..., Any], crops: Any) -> Callable[..., Any]:
    """The function as primitives, as it is for no platform in particular.

    jax2onnx would trace it with functions of its own in place of JAX's, whose types differ. It does
    not know `platform_dependent`, nor padding of batches of any size.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax
    from jax.extend.core import jaxpr_as_fun

    def default_only(*args: Any, default: Callable[..., Any], **_: Any) -> Any:
        return default(*args)

    def pad(x: Any, widths: Any, constant_values: float = 0.0) -> Any:
        for axis, width in enumerate(widths):
            shapes = [(*x.shape[:axis], side, *x.shape[axis + 1 :]) for side in width]
            before, after = (jnp.full(shape, constant_values, x.dtype) for shape in shapes)
            x = jnp.concatenate([before, x, after], axis) if any(width) else x
        return x

    with (
        mock.patch.object(lax, "platform_dependent", default_only),
        mock.patch.object(jnp, "pad", pad),
    ):
        function = jaxpr_as_fun(jax.make_jaxpr(encode)(crops))
    return lambda crops: function(crops)[0]


def _run(data: bytes, crops: np.ndarray) -> np.ndarray:
    """Codes by onnxruntime, on CPU."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    batches = (crops[i : i + _BATCH] for i in range(0, len(crops), _BATCH))
    return np.concatenate([session.run(["codes"], {"crops": batch})[0] for batch in batches])


if __name__ == "__main__":
    sys.exit(main())

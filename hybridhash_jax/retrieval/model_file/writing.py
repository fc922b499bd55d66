"""`hybridhash export-model`: from a run or an index to one file and its model card."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from hybridhash_jax.retrieval import index as index_room
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.making import keep_programs
from hybridhash_jax.retrieval.encoding.network import Program
from hybridhash_jax.retrieval.encoding.trained import trained_parts
from hybridhash_jax.retrieval.model_file.card import card
from hybridhash_jax.retrieval.model_file.check import Difference, compare
from hybridhash_jax.retrieval.model_file.errors import ModelFileError
from hybridhash_jax.retrieval.model_file.facts import Facts
from hybridhash_jax.retrieval.model_file.program import export_program
from hybridhash_jax.retrieval.model_file.reader import ModelFile
from hybridhash_jax.retrieval.model_file.records import record_of
from hybridhash_jax.retrieval.model_file.samples import Sample, sample_of_index, sample_of_run
from hybridhash_jax.retrieval.names import shown
from input_pipeline.atomic_file import write_atomically

Tell = Callable[[str], object]


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be exported: the encoder of a run, or of an index."""

    workdir: Path | None = None
    index: Path | None = None
    checkpoint: str | None = None
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The encoder, its program in the type that was asked for, and images to compare on."""

    encoder: Encoder
    program: Program
    facts: Facts
    sample: Sample


def export_model(request: Request, out: Path, tell: Tell) -> str:
    """Writes the file and its card; returns what to print.

    Raises:
      EncoderError, IndexFileError: there is no such encoder.
      ModelFileError: its codes differ from the encoder's in more than rounding.
      DataError: it cannot be written.
    """
    chosen = choose(request, tell)
    data = export_program(chosen.program, chosen.facts)
    codes = ModelFile(data).of_crops(chosen.sample.crops)
    found = compare(chosen.encoder, codes, chosen.facts.dtype, chosen.sample)
    model = chosen.encoder.model
    text = card(out.name, chosen.facts, model, record_of(model), found)
    write_atomically(out, data)
    write_atomically(card_path(out), text.encode("utf-8", "surrogateescape"))
    return _summary(out, len(data), found)


def card_path(out: Path) -> Path:
    """Where the card of a file is."""
    return out.with_name(f"{out.name}.md")


def choose(request: Request, tell: Tell) -> Chosen:
    """Builds the encoder that is asked for, and takes `samples.COUNT` images for it."""
    keep_programs(request.workdir)
    if request.index is not None:
        with index_room.open_index(request.index) as index:
            encoder = Encoder.from_index(index, request.workdir)
            sample = sample_of_index(index, encoder.transform)
    else:
        assert request.workdir is not None
        encoder = Encoder.from_workdir(request.workdir, request.checkpoint or "selected")
        sample = sample_of_run(request.workdir, encoder.transform)
    tell(f"exporting {encoder.model.name}, {encoder.model.bits} bits")
    for note in encoder.notes:
        tell(note)
    return Chosen(encoder, _program(encoder, request.dtype), _facts(encoder, request.dtype), sample)


def _program(encoder: Encoder, dtype: str) -> Program:
    model = encoder.model
    if dtype == model.dtype:
        return encoder.program
    if model.source["kind"] != "workdir":
        raise ModelFileError(
            f"{model.name} computes in {model.dtype} only; leave --dtype={dtype} out"
        )
    return trained_parts(
        Path(model.source["workdir"]), str(model.source["checkpoint"]), dtype
    ).program


def _facts(encoder: Encoder, dtype: str) -> Facts:
    transform, options = encoder.transform, encoder.transform.options
    return Facts(
        bits=encoder.model.bits,
        size=transform.size,
        resize=transform.resize,
        upright=options.apply_orientation,
        fingerprint=encoder.model.fingerprint,
        dtype=dtype,
        max_pixels=options.max_pixels,
        allow_truncated=options.allow_truncated,
    )


def _summary(out: Path, size: int, found: Difference) -> str:
    return (
        f"{shown(out)}: {size / 1e6:.1f} MB, for cpu, cuda and tpu; card: {shown(card_path(out))}\n"
        f"compared with the encoder: {found}"
    )

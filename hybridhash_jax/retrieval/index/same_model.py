"""Codes of two models never mix; those of another backend may differ in some bits."""

from hybridhash_jax.retrieval.index.errors import IndexFileError
from hybridhash_jax.retrieval.index.records import Model


def check_same_model(
    first: Model, second: Model, first_place: str, second_place: str
) -> str | None:
    """Returns a warning where backend or precision differ.

    Args:
      first: one model.
      second: the other one.
      first_place: where the first is, such as "pictures.idx", for the message.
      second_place: likewise.

    Raises:
      IndexFileError: the models differ; the message names both.
    """
    if (first.fingerprint, first.bits) != (second.fingerprint, second.bits):
        raise IndexFileError(
            f"codes of two models are never mixed: {first_place} has those of {_told(first)}, "
            f"{second_place} of {_told(second)}. Use one model for both, or encode the images of "
            "one again into a new index"
        )
    ways = [f"{model.dtype} on {model.backend}" for model in (first, second)]
    if ways[0] == ways[1]:
        return None
    return (
        f"{first_place} was encoded in {ways[0]}, {second_place} in {ways[1]}: some bits of the "
        "same image may differ"
    )


def _told(model: Model) -> str:
    return f"{model.name} ({model.bits} bits, fingerprint {model.fingerprint[:12]})"

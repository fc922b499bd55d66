"""Compares an exported encoder with the encoder it was made from."""

import dataclasses

import numpy as np

from hybridhash_jax.retrieval.encoding.encoder import Encoder, in_batches
from hybridhash_jax.retrieval.model_file.errors import ModelFileError
from hybridhash_jax.retrieval.model_file.samples import Sample

# Shares of bits that rounding may turn, of values next to zero.
_FLOAT32, _LESS = 1e-3, 0.03


@dataclasses.dataclass(frozen=True)
class Difference:
    """Codes of the same crops, by the encoder and by another program.

    Attributes:
      bits: that were compared. differing: of them.
      images: of the sample. codes: how many of theirs differ.
      of: which images.
    """

    bits: int
    differing: int
    images: int
    codes: int
    of: str

    def __str__(self) -> str:
        return (
            f"{self.differing:,} of {self.bits:,} bits differ, in the codes of {self.codes:,} of "
            f"{self.images:,} images ({self.of})"
        )


def codes_of_crops(encoder: Encoder, crops: np.ndarray) -> np.ndarray:
    """The encoder's packed codes of crops.

    Raises:
      ModelFileError: the network gives NaN.
    """
    parts = []
    for batch in in_batches(crops, encoder.batch_size):
        packed, is_nan = encoder.fetch(encoder.start(np.stack(batch)), len(batch))
        if is_nan.any():
            raise ModelFileError(
                f"the network's output is NaN for {int(is_nan.sum())} of {len(batch)} images, which "
                "has no sign: look for a diverged training run, or name another --checkpoint"
            )
        parts.append(packed)
    return np.concatenate(parts)


def compare(encoder: Encoder, codes: np.ndarray, dtype: str, sample: Sample) -> Difference:
    """How the packed `codes` of a sample, computed in `dtype`, differ from the encoder's.

    Raises:
      ModelFileError: in more bits than rounding explains.
    """
    turned = np.bitwise_count(codes_of_crops(encoder, sample.crops) ^ codes).sum(axis=1)
    bits = len(codes) * encoder.model.bits
    found = Difference(bits, int(turned.sum()), len(codes), int((turned > 0).sum()), sample.of)
    both_float32 = dtype == encoder.model.dtype == "float32"
    most = max(1, round(bits * (_FLOAT32 if both_float32 else _LESS)))
    if found.differing > most:
        raise ModelFileError(
            f"nothing was written, for the codes are not the encoder's: {found}, and rounding "
            f"explains {most:,}. This is an error of the export, or of this version of JAX; please "
            "report it"
        )
    return found

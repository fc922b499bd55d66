"""What an exported encoder says of itself beside its program: how images become its input."""

import dataclasses
import json
from typing import Self

from hybridhash_jax.retrieval.model_file.errors import ModelFileError
from input_pipeline.images.decode import DecodeOptions
from input_pipeline.images.transforms import ImageTransform

_START = "hybridhash "


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of one encoder.

    Attributes:
      bits: of a code; the last byte is filled up with zeros.
      size: side of a crop in pixels, which the program takes.
      resize: what an image's shorter side is brought to before the crop.
      upright: images are turned as their EXIF orientation says.
      fingerprint: of the encoder, as in indexes; only codes of one fingerprint are comparable.
      dtype: of the computation.
      max_pixels: larger images are refused.
      allow_truncated: JPEGs whose data end early are taken.
    """

    bits: int
    size: int
    resize: int
    upright: bool
    fingerprint: str
    dtype: str
    max_pixels: int
    allow_truncated: bool

    @property
    def transform(self) -> ImageTransform:
        """From an image file to a crop."""
        options = DecodeOptions(self.allow_truncated, self.max_pixels, self.upright)
        return ImageTransform(size=self.size, resize=self.resize, options=options)

    def to_name(self) -> str:
        """A line of text, kept as the name of the program's function."""
        return _START + json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_name(cls, name: str) -> Self:
        """What `to_name` gave.

        Raises:
          ModelFileError: it is another program's.
        """
        try:
            if name.startswith(_START):
                return cls(**json.loads(name.removeprefix(_START)))
        except (ValueError, TypeError):
            pass
        raise ModelFileError(
            "it is an exported program, but not one that hybridhash export-model of this version "
            "wrote; export the encoder again"
        )

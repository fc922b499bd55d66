"""What an index says of its codes: the model that made them, and the image of each."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Model:
    """What made the codes of an index; only codes of one fingerprint are ever compared.

    Attributes:
      fingerprint: hex, of parameters, network and preprocessing.
      bits: of a code.
      name: for people, such as "checkpoint 120 of runs/photos".
      dtype: of the computation, such as "float32".
      backend: JAX's name of the platform, such as "cpu".
      source: JSON, from which the encoder is made again.
    """

    fingerprint: str
    bits: int
    name: str
    dtype: str
    backend: str
    source: Mapping[str, Any]

    @property
    def allows_small_batches(self) -> bool:
        """Has an image nearly always the same code in a batch of any size?"""
        return (self.backend, self.dtype) == ("cpu", "float32")


@dataclasses.dataclass(frozen=True)
class Entry:
    """The image file of one code.

    Attributes:
      path: relative to the index's root, with /, as the file system spells it (`os.fsencode`).
      size: in bytes.
      modified_ns: when it was changed, nanoseconds.
      width: in pixels.
      height: in pixels.
      label: what `--where label=` compares; empty for none.
    """

    path: bytes
    size: int
    modified_ns: int
    width: int
    height: int
    label: str = ""

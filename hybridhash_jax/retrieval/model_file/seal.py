"""A checksum behind an exported program, which readers of the program alone pass over."""

import hashlib

from hybridhash_jax.retrieval.model_file.errors import ModelFileError

_MAGIC = b"hybridhash sha256"


def sealed(program: bytes) -> bytes:
    """The program with its SHA-256 behind it. flatbuffers does not look behind what it reads."""
    return program + _MAGIC + hashlib.sha256(program).digest()


def check_seal(data: bytes) -> None:
    """Looks whether a file is as it was written; older files have no checksum and pass.

    Raises:
      ModelFileError: it has changed since.
    """
    end = data.rfind(_MAGIC)
    if end >= 0 and data[end + len(_MAGIC) :] != hashlib.sha256(memoryview(data)[:end]).digest():
        raise ModelFileError("it is damaged; copy or export it again")

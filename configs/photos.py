"""A folder of your own photographs, one subfolder a class: good codes on a CPU in minutes.

The features of EfficientNet-Lite0 at 224 pixels are computed once, and a head is trained on them.
The splits are drawn from the seed, as in configs/folder.py.

Command:  pip install -r requirements-photos.txt
          python main.py --config=configs/photos.py --workdir=runs/photos \\
            --config.data.dir=PHOTOGRAPHS
"""

from configs import folder, recipes


def get_config():
    """See the module's docstring."""
    config = folder.get_config()
    config.bits = (64,)
    config.data.horizontal_flip = False
    recipes.on_frozen_features(config)
    config.features.keep = "always"
    config.batch_size = 64
    return config

"""A folder of your own photographs, one subfolder a class: good codes on a CPU in minutes.

The features of EfficientNet-Lite0 at 224 pixels are computed once, and a head is trained on them.
The splits are drawn from the seed, as in configs/folder.py.

Command:  pip install -r requirements-photos.txt
          python main.py --config=configs/photos.py --workdir=runs/photos \\
            --config.data.dir=PHOTOGRAPHS
Several labels an image, in list files as those of configs/lists.py:
          --config.data.name=lists --config.data.protocol=lists --config.data.lists=LISTS
The whole network, which takes longer and wants some hundred images a class:
          --config.optimizer.frozen="()" --config.init.weights=runs/photos
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    config = recipes.list_set("folder")
    config.bits = (64,)
    config.data.horizontal_flip = False
    recipes.on_frozen_features(config)
    config.features.keep = "always"
    config.batch_size = 64
    return config

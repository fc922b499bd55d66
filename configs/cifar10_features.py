"""CIFAR-10 on the frozen features of EfficientNet-Lite0 at 128 pixels: good codes on a CPU.

Protocol: cifar10 (1,000 queries, 5,000 training images, the database the other 54,000), mAP over
all. The features of 60,000 images are computed once; after that a head takes seconds.

Command:  pip install -r requirements-photos.txt
          python main.py --config=configs/cifar10_features.py --workdir=runs/cifar10_features
Other lengths or protocols on the same features:
          --config.bits=16,32,48,64 --config.data.protocol=cifar10-1
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.protocol = "cifar10"
    config.model.image_size = 128
    recipes.on_frozen_features(config)
    return config

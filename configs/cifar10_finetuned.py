"""CIFAR-10 by fine-tuning EfficientNet-Lite0 at 128 pixels: the best codes that a CPU reaches.

Protocol: cifar10 (1,000 queries, 5,000 training images, the database the other 54,000), mAP over
all, of the last evaluation.

Command:  pip install -r requirements-photos.txt
          python main.py --config=configs/cifar10_finetuned.py --workdir=runs/cifar10_finetuned
"""

from configs import cifar10_features, recipes


def get_config():
    """See the module's docstring."""
    config = cifar10_features.get_config()
    config.bits = (32,)
    recipes.fine_tuned(config)
    config.data.crop_padding = 4
    return config

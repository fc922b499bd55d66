"""HybridHash on CIFAR-10 with the published recipe, at 224 px; protocols are in docs/data.md.

Command:  python main.py --config=configs/cifar10.py --workdir=runs/cifar10
For an accelerator. 5,000 images are too few for 55 million random parameters: give the authors'
checkpoint (--config.init.weights=FILE), as the paper does, or use configs/cifar10_32px.py.
"""

from configs import default


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.protocol = "cifar10-1"
    config.model.variant = "paper"
    return config

"""A 32-pixel HybridHash on CIFAR-10 (protocol cifar10-2), from random parameters, on any machine.

Command:  python main.py --config=configs/cifar10_32px.py --workdir=runs/cifar10_32px
A larger network, for an accelerator: configs/cifar10_small_32px.py
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.bits = (32,)
    config.batch_size = 128
    config.num_epochs = 30
    config.data.name = "cifar10"
    config.data.protocol = "cifar10-2"
    config.data.horizontal_flip = True
    config.data.crop_padding = 4
    config.model.variant = "tiny_32px"
    recipes.train_from_scratch(config)
    config.optimizer.learning_rate = 1e-3
    return config

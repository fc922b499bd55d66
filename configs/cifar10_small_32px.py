"""A larger 32-pixel HybridHash on CIFAR-10 (protocol cifar10-2), for an accelerator.

15 million parameters, from random ones or from a start on Tiny-ImageNet. At the rate of
configs/cifar10_32px.py this network collapses. At this one it began to learn with patches of 2 and
batches of 64; with the settings of this file nothing was tried yet (docs/speed.md, "On a GPU").

Command:  python main.py --config=configs/cifar10_small_32px.py --workdir=runs/cifar10_small_32px
From a start by configs/pretrain_tiny_imagenet32.py: --config.init.weights=runs/pretrained32
"""

from configs import cifar10_32px


def get_config():
    """See the module's docstring."""
    config = cifar10_32px.get_config()
    config.batch_size = 512
    config.model.variant = "small_32px"
    config.optimizer.learning_rate = 3e-4
    return config

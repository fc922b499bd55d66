"""A 32-pixel HybridHash on Fashion-MNIST from random parameters, on any machine.

Protocol: official (the 60,000 training images are trained on and searched, the 10,000 test images
are the queries), mAP over all. 31 MB are downloaded, unless they are there.

Command:  python main.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
A sixth of the training images, for quick comparisons: --config.data.protocol=official-10k
The digits of MNIST: --config.data.name=mnist --config.data.horizontal_flip=False
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.bits = (32,)
    config.batch_size = 128
    config.num_epochs = 30
    config.data.name = "fashion_mnist"
    config.data.protocol = "official"
    config.data.horizontal_flip = True
    config.data.crop_padding = 2
    config.model.variant = "tiny_32px"
    recipes.train_from_scratch(config)
    config.optimizer.learning_rate = 1e-3
    return config

"""A 32-pixel HybridHash on Fashion-MNIST from random parameters, on any machine.

Protocol: official (the 60,000 training images are trained on and searched, the 10,000 test images
are the queries), mAP over all. 31 MB are downloaded, unless the files are there. Patches of 2 pixels
are a quarter of the variant's tokens, and of the time: 86 minutes of one core. Measured: 0.903.

Command:  python main.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
A sixth of the training images, for quick comparisons: --config.data.protocol=official-10k
The digits of MNIST: --config.data.name=mnist --config.data.horizontal_flip=False
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.bits = (32,)
    config.batch_size = 32  # many steps count more than many images in each
    config.num_epochs = 18
    config.data.name = "fashion_mnist"
    config.data.protocol = "official"
    config.data.horizontal_flip = True
    config.data.crop_padding = 2
    config.model.variant = "tiny_32px"
    config.model.patch_size = 2
    recipes.train_from_scratch(config)
    config.loss.pairs = "bank"
    config.optimizer.learning_rate = 7e-4
    config.optimizer.warmup_epochs = 0.5
    config.evaluation.before_training = False
    config.evaluation.every_epochs = 6  # of 70,000 images
    return config

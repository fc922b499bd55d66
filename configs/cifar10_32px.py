"""A 32-pixel HybridHash on CIFAR-10, from random parameters, on any machine.

Protocol: cifar10-2 (50,000 training images, which are also the database; 10,000 queries).
Command:  python main.py --config=configs/cifar10_32px.py --workdir=runs/cifar10_32px
A larger network, for an accelerator: --config.model.variant=small_32px
"""

from configs import default


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
    config.loss.pairs = "batch"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "warmup_cosine"
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.weight_decay = 0.05
    config.optimizer.weight_decay_exclude = ("bias$", "scale$", "position_embedding$")
    config.optimizer.clip_norm = 1.0
    config.evaluation.every_epochs = 5
    config.evaluation.before_training = True
    config.evaluation.batch_size = 256
    return config

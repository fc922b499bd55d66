"""The demo: 1,797 handwritten digits that scikit-learn ships; nothing is downloaded.

Protocol: digits (20 queries, 100 training images a class; the rest is the database), mAP over all.
Cut to end in about a minute on two cores: images of 16 pixels in 64 patches, where the paper has 224
pixels in 3,136; four layers of 19 and 0.55 of 56 million parameters.
Command:  make demo
     or:  python main.py --config=configs/digits.py --workdir=runs/digits
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.bits = (32,)
    config.batch_size = 64
    config.num_epochs = 30
    config.data.name = "digits"
    config.data.protocol = "digits"
    config.model.variant = "demo_16px"
    recipes.train_from_scratch(config)
    config.loss.pairs = "bank"
    config.optimizer.learning_rate = 2e-3
    config.checkpoint.every_epochs = 5.0
    return config

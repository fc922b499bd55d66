"""The demo: 1,797 handwritten digits that scikit-learn ships; nothing is downloaded.

Protocol: digits (20 queries, 100 training images a class; the rest is the database), mAP over all.
Command:  make demo
     or:  python main.py --config=configs/digits.py --workdir=runs/digits
"""

from configs import default


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.bits = (32,)
    config.batch_size = 64
    config.num_epochs = 30
    config.data.name = "digits"
    config.data.protocol = "digits"
    config.model.variant = "demo_16px"
    config.loss.pairs = "batch"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "warmup_cosine"
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.weight_decay = 0.05
    config.optimizer.weight_decay_exclude = ("bias$", "scale$", "position_embedding$")
    config.optimizer.clip_norm = 1.0
    config.evaluation.every_epochs = 5
    config.evaluation.before_training = True
    config.evaluation.batch_size = 256
    config.checkpoint.every_epochs = 5.0
    return config

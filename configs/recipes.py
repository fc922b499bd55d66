"""What several configurations have in common."""

from typing import Any

from configs import default


def list_set(name: str) -> Any:
    """The published recipe on image files with three lists: resize 256, flip, crop 224."""
    config = default.get_config()
    config.data.name = name
    config.data.protocol = name
    config.data.source = "files"
    config.data.horizontal_flip = True
    config.data.resize = 256
    return config


def train_from_scratch(config: Any) -> None:
    """Optimizer, loss and evaluations with which small networks learn from random parameters."""
    config.loss.pairs = "batch"
    config.loss.alpha = "6.4/bits"  # docs/ablations.md
    config.optimizer.name = "adamw"
    config.optimizer.schedule = "warmup_cosine"
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.weight_decay = 0.05
    config.optimizer.weight_decay_exclude = ("bias$", "scale$", "position_embedding$")
    config.optimizer.clip_norm = 1.0
    config.evaluation.every_epochs = 5
    config.evaluation.before_training = True
    config.evaluation.batch_size = 256


def pretrain_from_scratch(config: Any) -> None:
    """Supervised pre-training of NesT from random parameters (arXiv 2105.12723, section 4)."""
    config.task = "classify"
    config.data.horizontal_flip = True
    config.optimizer.name = "adamw"
    config.optimizer.schedule = "warmup_cosine"
    config.optimizer.weight_decay = 0.05
    config.optimizer.weight_decay_exclude = ("bias$", "scale$", "position_embedding$")
    config.optimizer.clip_norm = 1.0
    config.evaluation.selected_by = "validation"
    config.evaluation.batch_size = 256


_LITE = "^(stem|blocks|conv_head)/"  # the backbone's parameters


def on_frozen_features(config: Any) -> None:
    """A hidden head on the frozen features of EfficientNet-Lite0, by the pairs inside a batch."""
    config.model.variant = "efficientnet_lite0"
    config.init.weights = "efficientnet_lite0"
    config.optimizer.frozen = (_LITE,)
    head_on_features(config)


def fine_tuned(config: Any) -> None:
    """All of EfficientNet-Lite0, the backbone slower than the head; running statistics stay."""
    on_frozen_features(config)
    config.method.recipe = None
    config.optimizer.frozen = ()
    config.batch_size = 64
    config.num_epochs = 12
    config.model.drop_path_rate = 0.1
    config.data.horizontal_flip = True
    config.optimizer.learning_rate = 1e-3
    config.optimizer.learning_rate_factors = (f"{_LITE}=0.2",)
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.clip_norm = 1.0
    config.evaluation.every_epochs = 6
    config.checkpoint.every_epochs = 1.0


def head_on_features(config: Any) -> None:
    """The head and its training, whatever the features come from."""
    config.batch_size = 256
    config.num_epochs = 20
    config.model.head_kind = "hidden"
    config.loss.pairs = "batch"
    config.loss.alpha = "6.4/bits"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3  # of methods whose recipe for features has no other
    config.method.recipe = "features"
    config.optimizer.schedule = "warmup_cosine"
    config.optimizer.weight_decay = 1e-4
    config.evaluation.every_epochs = 20
    config.evaluation.selected_by = "last"
    config.evaluation.batch_size = 128
    config.checkpoint.every_epochs = 20.0


def compared(config: Any) -> None:
    """For --mode=compare: three lengths, and of each run its numbers, without pictures."""
    config.bits = (16, 32, 64)
    config.evaluation.report = False
    config.evaluation.batch_size = 1024
    config.checkpoint.keep_latest = 1

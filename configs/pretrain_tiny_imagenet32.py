"""Pre-training of the 32-pixel network on Tiny-ImageNet at 32 pixels: 200 classes.

Data:     100,000 training and 10,000 validation images in four files of one folder,
          train_images.npy and val_images.npy (uint8 [N, 32, 32, 3]), train_labels.npy and
          val_labels.npy (classes from 0).
Command:  python main.py --config=configs/pretrain_tiny_imagenet32.py --workdir=runs/pretrained32 \\
            --config.data.dir=FOLDER
Hashing starts from it:
          python main.py --config=configs/cifar10_small_32px.py \\
            --workdir=runs/cifar10_small_32px --config.init.weights=runs/pretrained32
Without an accelerator: --config.model.variant=tiny_32px, and hashing by configs/cifar10_32px.py.
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    recipes.pretrain_from_scratch(config)
    config.batch_size = 256
    config.num_epochs = 100
    config.log_every_steps = 100
    config.data.name = "tiny_imagenet32"
    config.data.protocol = "tiny_imagenet32"
    config.data.source = "arrays"
    config.data.crop_padding = 4
    config.model.variant = "small_32px"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_epochs = 5.0
    config.pretraining.ema_decay = 0.9995
    config.evaluation.every_epochs = 5
    config.checkpoint.every_epochs = 5.0
    return config

"""Pre-training of NesT on ImageNet-1k, or on any images in class folders, at 224 pixels.

Data:     a folder with train and val, each with a subfolder a class, or one folder of classes, of
          which --config.data.query_per_class are held out; packed ones: docs/data.md.
Command:  python main.py --config=configs/pretrain_imagenet.py --workdir=runs/pretrained \\
            --config.data.dir=FOLDER
Weights that are there already are measured on val, which is then enough: --mode=evaluate, see
docs/metrics.md.
Hashing starts from it with --config.init.weights=runs/pretrained and a variant of the same widths,
such as nest_tiny; "paper" takes the first 15 of nest_base's 20 last layers. For accelerators: the
paper's recipe (arXiv 2105.12723), 300 epochs, 2.5e-4 for every 256 images of a batch.
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    recipes.pretrain_from_scratch(config)
    config.batch_size = 1024
    config.num_epochs = 300
    config.log_every_steps = 100
    config.data.name = "class_folders"
    config.data.protocol = "class_folders"
    config.data.source = "files"
    config.data.query_per_class = 50
    config.data.resize = 256
    config.data.random_area = (0.08, 1.0)
    config.model.variant = "nest_tiny"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_epochs = 20.0
    config.pretraining.ema_decay = 0.9999
    config.evaluation.every_epochs = 10
    config.checkpoint.every_epochs = 1.0
    return config

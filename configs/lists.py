"""Your own images and three list files: train.txt, test.txt (the queries) and database.txt.

Their format is in docs/data.md, as is how to check them.

Command:  python main.py --config=configs/lists.py --workdir=runs/lists \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
A small network at 32 pixels from random parameters, for any machine. With an accelerator:
--config.model.variant=nest_tiny --config.data.resize=256 (it crops its 224 pixels out of that).
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    config = recipes.list_set("lists")
    recipes.train_from_scratch(config)
    config.bits = (32,)
    config.num_epochs = 30
    config.model.variant = "tiny_32px"
    config.data.resize = 36
    config.optimizer.learning_rate = 1e-3
    return config

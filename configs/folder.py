"""A folder of your own photographs, one subfolder a class; no lists needed.

The splits are drawn from the seed (--config.data.split_seed): a tenth of each class are queries,
half of it are training images, the rest is the database.

Command:  python main.py --config=configs/folder.py --workdir=runs/folder \\
            --config.data.dir=PHOTOGRAPHS
Sizes of your own: --config.data.query_per_class=20 --config.data.train_per_class=100
Another database: --config.data.database=train_and_rest or train.
"""

from configs import lists


def get_config():
    """See the module's docstring."""
    config = lists.get_config()
    config.data.name = "folder"
    config.data.protocol = "folder"
    return config

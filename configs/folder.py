"""A folder of your own photographs, one subfolder a class; no lists needed. See docs/data.md.

Command:  python main.py --config=configs/folder.py --workdir=runs/folder \\
            --config.data.dir=PHOTOGRAPHS \\
            --config.data.query_per_class=20 --config.data.train_per_class=100
"""

from configs import lists


def get_config():
    """See the module's docstring."""
    config = lists.get_config()
    config.data.name = "folder"
    config.data.protocol = "folder"
    config.data.query_per_class = 20
    config.data.train_per_class = 100
    return config

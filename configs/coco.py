"""HybridHash on MS COCO 2014, 80 categories; more in docs/data.md.

Lists:    train.txt, test.txt, database.txt with no query in the database (HashNet's has)
Command:  python main.py --config=configs/coco.py --workdir=runs/coco \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("coco")

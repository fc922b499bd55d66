"""HybridHash on NUS-WIDE, 21 concepts, HashNet's copy of 223,496 images; more in docs/data.md.

Lists:    train.txt, test.txt, database.txt as published with HashNet
Command:  python main.py --config=configs/nuswide_21_m.py --workdir=runs/nuswide_21_m \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("nuswide_21_m")

"""HybridHash on NUS-WIDE, all 81 concepts: the paper's split; more in docs/data.md.

Lists:    train.txt, test.txt, database.txt as published with HashNet
Command:  python main.py --config=configs/nuswide_81_m.py --workdir=runs/nuswide_81_m \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("nuswide_81_m")

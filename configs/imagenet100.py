"""HybridHash on 100 classes of ImageNet (queries: ILSVRC's validation images); see docs/data.md.

Lists:    train.txt, test.txt, database.txt as published with HashNet
Command:  python main.py --config=configs/imagenet100.py --workdir=runs/imagenet100 \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("imagenet100")

"""HybridHash on PASCAL VOC 2012, 20 classes; more in docs/data.md.

Lists:    python -m input_pipeline.make_splits voc2012 --raw=VOCdevkit --out=LISTS
Command:  python main.py --config=configs/voc2012.py --workdir=runs/voc2012 \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("voc2012")

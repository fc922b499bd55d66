"""HybridHash on PASCAL VOC 2012, 20 classes.

Protocol: 4,000 training, 1,000 query, 6,540 database images; training images are not in the
database; mAP over all.
Lists:    python -m input_pipeline.make_splits voc2012 --raw=VOCdevkit --out=LISTS
Check:    python -m input_pipeline.check --name=voc2012 --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/voc2012.py --workdir=runs/voc2012 \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("voc2012")

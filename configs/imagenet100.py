"""HybridHash on 100 classes of ImageNet, HashNet's lists.

Protocol: 13,000 training images (130 a class, also in the database), 5,000 query (ILSVRC's
validation images), 128,503 database images; mAP@1000. The authors' best of four evaluations on
the queries, from ImageNet weights: 0.8028, 0.8886, 0.9095, 0.9211 at 16, 32, 48, 64 bits.
Lists:    train.txt, test.txt, database.txt as published with HashNet
Check:    python -m input_pipeline.check --name=imagenet100 --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/imagenet100.py --workdir=runs/imagenet100 \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("imagenet100")

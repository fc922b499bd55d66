"""HybridHash on MS COCO 2014, 80 categories.

Protocol: 10,000 training, 5,000 query, 117,218 database images; mAP@5000. HashNet's own database
list contains its queries; such lists are refused.
Lists:    train.txt, test.txt, database.txt
Check:    python -m input_pipeline.check --name=coco --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/coco.py --workdir=runs/coco \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("coco")

"""HybridHash on NUS-WIDE, all 81 concepts: the split of the HybridHash paper.

Protocol: 10,000 training, 5,000 query, 168,692 database images of HashNet's copy (173,692 images
with a label); mAP@5000.
Lists:    train.txt, test.txt, database.txt as published with HashNet
Check:    python -m input_pipeline.check --name=nuswide_81_m --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/nuswide_81_m.py --workdir=runs/nuswide_81_m \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("nuswide_81_m")

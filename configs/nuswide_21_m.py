"""HybridHash on NUS-WIDE, 21 concepts, with HashNet's lists of its 223,496-image copy.

Protocol: 10,500 training, 2,100 query images, database as in the lists; mAP@5000.
Lists:    train.txt, test.txt, database.txt as published with HashNet
Check:    python -m input_pipeline.check --name=nuswide_21_m --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/nuswide_21_m.py --workdir=runs/nuswide_21_m \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("nuswide_21_m")

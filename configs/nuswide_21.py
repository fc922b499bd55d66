"""HybridHash on NUS-WIDE, the 21 commonest concepts, split by the seeded generator.

Protocol: 10,500 training, 2,100 query, 193,734 database images; training images are also in the
database; similar = a concept in common; mAP@5000.
Lists:    python -m input_pipeline.make_splits nuswide_21 --raw=NUS-WIDE --out=LISTS
Check:    python -m input_pipeline.check --name=nuswide_21 --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/nuswide_21.py --workdir=runs/nuswide_21 \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("nuswide_21")

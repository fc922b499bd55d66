"""HybridHash on NUS-WIDE, the 21 commonest concepts, drawn by the seed; more in docs/data.md.

Lists:    python -m input_pipeline.make_splits nuswide_21 --raw=NUS-WIDE --out=LISTS
Command:  python main.py --config=configs/nuswide_21.py --workdir=runs/nuswide_21 \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("nuswide_21")

"""HybridHash on MIRFlickr-25k, 38 annotations; more in docs/data.md.

Lists:    python -m input_pipeline.make_splits mirflickr --raw=MIRFLICKR --out=LISTS
Command:  python main.py --config=configs/mirflickr.py --workdir=runs/mirflickr \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("mirflickr")

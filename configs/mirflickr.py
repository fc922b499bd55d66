"""HybridHash on MIRFlickr-25k, 38 annotations.

Protocol: 4,000 training, 1,000 query, 20,000 database images; training images are not in the
database; mAP over all. Some images have no label and are similar to nothing.
Lists:    python -m input_pipeline.make_splits mirflickr --raw=MIRFLICKR --out=LISTS
Check:    python -m input_pipeline.check --name=mirflickr --dir=IMAGES --lists=LISTS
Command:  python main.py --config=configs/mirflickr.py --workdir=runs/mirflickr \\
            --config.data.dir=IMAGES --config.data.lists=LISTS
The paper starts from ImageNet weights of NesT-B: --config.init.weights=FILE. Hardware: an accelerator.
Expected: not measured here.
"""

from configs import recipes


def get_config():
    """See the module's docstring."""
    return recipes.list_set("mirflickr")

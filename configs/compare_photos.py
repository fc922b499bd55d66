"""All methods on a folder of your own photographs, one subfolder a class: one table.

Data and features: as configs/photos.py; the rest as configs/compare_cifar10.py.

Command:  pip install -r requirements-photos.txt
          python main.py --mode=compare --config=configs/compare_photos.py \\
            --workdir=runs/compared --config.data.dir=PHOTOGRAPHS
"""

from configs import photos, recipes


def get_config():
    """See the module's docstring."""
    config = photos.get_config()
    recipes.compared(config)
    return config

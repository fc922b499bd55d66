"""All methods on vectors that another model made of your images: one table.

Files and splits: as configs/embeddings.py; the rest as configs/compare_cifar10.py.

Command:  python main.py --mode=compare --config=configs/compare_embeddings.py \\
            --workdir=runs/compared --config.data.embeddings=VECTORS.npy \\
            --config.data.labels=LABELS.npy
"""

from configs import embeddings, recipes


def get_config():
    """See the module's docstring."""
    config = embeddings.get_config()
    recipes.compared(config)
    return config

"""Vectors that another model made of your images (CLIP, DINO, your own): .npy, .npz or Parquet.

What the files hold is in docs/embeddings.md. The splits are those of the file, or drawn from the
seed (--config.data.split_seed): a tenth are queries, half are training images, the rest is the
database.

Command:  python main.py --config=configs/embeddings.py --workdir=runs/embeddings \\
            --config.data.embeddings=VECTORS.npy --config.data.labels=LABELS.npy
Codes without training: --config.method.name=itq, or pca, or lsh.
Pictures in the report: --config.data.names=NAMES.txt --config.data.dir=IMAGES
"""

from configs import default, recipes


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.data.name = "embeddings"
    config.data.protocol = "embeddings"
    config.data.source = "vectors"
    config.model.variant = "embeddings"
    recipes.head_on_features(config)
    return config

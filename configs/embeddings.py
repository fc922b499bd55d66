"""Vectors that another model made of your images (CLIP, DINO, your own): .npy, .npz or Parquet.

What the files hold is in docs/embeddings.md. The splits are those of the file, or drawn from the
seed (--config.data.split_seed): a tenth are queries, half are training images, the rest is the
database.

Command:  python main.py --config=configs/embeddings.py --workdir=runs/embeddings \\
            --config.data.embeddings=VECTORS.npy --config.data.labels=LABELS.npy
Pictures in the report: --config.data.names=NAMES.txt --config.data.dir=IMAGES
"""

from configs import default


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.data.name = "embeddings"
    config.data.protocol = "embeddings"
    config.data.source = "vectors"
    return config

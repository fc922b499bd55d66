"""All methods on CIFAR-10, on the frozen features of EfficientNet-Lite0: one table.

Protocol, features and head: as configs/cifar10_features.py. 16, 32 and 64 bits, three seeds; the
learning rate of each method, and one option of its own, are chosen on held-out training images.

Command:  pip install -r requirements-photos.txt
          python main.py --mode=compare --config=configs/compare_cifar10.py --workdir=runs/compared
The same command in a second terminal shares the work. Some methods only, or another protocol:
          --config.comparison.methods=hybridhash,csq --config.data.protocol=cifar10-2
As the authors of each method trained it, where that is known:
          --config.method.recipe=published --config.comparison.trials=0
"""

from configs import cifar10_features, recipes


def get_config():
    """See the module's docstring."""
    config = cifar10_features.get_config()
    recipes.compared(config)
    return config

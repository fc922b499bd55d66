"""HybridHash on CIFAR-10 with the published recipe, at 224 px.

Protocol: cifar10-1 (5,000 training, 1,000 query, 59,000 database images), mAP over all.
Command:  python main.py --config=configs/cifar10.py --workdir=runs/cifar10
Other protocols: --config.data.protocol=cifar10 or cifar10-2.
The paper starts from ImageNet weights of NesT-B. Without them (this config as it is) the network
starts from random parameters, and 5,000 images are too few for 55 million of them: give the
authors' checkpoint with --config.init.weights=FILE, or use configs/cifar10_32px.py.
Hardware: an accelerator; on two CPU cores one step of 64 images takes minutes.
Expected: not measured here yet.
"""

from configs import default


def get_config():
    """See the module's docstring."""
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.protocol = "cifar10-1"
    config.model.variant = "paper"
    return config

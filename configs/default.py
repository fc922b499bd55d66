"""Every field of a run, once, with what it means. The data-set configs override a few of them.

Any field can be given on the command line: --config.optimizer.learning_rate=1e-4. A field written
placeholder(type) is None until something is given: what None means stands beside it.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder


def get_config() -> Any:
    """The published recipe's values where the paper has them."""
    config: Any = ConfigDict()
    config.task = "hash"  # or "classify": supervised pre-training of the backbone
    config.seed = 0  # initial parameters, order of the images, augmentation, stochastic depth
    config.bits = (64,)  # code lengths; several are trained one after another
    config.batch_size = 64  # over all devices and processes
    config.accumulation_steps = 1  # parts a batch is computed in: less memory, the same result
    config.num_epochs = 15
    config.log_every_steps = 20
    config.num_devices = placeholder(int)  # None: all

    # Devices as data x fsdp; a batch is split over all of them. Parameters and what the optimizer
    # keeps are split over fsdp, and there are `data` copies of them.
    config.mesh = ConfigDict()
    config.mesh.data = placeholder(int)  # None: the devices that fsdp leaves
    config.mesh.fsdp = 1  # 1: all parameters on every device

    config.model = ConfigDict()  # arguments of models.create_network
    config.model.variant = "paper"  # one of models.VARIANTS
    config.model.image_size = placeholder(int)  # this and the next six: None is the variant's
    config.model.patch_size = placeholder(int)
    config.model.embed_dims = placeholder(tuple)
    config.model.num_heads = placeholder(tuple)
    config.model.depths = placeholder(tuple)
    config.model.mlp_ratio = placeholder(float)
    config.model.drop_path_rate = placeholder(float)
    config.model.token_heads = 8
    config.model.token_layout = "spatial"  # or "reference": the released code's memory layout
    config.model.token_pooling = "block"  # or "half_block": four times the block tokens
    config.model.interaction = "full"  # or "none": NesT's aggregation
    config.model.pool_padding = "symmetric"  # or "same": as the published NesT weights
    config.model.gelu = "exact"  # or "tanh"
    # EfficientNet-Lite: statistics that batch norm uses in training. "frozen": running ones, which stay
    # as they are; or "batch": those of the batch, which running ones follow.
    config.model.batch_norm = "frozen"
    config.model.initializer = "fan_in"  # or "normal": 0.02, meant for fine-tuning
    # What the backward pass computes again instead of keeping it, with the same result: nothing,
    # the inside of every layer ("layers"), or all of that but its matrix products ("dots").
    config.model.remat = "none"
    # The head on the features: "linear", or "hidden" with one hidden layer, ReLU and dropout; None:
    # the method's own, which of a backbone without a map, such as EfficientNet-Lite, is linear.
    config.model.head_kind = placeholder(str)
    config.model.head_width = 512
    config.model.head_dropout = 0.0
    # bfloat16 on accelerators, float32 on CPU; or name one of them. On accelerators float32 is real
    # only with JAX_DEFAULT_MATMUL_PRECISION=highest: else products are TF32 or one bfloat16 pass.
    config.model.dtype = "auto"

    config.init = ConfigDict()
    # Weights to start from: timm's NesT or the authors' HybridHash (.pth, .safetensors), Google's
    # NesT (folder or .flax, also gs://), EfficientNet-Lite ("efficientnet_lite0", 1 and 2, from
    # requirements-photos.txt, or a file), or a workdir of this program. None: random.
    config.init.weights = placeholder(str)
    config.init.checkpoint = "selected"  # of a workdir; or "latest", or a step
    config.init.allow_missing = ()  # regular expressions on names that may stay unexplained

    config.data = ConfigDict()
    config.data.name = "cifar10"  # one of input_pipeline.datasets.SOURCES
    config.data.protocol = "cifar10-1"  # of input_pipeline.splits; image files: as data.name
    config.data.source = "archive"  # or "tfds": a CIFAR-10 that TFDS has prepared
    # For image files: "files", or "packed" by input_pipeline.pack.
    config.data.dir = placeholder(str)  # None: ~/.cache/hybridhash_jax/NAME
    config.data.download = True  # fetch what is missing
    config.data.split_seed = 0
    config.data.splits = "drawn"  # or "kept": those that the workdir kept when its run began
    config.data.horizontal_flip = False  # of training images
    config.data.crop_padding = 0  # images in memory: black border to crop from, before resizing

    # Name "embeddings": vectors of another model, .npy, .npz or Parquet (docs/embeddings.md). There,
    # data.dir is where names lead to image files.
    config.data.embeddings = placeholder(str)
    # Files beside it, one row an image; None: those in it.
    config.data.labels = placeholder(str)
    config.data.names = placeholder(str)
    config.data.split_file = placeholder(str)  # of train, query, database; none: drawn

    # Image files only.
    config.data.lists = placeholder(str)  # folder of the list files; None: data.dir
    config.data.train_list = "train.txt"
    config.data.query_list = "test.txt"
    config.data.database_list = "database.txt"
    config.data.query_per_class = placeholder(int)  # "folder", "embeddings"; None: a tenth of each
    config.data.train_per_class = placeholder(int)  # None: half of each class
    config.data.database = "rest"  # or "train_and_rest", "train"
    config.data.resize = 256  # shorter side; the network's image size is then cropped out
    config.data.random_area = placeholder(tuple)  # train on a random (from, to) share of the area
    config.data.num_workers = placeholder(int)  # decoding threads; 0: none; None: one a core
    config.data.on_unreadable = "error"  # or "skip": replace, or leave out of the metrics; report
    config.data.allow_truncated = False  # take a JPEG whose end is missing
    config.data.apply_orientation = False  # turn images as EXIF says; published codes do not
    config.data.max_pixels = 89_478_485  # refuse larger images before they are decoded

    # Where the first stages of the backbone are frozen (optimizer.frozen), or a method is fitted to
    # features (lsh, pca, itq), what they give is computed once, kept on disk, and trained on.
    config.features = ConfigDict()
    # "auto": unless training images change at random in a way that the views do not hold. "always":
    # also for image files, of which the centre is taken instead of random crops. Or "never".
    config.features.keep = "auto"
    config.features.views = placeholder(int)  # 1, 2 (mirrored too); None: 2 with horizontal_flip
    config.features.dir = placeholder(str)  # None: ~/.cache/hybridhash_jax/features
    config.features.budget_gb = 20.0  # of all that is kept there; the oldest is removed

    config.method = ConfigDict()
    config.method.name = "hybridhash"  # one of methods.METHODS; the options of each are a group
    # Fields of the method's own in place of those here, unless a flag gives them: "published", how
    # its authors trained it (optimizer, schedule, batch, epochs), "features", what it wants other
    # than what all methods share on frozen features. A run's config.json has them filled in.
    config.method.recipe = placeholder(str)

    config.loss = ConfigDict()  # method "hybridhash"
    config.loss.pairs = "bank"  # or "batch": the pairs inside a batch
    config.loss.unseen = "ignored"  # or "negative": bank rows not seen yet count as dissimilar
    # Scale of the inner products: a number, or one that falls with the code length: "6.4/bits".
    config.loss.alpha = FieldReference(0.5, field_type=object)
    # Weight of the batch's own pairs beside the bank; 0: the bank alone, as published. None: 1 from
    # random parameters, which the bank alone lets collapse (docs/bank.md); 0 from init.weights.
    config.loss.batch_weight = placeholder(float)

    # Methods of pairs and triplets, as published; what None means stands in each one's docstring.
    config.cnnh = ConfigDict()
    config.cnnh.variant = "paper"  # or "deephash": outputs that are not squashed
    config.cnnh.sweeps = 5  # of the coordinate descent that finds the codes
    config.cnnh.seed = 0  # of the numbers it starts from

    config.dnnh = ConfigDict()
    config.dnnh.margin = 1.0  # how much further a dissimilar image should be
    config.dnnh.threshold = 0.5  # sigmoids further from 1/2 become 0 and 1; 0.5: none

    config.dsh = ConfigDict()
    config.dsh.variant = "official"  # or "caffe", "weixu000", "deephash"
    config.dsh.quantization = placeholder(float)  # None: the variant's own weight
    config.dsh.margin = 2.0  # squared distance asked for, times the bits
    config.dsh.unseen = "ignored"  # "deephash": or "negative", bank rows not seen yet
    config.dsh.batch_weight = placeholder(float)  # "deephash": as loss.batch_weight

    config.dpsh = ConfigDict()
    config.dpsh.variant = "official"  # or "deephash"
    config.dpsh.quantization = placeholder(float)  # None: the variant's own weight
    config.dpsh.unseen = "ignored"  # or "negative": bank rows not seen yet
    config.dpsh.batch_weight = placeholder(float)  # as loss.batch_weight

    config.dtsh = ConfigDict()
    config.dtsh.variant = "deephash"  # or "official", triplets with a memory bank
    config.dtsh.margin = placeholder(float)  # None: 5; "official": half the bits
    config.dtsh.quantization = placeholder(float)  # None: the variant's own weight
    config.dtsh.samples = 500  # "official": rows of the bank that a batch meets
    config.dtsh.seed = 0  # of what is drawn from the bank

    config.hashnet = ConfigDict()
    config.hashnet.variant = (
        "paper"  # weights of pairs; or "official", "caffe", "updated", "deephash"
    )
    config.hashnet.alpha = FieldReference("10/bits", field_type=object)  # as loss.alpha
    config.hashnet.class_num = 1.0  # weight of similar pairs, "official" and "caffe"
    config.hashnet.beta_growth = 50.0  # beta, of tanh(beta z), rises from 1 to sqrt(1 + this)
    config.hashnet.beta_steps = placeholder(int)  # in so many steps; None: those of the run

    config.dch = ConfigDict()
    config.dch.variant = "paper"  # or "official", "official_cosine"
    config.dch.gamma = 20.0  # scale of the Cauchy distribution, in bits
    config.dch.quantization = placeholder(float)  # None: 0.1; official: 0

    config.csq = ConfigDict()  # method "csq"
    config.csq.quantization = 1e-4  # weight of what draws outputs to -1 and +1
    config.csq.centres = "spread"  # or "published": the list that its authors begin with

    config.mdshc = ConfigDict()  # method "mdshc", single labels only
    config.mdshc.pairs = 1.0  # weight of the pairs of a class
    config.mdshc.quantization = 1e-4  # weight of what draws outputs to -1 and +1
    config.mdshc.start_epoch = 9  # epochs before the pairs count

    config.dpn = ConfigDict()  # method "dpn"
    config.dpn.margin = 1.0  # what an output shall reach on its target's side
    config.dpn.variant = "paper"  # or "deephash": means over bits, one target for several labels
    config.dpn.targets = "random"  # or "greedy", far apart; or "hadamard", csq's published ones
    config.dpn.regularization = 0.0  # weight of the outputs' squares
    config.dpn.update_epochs = 0  # epochs from one change of the targets to the next; 0: none
    config.dpn.update_share = 1.0  # of a class's images that its new target is of

    config.orthohash = ConfigDict()  # method "orthohash"
    config.orthohash.margin = 0.2
    config.orthohash.margin_on = "cosine"  # or "angle"
    config.orthohash.scale = placeholder(float)  # of the cosines; None: sqrt(bits)
    config.orthohash.codebook = "random"  # or "greedy", far apart
    config.orthohash.quantization = 0.0  # weight of what draws outputs to their codes

    config.greedyhash = ConfigDict()  # method "greedyhash"
    config.greedyhash.penalty = 0.1  # weight of what draws outputs to -1 and +1

    config.hyp2 = ConfigDict()  # method "hyp2"
    config.hyp2.beta = 0.5  # weight of the pairs of images with several labels
    config.hyp2.zeta = placeholder(float)  # cosine allowed; None: by bits and classes

    config.dhd = ConfigDict()  # method "dhd"
    config.dhd.temperature = 0.2  # of the cosines to proxies
    config.dhd.distillation = 0.1  # weight of the agreement of two views
    config.dhd.quantization = 0.1  # weight of what draws outputs to -1 and +1

    config.adsh = ConfigDict()  # method "adsh"
    config.adsh.gamma = 200.0  # how strongly outputs and codes of an image agree
    config.adsh.images = 2000  # database images that an epoch draws
    config.adsh.passes = 3  # times that an epoch sees them
    config.adsh.labels = "database"  # whose codes are learned, by their labels; or "train"
    # Methods of which no formula could be found: ADSH with terms of our own.
    config.admh_reconstructed = ConfigDict(config.adsh.to_dict())
    config.admh_reconstructed.mu = 20.0  # how strongly codes are drawn to their class
    config.admh_reconstructed.nu = 20.0  # how strongly they are pushed from the others
    config.jldsh_reconstructed = ConfigDict(config.adsh.to_dict())
    config.jldsh_reconstructed.eta = 20.0  # weight of the classification of codes
    config.jldsh_reconstructed.xi = 1.0  # weight of its decay
    config.jldsh_reconstructed.classification = 1.0  # weight of that of outputs

    # Methods without labels, fitted from features at once: "lsh" and "pca" have no options.
    config.lsh = ConfigDict()
    config.pca = ConfigDict()
    config.itq = ConfigDict()
    config.itq.iterations = 50  # alternations of signs and rotation
    config.itq.rows = 50_000  # most features that the rotation is fitted to, evenly spaced

    config.optimizer = ConfigDict()  # arguments of optimizer.make_optimizer
    config.optimizer.name = "rmsprop"  # PyTorch's semantics; or "adam", "adamw", "sgd"
    config.optimizer.learning_rate = 2.5e-5
    config.optimizer.schedule = "constant"  # or "step", "warmup_cosine"
    config.optimizer.warmup_epochs = 0.0  # linear rise of the rate from 0, for any schedule
    config.optimizer.step_epochs = ()  # step: the epochs after which the rate drops
    config.optimizer.step_factor = 0.1  # step: what it is multiplied by
    config.optimizer.weight_decay = 1e-5  # L2 in the gradient, decoupled (adamw)
    config.optimizer.weight_decay_exclude = ()  # regular expressions on parameter paths
    config.optimizer.clip_norm = placeholder(float)  # None: gradients are not clipped
    config.optimizer.momentum = 0.9  # sgd
    config.optimizer.nesterov = False  # sgd
    config.optimizer.beta1 = 0.9  # adam, adamw
    config.optimizer.beta2 = 0.999  # adam, adamw
    # Fine-tuning from init.weights. "PATTERN=FACTOR": a learning rate of its own, as a multiple, for
    # the parameters whose path the regular expression is found in; the first that is found counts.
    # Paths are those of the table that loading prints. The backbone slower than what a NesT file
    # does not have: ("^hash_head=1", "/global_branch/=1", ".=0.1"); from a workdir of this network,
    # which lacks no more than the head: ("^(patch_embed|levels|norm)/=0.1",). In a flag, each pattern
    # stands in quotes: "('^hash_head=1','.=0.1')".
    config.optimizer.learning_rate_factors = ()
    # Patterns of what is never changed: no update, no decay, no state in the checkpoint. The first
    # two levels: ("^patch_embed/", "^levels/[01]/"). Their stochastic depth goes on.
    config.optimizer.frozen = ()

    config.pretraining = ConfigDict()  # task "classify" only
    config.pretraining.label_smoothing = 0.1
    config.pretraining.mixup = 0.8  # parameter of the Beta distribution; 0: off
    config.pretraining.cutmix = 1.0  # the same; with both on, an image takes one or the other
    config.pretraining.mix_probability = 1.0  # of an image being mixed at all
    config.pretraining.random_erasing = 0.25  # probability of an image losing a rectangle
    config.pretraining.augment_magnitude = 9.0  # of RandAugment's operations, to 10; 0: off
    # Of the parameters' moving average, which is then evaluated and started from. 0: none.
    config.pretraining.ema_decay = 0.0

    config.evaluation = ConfigDict()
    config.evaluation.every_epochs = 3
    config.evaluation.before_training = False  # also evaluate the untrained network
    config.evaluation.batch_size = 128
    config.evaluation.top_k = placeholder(int)  # None: the protocol's cut-off
    # As the field reports; or "last", "validation". Classifiers: "validation" (top-1), "last".
    config.evaluation.selected_by = "query"
    config.evaluation.validation_fraction = 0.1  # of the training images, for "validation"
    config.evaluation.report = True  # draw report.html and its pictures at the end

    # --mode=compare: methods x bits x seeds, each run an ordinary one (docs/comparison.md).
    config.comparison = ConfigDict()
    config.comparison.methods = ()  # of methods.METHODS; empty: all that can learn these labels
    config.comparison.seeds = (0, 1, 2)
    config.comparison.rates = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # learning rates that are tried
    # Most trials of a method in choosing its learning rate and its own option, on training images
    # that are held out; 0: all methods keep those of their recipe.
    config.comparison.trials = 7

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1.0
    config.checkpoint.keep_latest = 2  # beside the best one
    return config

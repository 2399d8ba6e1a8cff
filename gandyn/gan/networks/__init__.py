"""Flax Linen modules of the two players, and how any Linen module is called. They know nothing of training.

- `layers`: what networks are made of (affine layers, normalizations, initializers, activations).
- `players`: `Generator` and `Discriminator`, which `Config` builds by name.
- `calling`: `call`, `init`, `couples`, `layer_names` of any Linen module, a user's own included.
- `virtual_batch_norm`, `auxiliary_classifier`: one definition in one file each, as a user would write them.
"""

from gandyn.gan.networks.auxiliary_classifier import AuxiliaryClassifier
from gandyn.gan.networks.calling import accepted, call, couples, init, layer_at, layer_names
from gandyn.gan.networks.layers import (
    ACTIVATIONS,
    BIAS_INITIALIZERS,
    INITIALIZERS,
    Activation,
    BatchNorm,
    Dense,
    Embedding,
    FourierFeatures,
    MinibatchDiscrimination,
    MinibatchStddev,
)
from gandyn.gan.networks.players import (
    DISCRIMINATORS,
    GENERATORS,
    MINIBATCH_LAYERS,
    NORMS,
    WITHOUT_HIDDEN_LAYER,
    WITHOUT_LABELS,
    Discriminator,
    Generator,
)
from gandyn.gan.networks.virtual_batch_norm import VirtualBatchNormGenerator

__all__ = [
    "ACTIVATIONS",
    "BIAS_INITIALIZERS",
    "DISCRIMINATORS",
    "GENERATORS",
    "INITIALIZERS",
    "MINIBATCH_LAYERS",
    "NORMS",
    "WITHOUT_HIDDEN_LAYER",
    "WITHOUT_LABELS",
    "Activation",
    "AuxiliaryClassifier",
    "BatchNorm",
    "Dense",
    "Discriminator",
    "Embedding",
    "FourierFeatures",
    "Generator",
    "MinibatchDiscrimination",
    "MinibatchStddev",
    "VirtualBatchNormGenerator",
    "accepted",
    "call",
    "couples",
    "init",
    "layer_at",
    "layer_names",
]

"""An auxiliary-classifier head: a discriminator that also says which class it sees. Odena et al. 2017 (AC-GAN)."""

import flax.linen as nn
import jax

from gandyn.gan.networks.layers import ACTIVATIONS, Dense


class AuxiliaryClassifier(nn.Module):
    """D: points (B, *event) -> logits (B,), which also sows the logits of the classes.

    Into the collection "aux" go `class_logits` (B, num_classes) and the `features` (B, width) under both heads. D is
    not told the label, as in the paper; a loss with `aux=True` reads both and adds, to both players' losses, the cross
    entropy of the class logits with the labels.

    Attributes:
      num_classes: of the labels.
      width, depth: units in each hidden layer, hidden layers.
      activation: a name in `ACTIVATIONS`.
    """

    num_classes: int
    width: int = 128
    depth: int = 2
    activation: str = "leaky_relu"
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    couples = False

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        x = x.reshape(len(x), -1)
        for _ in range(self.depth):
            x = ACTIVATIONS[self.activation](Dense(self.width, self.kernel_init)(x))
        class_logits = Dense(self.num_classes, self.kernel_init, name="classes")(x)
        for name, value in (("features", x), ("class_logits", class_logits)):
            if not self.is_initializing():
                self.sow("aux", name, value, init_fn=lambda: None, reduce_fn=lambda _, new: new)
        return Dense(1, self.kernel_init, name="source")(x)[:, 0]

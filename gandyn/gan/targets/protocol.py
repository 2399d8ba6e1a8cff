"""What the rest of the package asks of a target, the density that a GAN is to learn.

Shapes: N points, U uniforms a point, I the event shape.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np


class Made(NamedTuple):
    """What a target was made from: its name and every option with its value.

    Attributes:
      kind: a name in `TARGETS`, or of another function that makes targets.
      numbers: option -> value, as plain Python: numbers, text, None, tuples of these.
    """

    kind: str
    numbers: dict[str, Any]


@runtime_checkable
class Target(Protocol):
    """A density p that can be sampled and evaluated: a pytree of float32 arrays, stacked over runs in a program.

    Instances of one class with leaves of equal shapes share a program. Leaves are NumPy arrays until a program traces
    them: making a target starts no jax backend. A class becomes a pytree by `jax.tree_util.register_dataclass`.

    What some targets have beside this, and others lack (the attribute is then absent):

      blur(std) -> target with `log_prob`: the density convolved with N(0, std^2 I), exactly.
      num_modes: int, what a person would count; absent or 0 means that modes are not counted, nor their coverage.
      pick(uniform (N,)) -> component (N,), mode_of(component (N,)) -> mode (N,): what `transform` picks, and its mode.
      of_class(label, num_classes) -> target: p(x | label), mode k being of class k mod num_classes.
      made: `Made` or None, what it was made from. Not part of the pytree (`drop_fields` of `register_dataclass`).
    """

    @property
    def event_shape(self) -> tuple[int, ...]:
        """I, the shape of one point; (2,) in the plane."""
        ...

    @property
    def num_uniforms(self) -> int:
        """U, how many uniforms in (0, 1) make one sample."""
        ...

    def transform(self, uniform: jax.Array) -> jax.Array:
        """Samples (N, *I) from uniforms in (0, 1) (N, U). Strata of the first uniform are strata of the density."""
        ...

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Independent samples, (num, *I)."""
        ...

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log density in nats at x (N, *I): (N,); -inf where there is no mass."""
        ...

    def box(self) -> tuple[jax.Array, jax.Array]:
        """(center (*I), half side ()) of a cube that holds all but a negligible part of the mass."""
        ...

    def scale(self) -> jax.Array:
        """(), the smallest length that the density resolves, in the units of the data: a Gaussian's std, say."""
        ...


def of_numpy(*arrays: Any) -> bool:
    """Whether all arrays (None apart) are NumPy's, so that computing with them need start no jax backend."""
    return all(array is None or isinstance(array, np.ndarray | np.generic) for array in arrays)

"""Losses, penalties, rules, optimizers and networks by themselves: what a few small arrays show."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.test_util import check_grads

from gandyn.gan import networks
from gandyn.gan.config import discriminator_of, generator_of
from gandyn.gan.loss import Loss, Outputs
from gandyn.gan.number import HParams, Number
from gandyn.gan.optimizers import Optimizer
from gandyn.gan.penalties import At, Penalty
from gandyn.gan.rules import Rule
from gandyn.gan.step import init
from gandyn.testing.playing import ROUNDING, Context, assert_same_form, run_key
from gandyn.testing.report import Skip, Suite
from gandyn.truth.derived import truth_of

# Away from 0 and +-1, where losses have their kinks.
_REAL = np.array([-4.3, -1.6, -0.7, 0.3, 0.8, 1.4, 2.2, 3.1], np.float32)
_FAKE = np.array([2.7, -0.3, 0.6, -2.9, -1.3, 1.7, -0.8, -3.7], np.float32)


@jax.tree_util.register_pytree_with_keys_class
class _Watched(HParams):
    """Numbers that note which of them are read; all of them where they are taken as a whole."""

    def __init__(self, **numbers: Any) -> None:
        super().__init__(**numbers)
        object.__setattr__(self, "read", set())

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        self.read.add(name)
        return value

    def as_dict(self) -> dict[str, Any]:
        """As `HParams`."""
        self.read.update(self._numbers)
        return super().as_dict()

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """As jax asks."""
        self.read.update(self._numbers)
        return super().tree_flatten_with_keys()


def _assert_read(declared: Mapping[str, Number], watched: _Watched) -> str:
    unread = [name for name in declared if name not in watched.read]
    if unread:
        raise AssertionError(f"numbers: {', '.join(unread)}: declared, and read by nothing")
    return ", ".join(declared) or "none declared"


def _arrays(numbers: HParams) -> HParams:
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), numbers)


def _assert_scalar(name: str, value: Any) -> None:
    try:
        chex.assert_shape(value, ())
        chex.assert_type(value, jnp.float32)
    except AssertionError:
        got = f"{getattr(value, 'dtype', type(value).__name__)} of shape {np.shape(value)}"
        raise AssertionError(f"{name}: got {got}; allowed: one float32 number, shape ()") from None


def _assert_finite(name: str, tree: Any) -> None:
    try:
        chex.assert_tree_all_finite(tree)
    except AssertionError:
        raise AssertionError(f"{name}: got NaN or infinity; allowed: finite numbers") from None


def _assert_gradient(name: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Its gradient is finite, and what finite differences give, to one part in a hundred."""
    _assert_finite(f"gradient of {name}", jax.grad(function, argnums=tuple(range(len(arguments))))(*arguments))
    try:
        check_grads(function, arguments, order=1, modes=("rev",), atol=1e-2, rtol=1e-2, eps=1e-2)
    except AssertionError as error:
        told = " ".join(
            line.strip() for line in str(error).splitlines() if line.strip().startswith(("ACTUAL", "DESIRED"))
        )
        raise AssertionError(
            f"gradient of {name}: got another one than finite differences ({told[:200]}); one that is stopped on "
            'purpose: without=("gradients",)'
        ) from None


# ---- losses


def check_loss(suite: Suite, loss: Loss, context: Context) -> None:
    """All that batches of outputs show."""
    numbers = _Watched(**_arrays(loss.defaults).as_dict())
    made: list[tuple[Any, Any]] = []

    def values() -> None:
        made.append(_outputs(loss, context))
        for name, function in (("disc", loss.disc), ("gen", loss.gen)):
            _assert_scalar(name, jax.eval_shape(function, *made[0], _arrays(loss.defaults)))
            _assert_finite(name, function(*made[0], numbers))

    if not suite.run("values", values):
        return
    suite.run("numbers are read", _assert_read, loss.numbers, numbers)
    suite.run("mean over the batch", _mean_over_the_batch, loss, *made[0])
    suite.run("gradients", _loss_gradients, loss, *made[0])
    suite.run("truth", _loss_truth, loss)


def _outputs(loss: Loss, context: Context) -> tuple[Any, Any]:
    if not loss.aux:
        return jnp.asarray(_REAL), jnp.asarray(_FAKE)
    game = context.game()
    state = init(game, run_key())
    play = game.play(state.params, state.stats, game.draw(state, jax.random.key(1)))
    labels = play.labels
    return Outputs(play.real_logits, labels, play.real_aux), Outputs(play.fake_logits, labels, play.fake_aux)


def _of_logits(outputs: Any, logits: Any) -> Any:
    return outputs._replace(logits=logits) if isinstance(outputs, Outputs) else logits


def _mean_over_the_batch(loss: Loss, real: Any, fake: Any) -> None:
    """The same samples twice are the same loss."""
    numbers = _arrays(loss.defaults)
    twice = lambda outputs: jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), outputs)  # noqa: E731
    for name, function in (("disc", loss.disc), ("gen", loss.gen)):
        once, both = float(function(real, fake, numbers)), float(function(twice(real), twice(fake), numbers))
        if not np.isclose(once, both, rtol=1e-4, atol=1e-5):
            raise AssertionError(
                f"{name}: got {once:.6g} of a batch and {both:.6g} of the same samples twice; allowed: a mean over the "
                "batch, for it is measured on batches of other sizes"
            )


def _loss_gradients(loss: Loss, real: Any, fake: Any) -> None:
    numbers = _arrays(loss.defaults)
    logits = (real.logits, fake.logits) if loss.aux else (real, fake)
    for name, function in (("disc", loss.disc), ("gen", loss.gen)):

        def of(r: Any, f: Any, function: Callable[..., Any] = function) -> Any:
            return function(_of_logits(real, r), _of_logits(fake, f), numbers)

        _assert_gradient(name, of, *logits)
        for far in (-15.0, 15.0):
            extreme = tuple(jnp.full_like(each, far) for each in logits)
            _assert_finite(f"gradient of {name} at outputs of {far:g}", jax.grad(of, argnums=(0, 1))(*extreme))


_CONTRADICTS = ("critic:", "equilibrium:", "zero_sum:")
_UNDECLARED = "couples=True or pairs=True"


def _loss_truth(loss: Loss) -> str:
    """What is known of the loss, or derived; what it claims and its own functions contradict is a failure."""
    found = truth_of(loss)
    wrong = [problem for problem in found.problems if problem.startswith(_CONTRADICTS) or problem.endswith(_UNDECLARED)]
    if loss.pairs and not loss.aux:
        numbers = _arrays(loss.defaults)
        here, there = (
            float(loss.disc(_REAL + shift, _FAKE + shift, numbers)) for shift in (np.float32(0), np.float32(1))
        )
        if not np.isclose(here, there, rtol=1e-4):
            wrong.append("pairs: disc changes when a constant is added to all outputs")
    bound, steepest = found.slope_bound, 0.0
    if np.isfinite(bound) and not loss.aux:
        numbers = _arrays(loss.defaults)
        slopes = jax.grad(loss.gen, argnums=1)(jnp.asarray(_REAL), jnp.asarray(_FAKE), numbers)
        steepest = float(jnp.max(jnp.abs(slopes))) * len(_FAKE)
    if steepest > 1.001 * bound:
        wrong.append(f"slope_bound: {bound:.4g}, where |d gen / d output| is {steepest:.4g}")
    if wrong:
        raise AssertionError("; ".join(wrong))
    best = f"best D {found.source}" if found.critic is not None else f"no best D: {found.source}"
    at_equilibrium = "" if np.isnan(found.equilibrium) else f"; V at q = p {found.equilibrium:.4g}"
    return "; ".join([best + at_equilibrium, *(p for p in found.problems if p != found.source)])


# ---- penalties


def check_penalty(suite: Suite, penalty: Penalty) -> bool:
    """All that one small D shows; whether a game may go on."""
    numbers = _Watched(**_arrays(penalty.defaults).as_dict())

    def values() -> None:
        if penalty.term is not None:
            params = _d_params()
            _assert_scalar("term", jax.eval_shape(lambda w: _term(penalty, w, _arrays(penalty.defaults)), params))
            _assert_finite("term", _term(penalty, params, numbers))
        if penalty.project is not None:
            params = _d_params()
            assert_same_form("project", params, penalty.project(params, numbers))
            _assert_finite("project", penalty.project(params, numbers))

    def memory() -> None:
        if penalty.init is None or penalty.remember is None:
            raise Skip("it remembers nothing")
        before = penalty.init()
        after = penalty.remember(_at(penalty, _d_params()), numbers)
        assert_same_form("remember", _as_arrays(before), _as_arrays(after))
        _assert_finite("remember", after)

    def gradients() -> None:
        if penalty.term is None:
            raise Skip("it has no term")
        _assert_gradient("term", lambda params: _term(penalty, params, _arrays(penalty.defaults)), _d_params())

    whole = suite.run("values", values)
    whole = suite.run("memory keeps its form", memory) and whole
    if whole:
        suite.run("numbers are read", lambda: _assert_read(penalty.numbers, numbers))
        suite.run("gradients", gradients)
    return whole


def _as_arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def _d_params() -> Any:
    draw = np.random.default_rng(0).standard_normal
    return {"kernel": jnp.asarray(draw((2, 3)), jnp.float32), "bias": jnp.asarray(draw(3), jnp.float32)}


def _at(penalty: Penalty, params: Any) -> At:
    """D is a sum of three hyperbolic tangents; eight real and fake points of the plane."""
    draws = np.random.default_rng(1)
    real, fake = (jnp.asarray(draws.standard_normal((8, 2)), jnp.float32) for _ in range(2))
    uniform = jnp.asarray(draws.uniform(size=(8, 3)), jnp.float32)

    def disc(points: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(points @ params["kernel"] + params["bias"][None, :]), axis=1)

    memory = None if penalty.init is None else penalty.init()
    return At(disc, params, real, fake, disc(real), disc(fake), uniform, jnp.zeros((), jnp.int32), memory)


def _term(penalty: Penalty, params: Any, numbers: HParams) -> Any:
    assert penalty.term is not None
    return penalty.term(_at(penalty, params), numbers)


# ---- rules


def rule_reads(rule: Rule, context: Context) -> str:
    """Every number that a rule declares is read by its `init` or `step`."""
    game = context.game()
    watched = _Watched(**game.hparams.as_dict())
    object.__setattr__(game, "hparams", watched)
    watched.read.clear()
    state = jax.eval_shape(init, context.game(), run_key())

    def once(state: Any, key: jax.Array) -> Any:
        rule.init(game, state.params)
        return rule.step(game, state, key)

    jax.eval_shape(once, state, run_key())
    return _assert_read(rule.numbers, watched)


# ---- optimizers


def check_optimizer(suite: Suite, optimizer: Optimizer) -> bool:
    """It goes down a bowl, with numbers that are traced."""

    def descends() -> str:
        start = {"a": jnp.asarray([1.0, -0.5]), "b": jnp.asarray(0.8)}

        def roll(lr: jax.Array, numbers: dict[str, jax.Array]) -> Any:
            made = optimizer.make(lr, **numbers)
            before = made.init(start)

            def once(carry: Any, _: None) -> tuple[Any, None]:
                params, opt_state = carry
                updates, opt_state = made.update(params, opt_state, params)  # of |w|^2 / 2
                return (optax.apply_updates(params, updates), opt_state), None

            first = jax.eval_shape(once, (start, before), None)[0]
            assert_same_form("update", (start, before), first)
            return jax.lax.scan(once, (start, before), None, length=200)[0][0]

        numbers = {name: jnp.float32(number.default) for name, number in optimizer.numbers.items()}
        end = jax.jit(roll)(jnp.float32(0.02), numbers)
        _assert_finite("update", end)
        left = float(optax.tree.norm(end) / optax.tree.norm(start))
        if left > 0.9:
            raise AssertionError(f"update: after 200 steps of |w|^2 / 2 at a rate of 0.02, {left:.3g} of |w| is left")
        return f"{left:.2g} of |w| left after 200 steps of |w|^2 / 2"

    return suite.run("descends", descends)


# ---- networks


def player_of(module: nn.Module, context: Context) -> str:
    """Whether a module is G or D, by what it makes of points and of latents; D where it is neither."""
    try:
        game = context.game()
        shapes = {"gen": (game.config.latent_dim,), "disc": game.disc_shape}
        wanted = {"gen": game.event_shape, "disc": ()}
        tried = {who: _abstract_output(module, shape, context) for who, shape in shapes.items()}
    except Exception:  # noqa: BLE001 (what is wrong is said by the check that tries it)
        return "disc"
    fits = [who for who, shape in tried.items() if shape == wanted[who]]
    if fits:
        return fits[0]
    return "gen" if any(len(shape or ()) == 1 and shape[-1:] != (1,) for shape in tried.values() if shape) else "disc"


def _abstract_output(module: nn.Module, shape: tuple[int, ...], context: Context) -> tuple[int, ...] | None:
    """The shape of the output at one sample; None where the module takes no such input."""
    classes = context.fields.get("num_classes", 0)

    def applied(key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
        given: dict[str, Any] = {"labels": labels} if classes and "labels" in networks.accepted(type(module)) else {}
        return module.init_with_output(key, x, **given)[0]

    try:
        out = jax.eval_shape(applied, jax.random.key(0), jnp.zeros((4, *shape)), jnp.zeros(4, jnp.int32))
    except Exception:  # noqa: BLE001 (a module for inputs of another shape may raise anything)
        return None
    return tuple(out.shape[1:]) if getattr(out, "shape", None) else None


def check_network(suite: Suite, module: nn.Module, player: str, context: Context) -> bool:
    """All that a few samples show of a module as G or as D; whether a game may go on."""
    made: list[_Played] = []

    def output() -> str:
        made.append(_Played(module, player, context))
        for batch, train in itertools.product((5, 1), (False, True)):
            # A batch of one has no spread to be normalized by, so that only a module that couples may make NaN of it.
            out = made[0].call(made[0].input[:batch], train)
            if batch > 1 or not made[0].declared:
                _assert_finite("output", out)
        return f"as {'G' if player == 'gen' else 'D'}: {made[0].shape} -> {tuple(out.shape[1:])}"

    if not suite.run("output", output):
        return False
    (played,) = made
    whole = suite.run("equal by its fields", _equal_by_its_fields, module)
    suite.run("couples", _couples, played)
    suite.run("gradients", _network_gradients, played)
    suite.run("lipschitz", _lipschitz, played)
    return whole


class _Played:
    """A module with variables, and points or latents for it."""

    def __init__(self, module: nn.Module, player: str, context: Context) -> None:
        game = context.game()
        self.module, self.player, self.classes = module, player, game.config.num_classes
        self.shape = (game.config.latent_dim,) if player == "gen" else game.disc_shape
        self.event_shape = game.event_shape if player == "gen" else ()
        of_config = generator_of(game.config, game.event_shape) if player == "gen" else discriminator_of(game.config)
        assert of_config is module
        self.variables = networks.init(module, run_key(), self.shape, self.classes)
        self.input = jnp.asarray(np.random.default_rng(2).standard_normal((5, *self.shape)), jnp.float32)
        self.declared = networks.couples(module, self.shape, self.classes)

    def call(self, x: jax.Array, train: bool, variables: Any = None) -> jax.Array:
        labels = jnp.arange(len(x)) % self.classes if self.classes else None
        variables = self.variables if variables is None else variables
        mutable = [name for name in variables if name not in ("params", "constants")] if train else []
        return networks.call(
            self.module, variables, x, labels, train, mutable, player=self.player, event_shape=self.event_shape
        )[0]


def _equal_by_its_fields(module: nn.Module) -> None:
    """A program is kept by its config: modules with equal fields must be equal, and so must their hashes."""
    again = module.clone()
    try:
        same = again == module and hash(again) == hash(module)
    except TypeError as error:
        raise AssertionError(
            f"{error}: allowed: fields that can be hashed, such as numbers, texts and tuples"
        ) from None
    if not same:
        raise AssertionError("a copy with the same fields is not equal to it: each would be compiled anew")


def _couples(played: _Played) -> str:
    """What it declares of the samples of a batch, or what NaN shows, is what another sample in the batch shows."""
    changed = played.input.at[-1].add(1.0)
    apart = jnp.abs(played.call(played.input, True) - played.call(changed, True))[:-1]
    seen = bool(jnp.max(apart) > 1e-6)
    if seen and not played.declared:
        raise AssertionError(
            "couples: an output in training depends on another sample of the batch, which `couples` denies (or NaN "
            "does not show; then declare couples = True)"
        )
    if not played.declared:
        alone = jnp.concatenate([played.call(one[None], False) for one in played.input]) if not played.classes else None
        if alone is not None:
            chex.assert_trees_all_close(alone, played.call(played.input, False), **ROUNDING)
    return "the samples of a batch are seen together" if played.declared else "each sample by itself"


def _network_gradients(played: _Played) -> None:
    def total(params: Any) -> jax.Array:
        out = played.call(played.input, True, played.variables | {"params": params})
        weights = np.random.default_rng(3).standard_normal(out.shape).astype(np.float32)
        return jnp.sum(out * weights)

    if not jax.tree.leaves(played.variables.get("params", {})):
        raise Skip("it has no parameters")
    _assert_gradient("the output in the parameters", total, played.variables["params"])


def _lipschitz(played: _Played) -> str:
    if played.player == "gen" or not hasattr(played.module, "lipschitz"):
        raise Skip("it declares no bound" if played.player == "disc" else "of D alone")
    bound = float(played.module.lipschitz(played.variables))
    slopes = jax.grad(lambda x: jnp.sum(played.call(x, False)))(played.input)
    steepest = float(jnp.max(jnp.sqrt(jnp.sum(slopes.reshape(len(slopes), -1) ** 2, axis=1))))
    if steepest > 1.001 * bound:
        raise AssertionError(f"lipschitz: got a bound of {bound:.4g}, where D's gradient has a norm of {steepest:.4g}")
    return f"at most {bound:.4g}, at least {steepest:.4g}"

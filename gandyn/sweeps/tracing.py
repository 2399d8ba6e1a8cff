"""What a traced program does, counted operation by operation. Nothing compiles, no array is made, no name of a part is
known: a `ClosedJaxpr` says it all, whoever wrote the function.

The program is read as the compiler will see it: calls are inlined, what nothing reads is left out, and what is computed
twice from the same inputs counts once. Loops multiply what is in them by their trips; of branches the dearest counts.
Loops that end by themselves are counted at their bound where they are compared with one (D's updates towards its best
response), else at `TURNS`; those inside a linear solver at `SOLVER_TURNS`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params

TURNS = 10
"""Of a loop of which nothing says how often it turns."""

SOLVER_TURNS = 1
"""Of an iterative linear solver: measured in competitive descent at learning rates of 1e-3, where its system is nearly
the identity. Larger rates take more."""

FEATURES: tuple[str, ...] = (
    "flops",
    "moved",
    "elements",
    "curves",
    "calls",
    "bits",
    "indexed",
    "launches",
    "equations",
    "peak",
)
"""What is counted: floating-point operations of matrix products and the numbers that these read and write; results of
other operations; of those that are a series in vectors (exp, log, tanh); of those that a library is called for one by
one (sin, pow); random words; numbers that are looked up, scattered or sorted; operations that are no part of another's
loop; equations of the program (loops once); bytes alive at once."""

_FREE = frozenset([
    "reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "convert_element_type", "slice", "iota",
    "copy", "copy_p", "stop_gradient", "device_put", "random_wrap", "random_unwrap", "random_split", "random_fold_in",
    "random_seed", "rev", "unstack", "split", "create_token", "sharding_constraint", "optimization_barrier",
    "bitcast_convert_type", "pvary", "reduce_precision", "empty", "name",
])  # fmt: skip
_CURVES = frozenset(["exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "erf", "erfc", "erf_inv"])
_CALLS = frozenset([
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "pow", "cbrt",
    "lgamma", "digamma", "igamma", "igammac", "polygamma", "regularized_incomplete_beta", "bessel_i0e", "bessel_i1e",
])  # fmt: skip
_INDEXED = frozenset(["gather", "dynamic_slice", "dynamic_update_slice", "top_k", "sort"])
_FACTORIZATIONS = frozenset([
    "cholesky", "eigh", "eig", "svd", "qr", "lu", "triangular_solve", "householder_product", "geqrf", "schur",
])  # fmt: skip
_SORTED = 10.0  # looks at each number that is sorted, about; one figure, so that sizes change no structure
_FACTORIZATION = 10.0  # operations for each entry and row of what comes out of one


class Term(NamedTuple):
    """`coefficient` times the product of `factors` (trips of the loops around it, sizes) of one feature."""

    feature: str
    coefficient: float
    factors: tuple[int, ...]


class Trace(NamedTuple):
    """What a program does.

    Attributes:
      terms: whose sum each feature is, in the order of the program, so that traces of one structure at other sizes
        have the same terms with other factors.
      values: bytes of an entry, and the shape, of all that is computed.
      alive: those of them that are held at once where most bytes are; what the program takes is not among them.
    """

    terms: list[Term]
    values: list[tuple[int, tuple[int, ...]]]
    alive: list[int]

    def counts(self) -> dict[str, float]:
        """Each feature's sum."""
        found: dict[str, float] = dict.fromkeys(FEATURES, 0.0)
        for term in [*self.terms, *self.of_peak()]:
            found[term.feature] = found.get(term.feature, 0.0) + term.coefficient * math.prod(term.factors)
        return found

    def of_peak(self) -> list[Term]:
        """The bytes that are held at once."""
        return [Term("peak", *self.values[i]) for i in self.alive]


def trace(function: Callable[..., Any], *args: Any) -> Trace:
    """Of a function on arrays or shapes: see `of`."""
    return of(jax.make_jaxpr(function)(*args))


def of(program: ClosedJaxpr) -> Trace:
    """What a program does."""
    values: list[tuple[int, tuple[int, ...]]] = []
    body = _Body(values, in_solver=False)
    terms, alive = body.finish(body.walk(program.jaxpr, [body.outside() for _ in program.jaxpr.invars]))
    return Trace(terms, values, alive)


def sizes(feature: str, tree: Any) -> list[Term]:
    """A feature that is the bytes of arrays or shapes."""
    return [Term(feature, _itemsize(leaf.dtype), tuple(leaf.shape)) for leaf in jax.tree.leaves(tree)]


class _Node(NamedTuple):
    """One operation: its terms, values that it takes and gives, and what its inside holds at most."""

    terms: list[Term]
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    inside: list[int]
    fuses: bool


class _Body:
    """A program, or the inside of a loop or branch: its operations in order.

    Values are numbered by what they are: the same operation on the same values gives the same numbers.
    """

    def __init__(self, values: list[tuple[int, tuple[int, ...]]], in_solver: bool) -> None:
        self._values, self._in_solver = values, in_solver
        self._literals: dict[Any, int] = {}
        self._constants: set[int] = set()
        self._nodes: list[_Node] = []
        self._known: dict[Any, tuple[int, ...]] = {}

    def outside(self) -> int:
        """The number of a value that is given: it takes no room here."""
        self._values.append((0, ()))
        return len(self._values) - 1

    def walk(self, jaxpr: Jaxpr, inputs: Sequence[int]) -> list[int]:
        """The numbers of its outputs."""
        numbers: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
        numbers |= {var: self.outside() for var in jaxpr.constvars}

        def number(var: Any) -> int:
            if not isinstance(var, Literal):
                return numbers[var]
            key = str(var.val), str(var.aval)
            if key not in self._literals:
                self._literals[key] = self.outside()
                self._constants.add(self._literals[key])
            return self._literals[key]

        for eqn in jaxpr.eqns:
            numbers.update(zip(eqn.outvars, self._equation(eqn, tuple(map(number, eqn.invars))), strict=True))
        return [number(var) for var in jaxpr.outvars]

    def _equation(self, eqn: Any, takes: tuple[int, ...]) -> Sequence[int]:
        name, params = eqn.primitive.name, eqn.params
        if name == "scan" and params["length"] == 1:
            return self.walk(params["jaxpr"].jaxpr, takes)  # no loop to the compiler either
        if name in _INSIDES:
            return self._add(eqn, takes, *_INSIDES[name](self, eqn))
        inner = [] if name.startswith(("reduce", "scatter", "select_and", "cum")) else list(jaxprs_in_params(params))
        if inner and len(inner[0].invars) == len(takes):
            return self.walk(inner[0], takes)  # a call: part of this body
        if inner:
            return self._add(eqn, takes, *self.inside(inner[0]))
        if self._constants.issuperset(takes):
            # Folded away. Nor is it shared: sizes that happen to agree would make another structure.
            gives = self._add(eqn, takes, [], [], free=True)
            self._constants.update(gives)
            return gives
        try:
            key = name, tuple(params.items()), takes
            known = self._known.get(key)
        except TypeError:  # parameters that do not compare
            key, known = object(), None
        if known is None:
            terms = [] if name in _FREE else _leaf(eqn)
            known = self._known[key] = self._add(eqn, takes, terms, [], name in _FREE)
        return known

    def _add(
        self, eqn: Any, takes: tuple[int, ...], terms: list[Term], inside: list[int], free: bool = False
    ) -> tuple[int, ...]:
        first = len(self._values)
        for var in eqn.outvars:
            # What only looks at its input in another shape, or is made on the fly, takes no room.
            aval = var.aval
            self._values.append((0 if free else _itemsize(aval.dtype), tuple(aval.shape)))
        gives = tuple(range(first, len(self._values)))
        elementwise = free or all(term.feature in ("elements", "curves", "calls", "equations") for term in terms)
        self._nodes.append(_Node([*terms, Term("equations", 1, ())], takes, gives, inside, elementwise))
        return gives

    def inside(self, jaxpr: Jaxpr, trips: int = 1, in_solver: bool = False) -> tuple[list[Term], list[int]]:
        """Terms of another body that is gone through `trips` times, and what it holds."""
        body = _Body(self._values, self._in_solver or in_solver)
        terms, alive = body.finish(body.walk(jaxpr, [body.outside() for _ in jaxpr.invars]))
        times = [
            term if term.feature == "equations" else term._replace(factors=(trips, *term.factors)) for term in terms
        ]
        return [Term("launches", 1, (trips,)), *times], alive

    def scan(self, eqn: Any) -> tuple[list[Term], list[int]]:
        return self.inside(eqn.params["jaxpr"].jaxpr, eqn.params["length"])

    def loop(self, eqn: Any) -> tuple[list[Term], list[int]]:
        bound = SOLVER_TURNS if self._in_solver else _bound(eqn.params["cond_jaxpr"].jaxpr)
        return self.inside(eqn.params["body_jaxpr"].jaxpr, bound)

    def branch(self, eqn: Any) -> tuple[list[Term], list[int]]:
        branches = [self.inside(branch.jaxpr) for branch in eqn.params["branches"]]
        return max(branches, key=lambda found: sum(term.coefficient * math.prod(term.factors) for term in found[0]))

    def solver(self, eqn: Any) -> tuple[list[Term], list[int]]:
        return self.inside(eqn.params["jaxprs"].solve.jaxpr, in_solver=True)

    def finish(self, outputs: Iterable[int]) -> tuple[list[Term], list[int]]:
        """Terms of what the outputs need, and the values held where that is most."""
        needed, kept = set(outputs), []
        for node in reversed(self._nodes):
            if needed.intersection(node.gives):
                needed.update(node.takes)
                kept.append(node)
        kept.reverse()
        return [term for node in kept for term in node.terms], self._held(kept, set(outputs))

    def _held(self, nodes: Sequence[_Node], outputs: set[int]) -> list[int]:
        """The values held at once where their bytes are most.

        What one operation alone reads is made inside it, where both go entry by entry.
        """
        readers: dict[int, list[int]] = {}
        for i, node in enumerate(nodes):
            for value in node.takes:
                readers.setdefault(value, []).append(i)
        last = {value: at[-1] for value, at in readers.items()}
        # In reverse, so that what passes through holds its input as long as itself is read.
        stands = {}
        for i in reversed(range(len(nodes))):
            node = nodes[i]
            stands[i] = not node.fuses or any(v in outputs or len(readers.get(v, ())) > 1 for v in node.gives)
            if (node.fuses and not stands[i]) or not any(self._values[v][0] for v in node.gives):
                ends = max((last.get(v, i) for v in node.gives), default=i)
                for value in node.takes:
                    last[value] = max(last[value], ends)
        held: dict[int, float] = {}
        now = most = 0.0
        best: list[int] = []
        size = lambda value: self._values[value][0] * math.prod(self._values[value][1])  # noqa: E731
        ends_at: dict[int, list[int]] = {}
        for value, i in last.items():
            ends_at.setdefault(i, []).append(value)
        for i, node in enumerate(nodes):
            if stands[i]:
                held |= {value: size(value) for value in node.gives}
                now += sum(held[value] for value in node.gives)
            if now + (extra := sum(map(size, node.inside))) > most:
                most, best = now + extra, [*held, *node.inside]
            for value in ends_at.get(i, ()):
                if value not in outputs:
                    now -= held.pop(value, 0.0)
        return best


_INSIDES: dict[str, Callable[[_Body, Any], tuple[list[Term], list[int]]]] = {
    "scan": _Body.scan,
    "while": _Body.loop,
    "cond": _Body.branch,
    "custom_linear_solve": _Body.solver,
}


def _bound(condition: Jaxpr) -> int:
    """What a loop's counter is compared with, `TURNS` where with nothing that is known."""
    for eqn in condition.eqns:
        if eqn.primitive.name in ("lt", "le") and isinstance(eqn.invars[1], Literal):
            value = eqn.invars[1].val
            if jnp.issubdtype(jnp.result_type(value), jnp.integer):
                return max(1, int(value))
    return TURNS


def _itemsize(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.extended) else dtype.itemsize


def _leaf(eqn: Any) -> list[Term]:
    """Terms of an operation that holds no other."""
    name = eqn.primitive.name
    shapes: list[tuple[int, ...]] = [tuple(getattr(var.aval, "shape", ())) for var in eqn.invars]
    out: tuple[int, ...] = tuple(eqn.outvars[0].aval.shape) if eqn.outvars else ()
    launch = Term("launches", 1, ())
    moved = [Term("moved", 1, shape) for shape in (out, *shapes)]
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return [Term("flops", 2, (*out, *(shapes[0][axis] for axis in contracted))), *moved, launch]
    if name == "conv_general_dilated":
        features = eqn.params["dimension_numbers"].rhs_spec[0]
        kernel = (size for axis, size in enumerate(shapes[1]) if axis != features)
        return [Term("flops", 2, (*out, *kernel)), *moved, launch]
    if name in _FACTORIZATIONS:
        return [Term("flops", _FACTORIZATION, (*shapes[0], *shapes[0][-1:])), *moved, launch]
    if name.startswith(("random_bits", "threefry")):
        return [Term("bits", 1, out), launch]
    if name.startswith("scatter"):
        return [Term("indexed", 1, shapes[2]), launch]
    if name in _INDEXED:
        written = shapes[1] if name == "dynamic_update_slice" else shapes[0] if name in ("sort", "top_k") else out
        return [Term("indexed", _SORTED if name in ("sort", "top_k") else 1.0, written), launch]
    if name.startswith(("reduce", "arg", "cum")):
        return [Term("elements", 1, shapes[0]), launch]
    return [Term("curves" if name in _CURVES else "calls" if name in _CALLS else "elements", 1, out)]

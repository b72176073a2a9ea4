"""What is known where a gradient is wrong: the backward's beside the true one, at two points and for several dy."""

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import copied, is_float64
from scratchgen.gradcheck.diagnosis.parts import Output
from scratchgen.gradcheck.learned import Learned, with_values
from scratchgen.gradcheck.numeric import STEP, scale_of
from scratchgen.gradcheck.points import Point, drawn
from scratchgen.gradcheck.styles import takes_no_argument
from scratchgen.gradcheck.subject import Subject
from scratchgen.gradcheck.variable import Variable, sizes_of

MOST_ELEMENTS = 400, 1000  # of a variable, and of y: a Jacobian of that size is taken
MOST_LOCAL = 10, 2000  # variables of forward that are looked at, and elements of one
SECONDS = 8.0  # that all evaluations for one variable may take


@dataclass
class Scene:
    """A point, a dy there, and the gradient of one variable: `given` by backward, and `true`.

    `fields` are the arrays that a formula may be made of, by name: inputs, parameters and y; `local` are those that
    forward has in its variables, or leaves on its object, beside them. `others` are the true gradients of the other
    variables, by name, and `others_given` what backward gives for them; `upstream` are gradients that parts have
    given back, which may stand in a formula in the place of dy. `jacobian` is that of y, elements of the variable by
    elements of y.
    """

    inputs: list
    fields: dict[str, Array]
    dy: Array
    y: Array
    value: Array
    given: Array
    true: Array
    jacobian: Array
    others: dict[str, Array] = field(default_factory=dict)
    others_given: dict[str, Array] = field(default_factory=dict)
    upstream: dict[str, Array] = field(default_factory=dict)
    local: dict[str, Array] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """The factor from the variable to y, where it is one number wherever it is not 0, as in dropout; else 1."""
        if self.value.shape != self.y.shape or not self.y.any():
            return 1.0
        ratio = self.y[self.y != 0] / self.value[self.y != 0]
        return float(ratio[0]) if np.allclose(ratio, ratio[0], rtol=1e-9) else 1.0


@dataclass
class Evidence:
    """`scenes`: two points, some dy at each. `pulled` is the backward as a matrix at the first, elements of the
    variable by elements of y, as the Jacobian is; None where y has too many elements. `ties`: the first point has
    equal elements, and no derivative; `together` is its Jacobian where equal elements move as one,
    values by elements of y. `redraws`: a backward that is called again gives another gradient. `changed(name,
    change)` is the true gradient in each scene with `change(value)` in the place of a parameter's value. `outputs`
    are the shapes of several outputs, none where there is one.
    """

    name: str
    scenes: list[Scene]
    pulled: Array | None
    ties: bool
    redraws: bool
    together: Array | None
    outputs: list[tuple[int, ...]]
    sizes: dict[str, int]
    inputs: list[str]
    parameters: dict[str, Array]
    changed: Callable[[str, Callable[[Array], Array]], list[Array] | None]

    @property
    def is_parameter(self) -> bool:
        return self.name.endswith(".grad")

    def given(self) -> Array:
        return np.concatenate([scene.given.ravel() for scene in self.scenes])

    def true(self) -> Array:
        return np.concatenate([scene.true.ravel() for scene in self.scenes])


def gather(
    subject: Subject,
    v: Variable | Output,
    variables: Sequence[Variable],
    point: Point,
    rng: np.random.Generator,
) -> Evidence | None:
    """The evidence on one variable, from the point where it is wrong and one more; None where it would take too long,
    or the target cannot be evaluated."""
    size = v.value(point.inputs).size
    if len(v.sources) > 1 or size > MOST_ELEMENTS[0]:
        return None
    until = time.monotonic() + SECONDS
    moved = {s for other in variables for s in other.sources if isinstance(s, int)}
    learned = [s for other in variables for s in other.sources if not isinstance(s, int)]
    with with_values({p: point.values.get(p, p.value) for p in learned}):
        second = Point(
            "drawn anew",
            [drawn(x, rng) if k in moved else x for k, x in enumerate(point.inputs)],
            {p: drawn(p.value, rng) for p in learned},
        )
        try:
            y, backward, seconds = _timed(subject, point)
        except Exception:
            return None
        many = SECONDS / seconds  # of evaluations are in time
        if y.size > MOST_ELEMENTS[1] or 4 * size > many:  # two Jacobians, two evaluations for a row
            return None
        near = [u for u in variables if u is not v and u.value(point.inputs).size == size][:3]
        if 4 * size * (1 + len(near)) > many:
            near = []
        whole = not callable(backward) or takes_no_argument(backward)
        scenes = [*_scenes(subject, v, near, point, learned, 1 if whole else 3, rng)]
        if not scenes:
            return None
        here = len(scenes)
        in_time = 4 * size * (1 + len(near)) + 2 * y.size < many
        pulled = _as_matrix(subject, v, point, y) if in_time and not whole else None
        redraws = _redraws(subject, v, point)
        together = _of_ties(subject, v, point) if point.ties and isinstance(v.sources[0], int) else None
        scenes += _scenes(subject, v, near, second, learned, 1 if whole else 2, rng)
    points = [point] * here + [second] * (len(scenes) - here)

    def changed(name: str, change: Callable[[Array], Array]) -> list[Array] | None:
        p = next(p for p in learned if subject.parameters.get(name) is p)
        found, last = [], None
        if time.monotonic() > until:
            return None
        for at, scene in zip(points, scenes, strict=True):
            if last is None or last[0] is not at:
                values = {q: at.values.get(q, q.value) for q in learned}
                with with_values({**values, p: change(values[p])}):
                    try:
                        last = at, _jacobian(subject, v, at.inputs)
                    except Exception:
                        return None
            found.append((last[1] @ scene.dy.ravel()).reshape(scene.true.shape))
        return found

    names = subject.input_names(len(point.inputs))
    shapes = [np.shape(output) for output in subject.call(map(copied, point.inputs)).outputs]
    outputs = shapes if len(shapes) > 1 else []
    counts = sizes_of(point.inputs, y)
    found = [*_axes_of(point.inputs, names), *_fans(scenes[0].jacobian)]
    for what, n in reversed(found) if y.ndim == 4 else found:  # of images windows come first
        if n not in counts.values():
            counts[what] = n
    values = {name: np.array(p.value) for name, p in subject.parameters.items() if p in learned}
    return Evidence(v.name, scenes, pulled, point.ties, redraws, together, outputs, counts, names, values, changed)


def _timed(subject: Subject, point: Point) -> tuple[Array, Any, float]:
    """y, backward, and how long an evaluation takes: the shorter of two."""
    took = []
    for _ in range(2):
        start = time.perf_counter()
        y, backward = subject.evaluate(point.inputs)
        took.append(time.perf_counter() - start)
    return y, backward, min(took)


def _scenes(
    subject: Subject,
    v: Variable | Output,
    near: Sequence[Variable],
    point: Point,
    learned: list[Learned],
    count: int,
    rng: np.random.Generator,
) -> Iterator[Scene]:
    """The scenes at one point, none where the target cannot be evaluated there."""
    with with_values({p: point.values.get(p, p.value) for p in learned}):
        try:
            y, backward = subject.evaluate(point.inputs)
            if not np.isfinite(y).all():
                return
            jacobian = _jacobian(subject, v, point.inputs)
            others = {u.name: _jacobian(subject, u, point.inputs) for u in near}
            for _ in range(count):
                whole = not callable(backward) or takes_no_argument(backward)
                dy = np.ones(()) if whole else np.asarray(rng.standard_normal(y.shape))
                given = _pull(subject, v, point, dy)
                shape = v.value(point.inputs).shape
                if given.shape != shape or not np.isfinite(given).all():
                    return
                at = dy.ravel() if dy.size == y.size else np.ones(y.size)
                yield Scene(
                    point.inputs,
                    _fields_of_parts(subject, v, point) if isinstance(v, Output) else _fields(subject, point, y),
                    dy,
                    y,
                    v.value(point.inputs),
                    given,
                    (jacobian @ at).reshape(shape),
                    jacobian,
                    {u.name: (others[u.name] @ at).reshape(u.value(point.inputs).shape) for u in near},
                    {u.name: _pull(subject, u, point, dy) for u in near},
                    v.trace.upstream() if isinstance(v, Output) else {},
                    {} if isinstance(v, Output) else _locals(subject, point, _fields(subject, point, y), given),
                )
        except Exception:
            return


def _axes_of(inputs: list, names: list[str]) -> Iterator[tuple[str, int]]:
    """The sizes of all axes of the inputs."""
    for name, x in zip(names, inputs, strict=True):
        for axis, n in enumerate(np.shape(x)):
            yield f"the size of axis {axis} of {name}", n


def _fans(jacobian: Array) -> Iterator[tuple[str, int]]:
    """How many elements an output depends on, and on how many outputs an element acts, where that is one number."""
    depends = np.abs(jacobian) > 1e-9 * np.abs(jacobian).max()
    for axis, what in (
        (1, "the number of outputs that an element acts on"),
        (0, "the number of elements that an output is made of, as under a window"),
    ):
        counts = {int(n) for n in depends.sum(axis=axis)} - {0}
        if len(counts) == 1:
            yield what, counts.pop()


def _fields(subject: Subject, point: Point, y: Array) -> dict[str, Array]:
    names = subject.input_names(len(point.inputs))
    found = {_unlike_y(name): x for name, x in zip(names, point.inputs, strict=True) if is_float64(x)}
    found |= {_unlike_y(name): np.asarray(p.value, np.float64) for name, p in subject.parameters.items()}
    if y.ndim:
        found["y"] = y
    return found


def _unlike_y(name: str) -> str:
    """A name that is not the one of what forward returns, or of its gradient."""
    return f"(what forward calls {name})" if name in ("y", "dy") else name


def _locals(subject: Subject, point: Point, known: dict[str, Array], given: Array) -> dict[str, Array]:
    """The arrays in the variables of forward when it returns, and on its object, which are none of those known, nor
    the gradient itself. Masks of truth values stand in brackets."""
    function = inspect.unwrap(getattr(subject.function, "func", subject.function))
    code = getattr(function, "__code__", None)
    found: dict[str, Any] = {}

    def on_event(frame: FrameType, event: str, value: Any) -> None:
        if event == "return" and frame.f_code is code:
            found.update(frame.f_locals)

    if sys.getprofile() is None:  # another profiler is left alone
        sys.setprofile(on_event)
        try:
            subject.evaluate(point.inputs)
        finally:
            sys.setprofile(None)
    found |= getattr(subject.module, "__dict__", {})
    kept: dict[str, Array] = {}
    for name, value in found.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fb" or not 1 < value.size <= MOST_LOCAL[1]:
            continue
        array = np.asarray(value, np.float64)
        alike = any(array.shape == f.shape and np.array_equal(array, f) for f in (*known.values(), *kept.values()))
        alike = alike or (array.shape == given.shape and _is_multiple(array, given))
        if not alike and np.isfinite(array).all() and name not in (*known, "dy") and len(kept) < MOST_LOCAL[0]:
            kept[f"[{name}]" if value.dtype == bool else name] = array.copy()
    return kept


def _is_multiple(a: Array, b: Array) -> bool:
    c = np.sum(a * b) / np.sum(b * b) if b.any() else 0.0
    return bool(np.allclose(a, c * b, rtol=1e-7, atol=1e-12))


def _fields_of_parts(subject: Subject, v: Output, point: Point) -> dict[str, Array]:
    names = subject.input_names(len(point.inputs))
    found = {name: x for name, x in zip(names, point.inputs, strict=True) if is_float64(x)}
    return {v.path: v.value([]), **v.trace.fields(v.path), **found}


def _pull(subject: Subject, v: Variable | Output, point: Point, dy: Array) -> Array:
    """What backward gives for dy, by an evaluation of its own."""
    return _pulled(subject, v, subject.evaluate(point.inputs)[1], dy)


def _pulled(subject: Subject, v: Variable | Output, backward: Any, dy: Array) -> Array:
    for p in subject.parameters.values():
        p.zero_grad()
    return np.array(v.gradient(subject.pull(backward, dy.copy())))


def _redraws(subject: Subject, v: Variable | Output, point: Point) -> bool:
    y, backward = subject.evaluate(point.inputs)
    if not callable(backward) or takes_no_argument(backward):
        return False
    dy = np.random.default_rng(0).standard_normal(y.shape)
    first, second = (_pulled(subject, v, backward, dy) for _ in range(2))
    return not np.allclose(first, second, equal_nan=True)


def _of_ties(subject: Subject, v: Variable | Output, point: Point) -> Array:
    """The Jacobian with respect to the distinct values of an input, each moved wherever it stands."""
    evaluate, x = v.as_argument(subject, point.inputs), v.value(point.inputs)
    unique, which = np.unique(x, return_inverse=True)
    which = which.reshape(x.shape)
    steps = STEP * scale_of(unique)
    slopes = []
    for k, step in enumerate(steps):
        u = (which == k) * step
        slopes.append((evaluate(x + u) - evaluate(x - u)).ravel() / (2 * step))
    return np.stack(slopes)


def _as_matrix(subject: Subject, v: Variable | Output, point: Point, y: Array) -> Array | None:
    """The backward as a matrix: column j is what it gives for a dy that is 1 at element j and 0 elsewhere."""
    columns = []
    for j in range(y.size):
        unit = np.zeros(y.size)
        unit[j] = 1
        columns.append(_pull(subject, v, point, unit.reshape(y.shape)).ravel())
    matrix = np.stack(columns, axis=1)
    dy = np.asarray(np.random.default_rng(0).standard_normal(y.shape))
    is_linear = all(np.allclose(matrix @ d.ravel(), _pull(subject, v, point, d).ravel()) for d in (dy, -dy))
    return matrix if is_linear and np.isfinite(matrix).all() else None


def _jacobian(subject: Subject, v: Variable | Output, inputs: list) -> Array:
    """∂y/∂v by central differences, elements of v by elements of y."""
    evaluate, x, scale = v.as_argument(subject, inputs), v.value(inputs), v.scale(inputs)
    rows = []
    for i in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[i] += STEP * scale[i]
        behind[i] -= STEP * scale[i]
        rows.append((evaluate(ahead) - evaluate(behind)).ravel() / (ahead[i] - behind[i]))
    return np.stack(rows)

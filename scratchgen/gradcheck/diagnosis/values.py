"""Gradients of something else: of a layer with a flipped kernel or transposed weights, or of another variable."""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis.evidence import Evidence
from scratchgen.gradcheck.diagnosis.fit import allowance
from scratchgen.gradcheck.diagnosis.words import axes_named


def by_other_values(evidence: Evidence) -> str:
    """Whether the backward's gradient is the true one for other values of a parameter, or of another variable."""
    given = evidence.given()
    allowed = allowance(given, evidence.true())
    if given.size < 8:
        return ""

    def is_given(gradients: list[Array] | None) -> bool:
        return gradients is not None and bool(
            np.linalg.norm(np.concatenate([g.ravel() for g in gradients]) - given) <= allowed
        )

    for name in evidence.scenes[0].others:
        if all(s.others[name].size == s.given.size for s in evidence.scenes):
            if is_given([s.others[name] for s in evidence.scenes]):
                other, mine = ([getattr(s, at) for s in evidence.scenes] for at in ("others_given", "true"))
                both = all(np.allclose(o[name].ravel(), m.ravel()) for o, m in zip(other, mine, strict=True))
                return f"it is the gradient of {_of(name)}" + (": the two are exchanged" if both else ", not its own")
            if all(s.others[name].shape == s.given.shape[::-1] for s in evidence.scenes) and is_given(
                [s.others[name].T for s in evidence.scenes]
            ):
                return f"it is the gradient of {_of(name)}, transposed"
    for name, value in evidence.parameters.items():
        if f"{name}.grad" == evidence.name:
            continue
        if value.ndim == 2 and value.shape[0] == value.shape[1] and is_given(evidence.changed(name, np.transpose)):
            return f"it is the gradient of a layer whose {name} is transposed: {name} and {name}ᵀ are mixed up"
        if value.ndim >= 3 or value.ndim == 1:
            for axes in (a for count in (1, 2) for a in combinations(range(value.ndim), count)):
                if min(value.shape[a] for a in axes) > 1 and is_given(evidence.changed(name, _flip(axes))):
                    return _flipped(evidence, name, value, axes)
    return ""


def _flipped(evidence: Evidence, name: str, value: Array, axes: tuple[int, ...]) -> str:
    """What it means: a kernel may lie along these axes, or not."""
    x = evidence.scenes[0].inputs[0]
    if max(axes) < value.ndim - 2 or (value.ndim == 1 and value.shape[0] not in np.shape(x)):
        return (
            f"it is the gradient of a layer whose kernel {name} is flipped: its index runs the wrong way in dx, as "
            "where correlation and convolution are mixed up"
        )
    return f"it is the gradient of a layer whose {name} is reversed, along {axes_named(axes)}"


def _flip(axes: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda W: np.flip(W, axes).copy()


def _of(name: str) -> str:
    return name.removesuffix(".grad") if name.endswith(".grad") else name.removeprefix("d")

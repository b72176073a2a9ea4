"""What a training step reports, gathered without waiting for it, and searched for the first number gone bad."""

import math
from collections import defaultdict
from itertools import groupby

import numpy as np

from scratchgen.backend import array_library, backend_of, kernels, to_host
from scratchgen.layers.layer import Module
from scratchgen.optim import Optimizer


class NotFinite(ArithmeticError):
    """A loss or gradient is no longer a number; the message names the first, and `where` is the step, in words.
    `updated`: an optimizer has stepped in that step before, as that of a GAN's discriminator has when G's loss
    comes."""

    def __init__(self, message: str, where: str = "", *, updated: bool = False):
        super().__init__(message)
        self.where, self.updated = where, updated


class Means:
    """Running means of named numbers, each weighted by its number of samples."""

    def __init__(self, sums=None):
        self._sums = defaultdict(lambda: [0.0, 0], {name: list(pair) for name, pair in (sums or {}).items()})

    def add(self, name: str, value: float, count: int) -> None:
        self._sums[name][0] += value * count
        self._sums[name][1] += count

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self._sums.items()}

    def state(self) -> dict[str, list]:
        return {name: list(pair) for name, pair in self._sums.items()}


class Watch:
    """`watch(name, number)` inside a step; the norms of all gradients before each update; `fetch()` now and then.

    Numbers stay where they were computed, on a GPU too, until `fetch` brings them over.
    """

    def __init__(self, model: Module, optimizers: dict[str, Optimizer]):
        names = {id(p): name for name, p in model.named_parameters().items()}
        for key, optimizer in optimizers.items():
            label = "gradient" if len(optimizers) == 1 else f"{key}_gradient"
            tensors = [f"gradient of {names[id(p)]}" for p in optimizer.parameters]
            optimizer.before_step = self._looker(label, tensors)
        self._step: list[tuple] = []
        self._pending: list[tuple[str, int, list]] = []

    def __call__(self, name: str, value) -> None:
        self._step.append((name, value, None))

    def _looker(self, label, tensors):
        def look(optimizer) -> None:
            gradients = [p.grad for p in optimizer.parameters]
            self._step.append((label, kernels(gradients[0]).square_sums(gradients), tensors))

        return look

    def end_step(self, where: str, count: int) -> None:
        """Close a step on `count` samples; `where` says when it was, for a message."""
        self._pending.append((where, count, self._step))
        self._step = []

    def fetch(self, *means: Means) -> None:
        """Bring the numbers of all steps since the last fetch over, and add them to the means.

        NotFinite for the first that is not: in the order of the computation, which for gradients is from the last
        layer to the first.
        """
        pending, self._pending = self._pending, []
        numbers = iter(_on_host([value for _, _, step in pending for _, value, _ in step]))
        for where, count, step in pending:
            updated = False
            for name, _, tensors in step:
                if tensors is not None:
                    squares = next(numbers)
                    bad = [t for t, s in zip(tensors, squares, strict=True) if not math.isfinite(s)]
                    if bad:
                        raise NotFinite(f"the {bad[-1]} is no longer finite {where}", where, updated=updated)
                    updated = True
                    number = math.sqrt(sum(squares))
                else:
                    (number,) = next(numbers)
                    if not math.isfinite(number):
                        raise NotFinite(f"{name} is no longer finite {where}", where, updated=updated)
                for mean in means:
                    mean.add(name, number, count)


def _on_host(values: list) -> list[list[float]]:
    """What each value, a number or an array of numbers, holds; all that lie on a GPU come over in one transfer."""
    flat = [v.reshape(-1) if hasattr(v, "reshape") else np.array([v], float) for v in values]
    far = [i for i, v in enumerate(flat) if backend_of(v) != "numpy"]
    if far:
        join = array_library(flat[far[0]]).concatenate
        far.sort(key=lambda i: flat[i].dtype.str)  # arrays of one type are joined in one launch
        groups = [join([flat[i] for i in group]) for _, group in groupby(far, key=lambda i: flat[i].dtype.str)]
        ends = np.cumsum([flat[i].size for i in far])
        for i, part in zip(far, np.split(to_host(join(groups)), ends[:-1]), strict=True):
            flat[i] = part
    return [v.tolist() for v in flat]

"""What a training step reports, gathered without waiting for it, and searched for the first value not finite."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from scratchgen.backend import array_library, backend_of, kernels, to_host
from scratchgen.layers.module import Module
from scratchgen.optim import Optimizer


class NotFinite(ArithmeticError):
    """A loss or gradient is no longer finite; the message names the first, and `where` is the step, in words.
    `updated`: an optimizer has already stepped in that step, as that of the discriminator has before G's loss."""

    def __init__(self, message: str, where: str = "", *, updated: bool = False):
        super().__init__(message)
        self.where, self.updated = where, updated


class Means:
    """Running means of named values, each weighted by its number of samples."""

    def __init__(self, sums: Mapping[str, Iterable] | None = None):
        before = {name: list(pair) for name, pair in (sums or {}).items()}
        self._sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0], before)

    def add(self, name: str, value: float, count: int) -> None:
        self._sums[name][0] += value * count
        self._sums[name][1] += count

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self._sums.items()}

    def state(self) -> dict[str, list[Any]]:
        return {name: list(pair) for name, pair in self._sums.items()}


class Reported(NamedTuple):
    """A loss, or the squared norms of gradients, whose names are `tensors`."""

    name: str
    value: Any
    tensors: list[str] | None = None


class Watch:
    """The losses of a step, and the norms of all gradients before each update; `fetch()` now and then.

    Values stay where they were computed, on a GPU too, until `fetch` brings them over.
    """

    def __init__(self, model: Module, optimizers: dict[str, Optimizer]):
        names = {id(p): name for name, p in model.named_parameters().items()}
        for key, optimizer in optimizers.items():
            player = "" if len(optimizers) == 1 else f"{key}_"
            tensors = [f"gradient of {names[id(p)]}" for p in optimizer.parameters]
            optimizer.before_step = self._looker(player, tensors)
        self._norms: dict[
            str, Reported
        ] = {}  # of the step under way, by player: "d_", "g_", or "" where there is one
        self._pending: list[tuple[str, int, list[Reported]]] = []

    def _looker(self, player: str, tensors: list[str]) -> Callable[[Optimizer], None]:
        def look(optimizer: Optimizer) -> None:
            gradients = [p.grad for p in optimizer.parameters]
            squares = kernels(gradients[0]).square_sums(gradients)
            self._norms[player] = Reported(f"{player}gradient", squares, tensors)

        return look

    def end_step(self, where: str, count: int, losses: Mapping[str, Any]) -> None:
        """Close a step on `count` samples; `where` says when it was, for a message. A player's gradients come after
        its loss, "d_loss" or "loss"."""
        found = []
        for name, value in losses.items():
            found.append(Reported(name, value))
            if name.endswith("loss") and name.removesuffix("loss") in self._norms:
                found.append(self._norms.pop(name.removesuffix("loss")))
        self._pending.append((where, count, found + list(self._norms.values())))
        self._norms = {}

    def fetch(self, *means: Means) -> None:
        """Bring the values of all steps since the last fetch over, and add them to the means.

        NotFinite for the first that is not finite: in the order of the computation, which for gradients is from the
        last layer to the first.
        """
        pending, self._pending = self._pending, []
        arrays = iter(_on_host([reported.value for _, _, step in pending for reported in step]))
        for where, count, step in pending:
            updated = False
            for name, _, tensors in step:
                values = next(arrays)
                names = tensors or [name]
                bad = [n for n, value in zip(names, values, strict=True) if not math.isfinite(value)]
                if bad:
                    what = f"the {bad[-1]}" if tensors else name
                    raise NotFinite(f"{what} is no longer finite {where}", where, updated=updated)
                updated |= tensors is not None
                for mean in means:
                    mean.add(name, math.sqrt(sum(values)) if tensors else values[0], count)


def _on_host(values: list[Any]) -> list[list[float]]:
    """What each value, a number or an array, holds; all that lie on a GPU come over in one transfer."""
    flat = [v.reshape(-1) if hasattr(v, "reshape") else np.array([v], float) for v in values]
    on_gpu = [i for i, v in enumerate(flat) if backend_of(v) != "numpy"]
    if on_gpu:
        join = array_library(flat[on_gpu[0]]).concatenate
        on_gpu.sort(key=lambda i: flat[i].dtype.str)  # arrays of one type are joined in one launch
        groups = [join([flat[i] for i in group]) for _, group in groupby(on_gpu, key=lambda i: flat[i].dtype.str)]
        ends = np.cumsum([flat[i].size for i in on_gpu])
        for i, part in zip(on_gpu, np.split(to_host(join(groups)), ends[:-1]), strict=True):
            flat[i] = part
    return [v.tolist() for v in flat]

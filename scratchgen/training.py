"""The training loop, and the folder in which a run leaves what it made."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scratchgen.backend import transfer
from scratchgen.data import epoch_rng, minibatches
from scratchgen.files import atomic_write
from scratchgen.weights import save_weights

FETCH_EVERY = 10  # steps between looks at the loss, which on a GPU wait for it


class NotFinite(ArithmeticError):
    """The loss is no longer a number; the message says when."""


def epochs(
    step: Callable, images, *, epochs: int, batch_size: int, seed: int, backend: str = "numpy", progress: bool = True
) -> Iterator[dict]:
    """Go through the images `epochs` times, calling step(batch) → loss on each minibatch; yields after each epoch
    {"epoch", "loss": its mean per sample, "seconds", "images_per_second"}.

    The order of the data is a function of seed and epoch alone. Raises NotFinite at the first loss that is not.
    """
    for epoch in range(1, epochs + 1):
        batches = minibatches(images, batch_size, epoch_rng(seed, epoch))
        total, seen, start = 0.0, 0, time.perf_counter()
        bar = tqdm(
            total=len(images),
            desc=f"epoch {epoch}/{epochs}",
            unit=" images",
            leave=False,
            disable=None if progress else True,
        )
        with bar:
            pending = []
            for i, batch in enumerate(batches, start=1):
                with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at below
                    loss = step(transfer(batch, backend))
                pending.append((loss, len(batch)))
                seen += len(batch)
                if i % FETCH_EVERY == 0 or seen == len(images):
                    total += _fetch(pending, epoch, i)
                    pending = []
                    bar.set_postfix_str(f"loss {total / seen:.2f}", refresh=False)
                bar.update(len(batch))
        seconds = time.perf_counter() - start
        yield {
            "epoch": epoch,
            "loss": total / seen,
            "seconds": round(seconds, 3),
            "images_per_second": round(seen / seconds, 1),
        }


def _fetch(pending, epoch: int, step: int) -> float:
    """The sum of losses over samples."""
    total = sum(float(loss) * n for loss, n in pending)
    if not math.isfinite(total):
        raise NotFinite(f"the loss is no longer finite in epoch {epoch}, by step {step}: try a lower learning rate")
    return total


class RunFolder:
    """A folder for one run: config.json, metrics.jsonl, weights.safetensors and pictures."""

    def __init__(self, path):
        """Make the folder. FileExistsError when there is something in it: a run is never written over."""
        self.path = Path(path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(f"{self.path} is there already and not empty; choose another folder with --out")
        self.path.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def unused(parent, name: str) -> Path:
        """parent/name, or parent/name-2, -3, … : the first that is not there."""
        candidates = [name, *(f"{name}-{i}" for i in range(2, 10_000))]
        return next(Path(parent) / c for c in candidates if not (Path(parent) / c).exists())

    def write_config(self, config: dict) -> None:
        with atomic_write(self.path / "config.json") as stream:
            stream.write((json.dumps(config, indent=2) + "\n").encode())

    def log(self, record: dict) -> None:
        """Append one line to metrics.jsonl: a JSON object."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def save_weights(self, model) -> None:
        save_weights(model, self.path / "weights.safetensors")

    def save_figure(self, figure, name: str) -> Path:
        path = self.path / name
        with atomic_write(path) as stream:
            figure.savefig(stream, format="png", dpi=figure.dpi)
        return path

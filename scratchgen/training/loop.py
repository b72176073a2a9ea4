"""The training loop: steps, the values that they report, checkpoints in between, and an exact way back in.

Some epochs are *marked*: what was learned since the last one is summed up in a record, and the caller saves, measures
and draws. Which they are is a function of the settings, so that the same run leaves the same records.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np

from scratchgen import checks
from scratchgen.backend import fast
from scratchgen.data import augmented, epoch_rng, minibatches
from scratchgen.layers.module import Module
from scratchgen.optim import Optimizer
from scratchgen.progress import tqdm
from scratchgen.schedules import SCHEDULES, share
from scratchgen.training.checkpoint import load_checkpoint, save_checkpoint
from scratchgen.training.feed import feed
from scratchgen.training.watch import Means, NotFinite, Watch

FETCH_EVERY = 10  # steps between two fetches of the losses, which wait for a GPU
RECORDS = 40  # records of an epoch, at the most
MARKS = 20  # marked epochs among as many as have passed, about
_NOISE, _AUGMENTATION = 0x0153, 0xA063  # keep their streams apart from all others of the same seed


@dataclass
class Settings:
    """How long and in which order a model is trained."""

    epochs: int
    batch_size: int
    seed: int
    decay: str = "none"  # of the learning rate: a name in `schedules.SCHEDULES`
    warmup: int = 0  # steps at the start in which the learning rate grows to its full size
    drop_last: bool = False  # leave out a last batch that is smaller: one sample alone has no batch statistics
    backend: str = "numpy"
    sample_every: int | None = None  # epochs from one mark to the next; None: see `is_marked`
    mark_steps: int = 1  # from one mark to the next, at the least, unless sample_every says otherwise
    augment: tuple[str, ...] = ()  # what is done to each image before it is shown, see `data.augmented`


def steps_per_epoch(samples: int, batch_size: int, drop_last: bool) -> int:
    """The batches of an epoch."""
    return samples // batch_size if drop_last else -(-samples // batch_size)


class Stopped(Exception):
    """The run was asked to stop; everything up to now is in the checkpoint."""


class StepTooLarge(MemoryError):
    """A training step needs more memory than there is; everything before it is as it was."""


class Trainable(Protocol):
    """What `Training` needs: a model, its optimizers by name, and its training step."""

    @property
    def model(self) -> Module: ...

    @property
    def optimizers(self) -> dict[str, Optimizer]: ...

    def step(self, batch: Any, rng: np.random.Generator) -> Mapping[str, Any]:
        """Take one training step; its losses by name."""

    def advice(self, *, updated: bool) -> str:
        """What to try where a value is no longer finite; `updated` when weights had been updated before."""


class Training:
    """Trains on an array of images or points, in epochs that can be left and entered anywhere.

    The order of the data is a function of seed and epoch; the noise of the steps is drawn from a generator whose
    state is in the checkpoint.
    """

    def __init__(self, recipe: Trainable, samples: np.ndarray, settings: Settings):
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("warmup", 0)):
            checks.integer("Training", name, getattr(settings, name), least)
        self.recipe, self.samples, self.settings = recipe, samples, settings
        self.steps_per_epoch = steps_per_epoch(len(samples), settings.batch_size, settings.drop_last)
        self.rates = {key: optimizer.lr for key, optimizer in recipe.optimizers.items()}
        self.rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(_NOISE,)))
        self.watch = Watch(recipe.model, recipe.optimizers)
        self.epoch, self.step = 1, 0  # the epoch under way, its steps so far
        self.seconds = 0.0  # of the run by the clock, whatever was done in them
        self._began: float | None = None  # when it would have, were it of one piece
        self.of_epoch, self.recent = Means(), Means()  # since the last mark, and since the last record
        self.ended: dict[str, Any] | None = None  # the record of the epoch that was marked last

    @property
    def steps(self) -> int:
        """Steps taken since the start."""
        return (self.epoch - 1) * self.steps_per_epoch + self.step

    @property
    def finished(self) -> bool:
        return self.epoch > self.settings.epochs

    def is_marked(self, epoch: int, steps: int | None = None) -> bool:
        """Whether an epoch is summed up at its end: the last is, and every `sample_every`th. Without that every 1st,
        2nd, 5th, 10th, 20th …: the first of these with `mark_steps` steps or more between two, and MARKS of them or
        fewer among the epochs so far; `steps` in the place of `mark_steps` gives a part of them."""
        if epoch == self.settings.epochs:
            return True
        if self.settings.sample_every is not None:
            return epoch % self.settings.sample_every == 0
        least = max(epoch / MARKS, (steps or self.settings.mark_steps) / self.steps_per_epoch)
        gaps = (digit * 10**power for power in count() for digit in (1, 2, 5))
        return epoch % next(gap for gap in gaps if gap >= least) == 0

    def tick(self) -> float:
        """The seconds of the run, now."""
        if self._began is not None:
            self.seconds = time.perf_counter() - self._began
        return self.seconds

    # --- checkpoints ---

    def save(self, path: str | os.PathLike[str], about: Mapping[str, object] | None = None) -> None:
        """Write a checkpoint, with what is to be kept `about` it.

        NotFinite, and the old one stays, when a weight, a loss or a gradient norm is not finite.
        """
        self._fetch()
        self.tick()
        position = {
            **(about or {}),
            "epoch": self.epoch,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
            "of_epoch": self.of_epoch.state(),
            "recent": self.recent.state(),
            "ended": self.ended,
        }
        try:
            save_checkpoint(path, self.recipe.model, self.recipe.optimizers, position)
        except NotFinite as error:
            raise NotFinite(f"{error} after step {self.steps}: {self.recipe.advice(updated=True)}") from None

    def load(
        self, path: str | os.PathLike[str], *, check: Callable[[dict], None] = lambda about: None
    ) -> dict[str, Any]:
        """Go back to a checkpoint, exactly, and return what is kept about it, which `check` may refuse.

        ValueError, before anything changes, when it does not fit this run.
        """

        def check_all(position: dict) -> None:
            check(position)
            self._check(position)

        position = load_checkpoint(path, self.recipe.model, self.recipe.optimizers, check=check_all)
        self.epoch, self.step, self.seconds = position["epoch"], position["step"], position["seconds"]
        self.rng.bit_generator.state = position["rng"]
        self.of_epoch, self.recent = Means(position["of_epoch"]), Means(position["recent"])
        self.ended = position.get("ended")  # not in checkpoints of 0.1.0
        return position

    def _check(self, position: dict) -> None:
        """Complains unless a checkpoint's position is one of this run."""
        if position["steps_per_epoch"] != self.steps_per_epoch:
            raise ValueError(
                f"it is of a run with {position['steps_per_epoch']} steps per epoch, this one has "
                f"{self.steps_per_epoch}: the data or the batch size is another"
            )
        if checks.integer("checkpoint", "step", position["step"], least=0) >= self.steps_per_epoch:
            raise ValueError(f"it is after step {position['step']} of {self.steps_per_epoch}")
        checks.integer("checkpoint", "epoch", position["epoch"])
        checks.real("checkpoint", "seconds", position["seconds"], lambda s: s >= 0, "a number of at least 0")
        np.random.default_rng(0).bit_generator.state = position["rng"]
        for means in (position["of_epoch"], position["recent"]):
            Means(means).means()
        ended = position.get("ended")
        if ended is not None and not {"epoch", "step", "seconds", "per_second"} <= ended.keys():
            raise ValueError(f"its record of the last epoch has only {', '.join(ended)}")
        for name, value in (ended or {}).items():
            checks.real("checkpoint", name, value, lambda _: True, "a number")

    # --- the loop ---

    def train(
        self,
        *,
        on_record: Callable[[dict[str, Any]], None] = lambda record: None,
        on_pause: Callable[[], bool] = lambda: False,
        progress: bool = True,
    ) -> Iterator[dict[str, Any]]:
        """Train to the last epoch; yields a record at the end of each marked epoch: mean losses since the mark
        before, `seconds` of the run by the clock, and samples `per_second` while steps were taken.

        `on_record` gets the means over the last few steps; `on_pause` is called after every other step, and may look
        at the clock, save, and draw; Stopped is raised when it returns True.
        """
        self._speed = _Speed()
        self._began = time.perf_counter() - self.seconds
        size = len(self.samples)
        if self.settings.drop_last:
            size = self.steps_per_epoch * self.settings.batch_size
        bar = tqdm(
            total=size * self.settings.epochs,
            initial=size * (self.epoch - 1) + self.step * self.settings.batch_size,
            unit=" samples",
            unit_scale=True,
            leave=False,
            smoothing=0.1,
            dynamic_ncols=True,
            disable=None if progress else True,
        )
        with bar:
            while not self.finished:
                bar.set_description_str(f"epoch {self.epoch}/{self.settings.epochs}", refresh=False)
                self._train_epoch(bar, on_record, on_pause)
                marked = self.is_marked(self.epoch)
                if marked:
                    record = {"epoch": self.epoch, "step": self.steps, **self.of_epoch.means()}
                    record |= {"seconds": round(self.tick(), 3), "per_second": round(self._speed.per_second, 1)}
                    self._speed, self.of_epoch, self.ended = _Speed(), Means(), dict(record)
                self.epoch, self.step = self.epoch + 1, 0
                if marked:
                    bar.clear()
                    yield record
                elif on_pause():
                    raise Stopped
        for key, optimizer in self.recipe.optimizers.items():
            optimizer.lr = self.rates[key]  # for whoever goes on by hand

    def _train_epoch(
        self, bar: tqdm, on_record: Callable[[dict[str, Any]], None], on_pause: Callable[[], bool]
    ) -> None:
        """The steps that are left of the epoch."""
        steps = self.steps_per_epoch
        every = max(FETCH_EVERY, -(-steps // RECORDS // FETCH_EVERY) * FETCH_EVERY)
        recorded = self.epoch % -(-FETCH_EVERY // steps) == 0 or self.is_marked(self.epoch)  # at its end
        with closing(feed(self.batches(), self.settings.backend)) as batches:
            started, waited = time.perf_counter(), fast.waited
            batch = next(batches, None)
            while batch is not None:
                size = len(batch)
                try:
                    self._one_step(batch)
                except MemoryError as error:
                    raise StepTooLarge(str(error)) from error
                batch = next(batches, None)  # made and on its way while a GPU is at the step
                bar.update(size)
                last = self.step == steps
                if self.step % FETCH_EVERY == 0 or last:
                    self._fetch()
                    values = ", ".join(f"{name} {value:.3g}" for name, value in self.recent.means().items())
                    bar.set_postfix_str(values, refresh=False)
                self._speed.add(size, time.perf_counter() - started - (fast.waited - waited))
                if self.step % every == 0 or (last and recorded):
                    on_record({"step": self.steps, "epoch": self.steps / steps, **self.recent.means()})
                    self.recent = Means()
                if not last and on_pause():
                    raise Stopped
                started, waited = time.perf_counter(), fast.waited

    def batches(self) -> Iterator[np.ndarray]:
        """The batches of this epoch, from its next step on; each has the length of its number of samples."""
        seed, epoch, kinds = self.settings.seed, self.epoch, self.settings.augment

        def changed(images: np.ndarray, batch: int) -> np.ndarray:
            key = (_AUGMENTATION, epoch, batch)
            return augmented(images, kinds, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)))

        return minibatches(
            self.samples,
            self.settings.batch_size,
            epoch_rng(seed, epoch),
            start=self.step,
            drop_last=self.settings.drop_last,
            change=changed if kinds else None,
        )

    def _one_step(self, batch: Any) -> None:
        if self.settings.decay != "none" or self.settings.warmup:
            schedule, steps = SCHEDULES[self.settings.decay], self.settings.epochs * self.steps_per_epoch
            of_lr = share(schedule, self.steps, steps, warmup=self.settings.warmup)
            for key, optimizer in self.recipe.optimizers.items():
                optimizer.lr = self.rates[key] * of_lr
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is found by the watch
            losses = self.recipe.step(batch, self.rng)
        self.step += 1
        self.watch.end_step(_where(self.epoch, self.step), len(batch), losses)

    def _fetch(self) -> None:
        try:
            self.watch.fetch(self.of_epoch, self.recent)
        except NotFinite as error:
            advice = self.recipe.advice(updated=error.updated or error.where != _where(1, 1))
            raise NotFinite(f"{error}: {advice}", error.where) from None


class _Speed:
    """Samples, and the seconds of their steps."""

    def __init__(self) -> None:
        self.samples, self.seconds = 0, 0.0

    def add(self, samples: int, seconds: float) -> None:
        self.samples, self.seconds = self.samples + samples, self.seconds + seconds

    @property
    def per_second(self) -> float:
        return self.samples / max(1e-9, self.seconds)


def _where(epoch: int, step: int) -> str:
    return f"in epoch {epoch}, step {step}"

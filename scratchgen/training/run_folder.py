"""The folder of a run: it holds everything that belongs to it.

Its files are written in this order: config.json first; records as they come; at a checkpoint the records so far have
reached the disk, then the checkpoint is written, then the weights. The record of an epoch comes after these, once
the epoch is measured; until then it is in the checkpoint, without the measures. So after a kill or a power cut the
weights may be older than the checkpoint, never newer, and the records may be newer, by an epoch at the most, but for
that one never older.

Each file says of which run it is: by the `id` in config.json, a digest of the settings. So the same run has the same
files, byte for byte. Only times differ: `seconds` and `per_second`, in the records and in the checkpoint, and the
seconds that report.html shows.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL.PngImagePlugin import PngInfo

from scratchgen.files import InUse, atomic_write, clear, locked, make_folder, naming, read_json, sync
from scratchgen.layers.module import Module
from scratchgen.paths import as_path
from scratchgen.plots import write_figure
from scratchgen.safetensors_file import read_arrays
from scratchgen.schema import Kind, check, text, whole
from scratchgen.training.loop import Training
from scratchgen.training.records import COUNT, NUMBER, Records, read_records
from scratchgen.weights import fit, save_weights

TRAINED = (  # what comes after the first checkpoint
    "weights.safetensors",
    "weights/*.safetensors",
    "samples/latest.png",
    "evaluation/*",
    "samples/epoch-*.png",
)


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and all(map(text.fits, row)) for row in value
    )


MEASURES = {
    "data": text,
    "data_sha256": text,
    "epoch": COUNT,
    "step": COUNT,
    "run": text,
    "rows": Kind("a list of pairs of texts", _is_pairs),
}
MARKS = {"run": text, "step": COUNT}  # in what weights say about themselves
POSITION = {"epoch": whole(1), "step": COUNT, "steps_per_epoch": whole(1), "seconds": NUMBER}
SHEET = re.compile(r"epoch-[0-9]+\.png")


class Position(NamedTuple):
    """How far weights are trained."""

    steps: int
    steps_per_epoch: int
    seconds: float

    @property
    def epochs(self) -> int:
        """Those that are over."""
        return self.steps // self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """The one in which the last step was."""
        return -(-self.steps // self.steps_per_epoch)


def epoch_of(sheet: Path) -> int:
    """After which epoch a sheet of `RunFolder.sheets` was made."""
    return int(sheet.stem.removeprefix("epoch-"))


class OutOfStep(ValueError):
    """A run's weights or records do not belong to its checkpoint: to go on from there would lose them."""


class RunFolder:
    """config.json, metrics.jsonl, checkpoint.safetensors, weights.safetensors, samples/, curves and report.html."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = as_path(path)
        self._logged = 0  # the step of the last record

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: dict[str, Any]) -> "RunFolder":
        """Make the folder. FileExistsError when there is something in it: a run is never written over, not even by
        another that is made at the same moment."""
        folder = cls(path)
        folder._check_empty()
        make_folder(folder.path)
        try:
            with locked(folder.path / ".lock"):
                folder._check_empty()  # no other was faster
                clear(folder.path)
                folder.write_json("config.json", config)  # the first file: a run killed hereafter can be resumed
        except InUse:
            raise FileExistsError(f"{path} is taken by another run; choose another folder with --out") from None
        make_folder(folder.path / "samples")
        return folder

    def _check_empty(self) -> None:
        path = self.path
        if path.exists() and (not path.is_dir() or any(not p.name.startswith(".") for p in path.iterdir())):
            raise FileExistsError(f"{path} is there already and not empty; choose another folder with --out")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """A run that is there. FileNotFoundError when the folder is none, ValueError when its config is damaged."""
        folder = cls(path)
        if not (folder.path / "config.json").is_file():
            what = "there is no config.json in it" if folder.path.is_dir() else "there is no such folder"
            if folder.path.is_file():
                its = next((f for f in folder.path.absolute().parents if (f / "config.json").is_file()), None)
                what = f"it is a file, give {its}" if its else "it is a file, give the folder that train made"
            raise FileNotFoundError(f"{path} is not a run folder: {what}")
        folder.config()
        return folder

    @staticmethod
    def unused(parent: str | os.PathLike[str], name: str) -> Path:
        """parent/name, or parent/name-2, -3, … : the first that is not there."""
        candidates = [name, *(f"{name}-{i}" for i in range(2, 10_000))]
        parent = as_path(parent)
        return next(parent / c for c in candidates if not os.path.lexists(parent / c))

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Only one process trains a run at a time: InUse, which says who, when another does; readers need no lock.

        False where the file system has no locks, so that another would go unnoticed.
        """
        try:
            with locked(self.path / ".lock") as held:
                yield held
        except InUse as holder:
            raise InUse(f"{self.path} is being trained by {holder}: wait for its end, or stop it") from None

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def trained(self) -> Path:
        """What weights are taken from: those of the checkpoint where they have no file of their own."""
        return self.weights if self.weights.exists() else self.checkpoint

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @cached_property
    def id(self) -> str | None:
        """What all files of the run bear; None for a run from before there were ids."""
        return self.config().get("id")

    def config(self) -> dict[str, Any]:
        """What the run was started with, as it is written there. ValueError when it cannot be read."""
        config = read_json(self.path / "config.json")
        try:
            check(config, {"model": text, "id": text}, required=("model",))
        except ValueError as error:
            raise ValueError(f"{self.path / 'config.json'} is damaged: {error}") from None
        return config

    def write_json(self, name: str, content: object) -> None:
        with atomic_write(self.path / name) as stream:
            stream.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    # --- the state of training ---

    def save(self, training: Training) -> None:
        """Write a checkpoint and the weights. NotFinite, and the old ones stay, when a value is no longer finite."""
        sync(self.metrics)
        training.save(self.checkpoint, {**self._mark(), "logged": self._logged})
        self.save_weights(training)

    def save_weights(self, training: Training, name: str = "weights.safetensors") -> Path:
        path = self.path / name
        make_folder(path.parent)
        save_weights(training.recipe.model, path, about={**self._mark(), "step": training.steps})
        return path

    def restore(self, training: Training, *, force: bool = False) -> list[str]:
        """Take a training that has not begun to where the run was; notes on what is damaged and will be written anew.

        ValueError, and nothing is written: when the checkpoint is missing although something was trained, is damaged,
        or of another run; unless `force`, OutOfStep when weights or records are of another run, or newer than the
        checkpoint, or records that were there before it are missing.
        """
        records = self.records()
        if not self.checkpoint.exists():
            left = self._left_of_training(records)
            if left:
                raise ValueError(
                    f"{self.checkpoint} is missing, and {left} shows that the run was trained: put it back, or start "
                    "a new run"
                )
            return []
        position = training.load(self.checkpoint, check=self._is_ours)
        fault, notes = self._fault_of_weights(training.steps)
        if records.unreadable:
            notes.append(f"{self.metrics}: {records.note}")
        fault = fault or self._fault_of_records(records, training, position)
        if fault and not force:
            raise OutOfStep(fault)
        return notes

    def load_weights(self, model: Module) -> None:
        """Give a model the weights of the run, or those of its checkpoint where the weights are missing.

        FileNotFoundError when there are none; ValueError when they are damaged, of another run or another model.
        """
        path = self.trained
        if not path.exists():
            if self._left_of_training(self.records()):
                raise FileNotFoundError(f"{self.weights} is missing, and so is the checkpoint")
            raise FileNotFoundError(f"{self.path} has no weights yet: it was stopped before its first step")
        arrays, about = read_arrays(path, ours=False)
        if about.get("run", self.id) != self.id:  # weights that a user put there say nothing of a run
            raise ValueError(f"{path} is of another run")
        if path == self.checkpoint:
            arrays = {k.removeprefix("model/"): a for k, a in arrays.items() if k.startswith("model/")}
        fit(model, arrays, path)

    def position(self) -> Position:
        """How far the weights are trained: as they say and the checkpoint, or else as far as the records go."""
        records = self.records()
        steps = records.step
        seconds = max((r["seconds"] for r in records if NUMBER.fits(r.get("seconds"))), default=0)
        rates = (r["step"] / r["epoch"] for r in records if r.get("step") and r.get("epoch"))
        steps_per_epoch = max(1, round(next(rates, steps)))
        try:
            _, found = read_arrays(self.checkpoint)
            check(found, POSITION, required=tuple(POSITION))
            steps_per_epoch, seconds = found["steps_per_epoch"], found["seconds"]
            steps = (found["epoch"] - 1) * steps_per_epoch + found["step"]
        except (OSError, ValueError):
            pass
        with suppress(OSError, ValueError):
            _, about = read_arrays(self.weights, ours=False)
            check(about, MARKS)
            if about.get("run", self.id) == self.id:
                steps = about.get("step", steps)
        return Position(steps, steps_per_epoch, seconds)

    def _mark(self) -> dict[str, Any]:
        return {} if self.id is None else {"run": self.id}

    def _is_ours(self, position: dict[str, Any]) -> None:
        check(position, {"run": text, "logged": COUNT})
        if position.get("run") != self.id:
            raise ValueError("it is of another run")

    def _left_of_training(self, records: Records) -> str | None:
        """The name of a file that only training beyond the first checkpoint leaves; None when there is none."""
        if records.step > 0 or records.unreadable:
            return self.metrics.name
        found = (p for pattern in TRAINED for p in sorted(self.path.glob(pattern)) if p.name != "epoch-000.png")
        first = next(found, None)
        return str(first.relative_to(self.path)) if first else None

    def _fault_of_weights(self, steps: int) -> tuple[str | None, list[str]]:
        """Why weights.safetensors may not be written over, and notes."""
        try:
            _, about = read_arrays(self.weights, ours=False)
            check(about, MARKS)
        except FileNotFoundError:
            return None, []
        except ValueError as error:
            return None, [f"{error}; they are taken from the checkpoint"]
        if about.get("run") != self.id:
            return f"{self.weights} is of another run", []
        if about.get("step", 0) > steps:
            return f"{self.checkpoint} is of step {steps:,}, and {self.weights.name} of step {about['step']:,}", []
        return None, []

    def _fault_of_records(self, records: Records, training: Training, position: dict[str, Any]) -> str | None:
        """Why training may not go on with these records."""
        logged = position.get("logged", (training.epoch - 1) * training.steps_per_epoch)
        if any(r["kind"] == "run" and r.get("id") != self.id for r in records):
            return f"{self.metrics} is of another run"
        if records.step > training.epoch * training.steps_per_epoch:
            goes = f"{self.metrics.name} goes to step {records.step:,}"
            return f"{self.checkpoint} is of step {training.steps:,}, and {goes}"
        if records.step < logged and not records.end_unreadable:
            if not self.metrics.exists():
                return f"{self.metrics} is missing"
            ends = f"ends at step {records.step:,}" if records else "is empty"
            return f"{self.metrics} {ends}, and the checkpoint is of step {training.steps:,}"
        return None

    # --- metrics: one JSON object a line; "steps" records within an epoch, "epoch" records at its end ---

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with naming(self.metrics), open(self.metrics, "a", encoding="utf-8") as stream:
            first = [{"kind": "run", "id": self.id}] if self.id is not None and stream.tell() == 0 else []
            stream.write("".join(json.dumps(r) + "\n" for r in (*first, _finite(record))))
        self._logged = record.get("step", self._logged)
        if record["kind"] == "end":
            sync(self.metrics)

    def records(self) -> Records:
        """All lines of metrics.jsonl that can be read."""
        return read_records(self.metrics)

    @property
    def ended(self) -> bool:
        """Whether the run has come to its end, and all that belongs to this is there."""
        return self.records()[-1:] == [{"kind": "end", "state": "finished"}]

    def rewind(self, step: int) -> None:
        """Take back what was logged after that step, which a resumed run logs again, and what a killed one left."""
        for folder in (self.path, *(p for p in self.path.iterdir() if p.is_dir())):
            clear(folder)
        kept = Records(r for r in self.records() if r.get("step", 0) <= step and r["kind"] != "end")
        with atomic_write(self.metrics) as stream:
            stream.write("".join(json.dumps(r) + "\n" for r in kept).encode())
        self._logged = kept.step

    # --- what was measured ---

    def write_measures(self, measures: dict[str, Any]) -> None:
        """Keep what `scratchgen evaluate` found: its data, step, epoch and rows (pairs of texts), and more."""
        make_folder(self.path / "evaluation")
        self.write_json("evaluation/measures.json", {**self._mark(), **measures})

    def measures(self) -> dict[str, Any] | None:
        """What `scratchgen evaluate` kept last; None when there is nothing. ValueError when it is damaged, or of
        another run."""
        path = self.path / "evaluation" / "measures.json"
        if not path.is_file():
            return None
        measures = read_json(path)
        try:
            check(measures, MEASURES, required=("data", "epoch", "rows"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        if measures.get("run") != self.id:
            raise ValueError(f"{path} is of another run")
        return measures

    def own(self, measures: dict[str, Any] | None) -> dict[str, Any] | None:
        """Such measures, where they are of the data that the run was trained on; those of other data say nothing of
        how its training went."""
        if measures is None:
            return None
        config = self.config()
        if "data_sha256" in measures:
            return measures if measures["data_sha256"] == config.get("data_sha256") else None
        return None if "; this data is " in measures["data"] else measures  # of 0.1

    # --- pictures ---

    def sheets(self) -> list[Path]:
        """The sheets of samples of the marked epochs, in their order."""
        found = (self.path / "samples").glob("epoch-*.png")
        return sorted((p for p in found if SHEET.fullmatch(p.name) and p.is_file()), key=epoch_of)

    @property
    def latest_sheet(self) -> Path:
        """The sheet that was made since the last of these, if one was."""
        return self.path / "samples" / "latest.png"

    def save_picture(self, picture: Any, name: str, *, step: int | None = None) -> Path:
        """Write a matplotlib Figure or a Pillow image as PNG, which can say after which step it was made."""
        path = self.path / name
        make_folder(path.parent)
        save_picture(picture, path, {} if step is None else {"step": str(step)})
        return path


def save_picture(picture: Any, path: str | os.PathLike[str], about: Mapping[str, str] | None = None) -> None:
    """Write a matplotlib Figure or a Pillow image as PNG; the file appears whole or not at all. `about`: texts to
    keep in it, by name."""
    with atomic_write(path) as stream:
        if hasattr(picture, "savefig"):
            write_figure(picture, stream, about)
            return
        texts = PngInfo()
        for name, value in (about or {}).items():
            texts.add_text(name, value)
        picture.save(stream, format="PNG", pnginfo=texts)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null in their place."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

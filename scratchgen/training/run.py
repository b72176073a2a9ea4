"""The folder of a run: it holds everything that belongs to it."""

import json
import math
from pathlib import Path

from scratchgen.files import atomic_write
from scratchgen.plots import write_figure
from scratchgen.weights import save_weights


class RunFolder:
    """config.json, metrics.jsonl, checkpoint.safetensors, weights.safetensors, samples/, curves and report.html."""

    def __init__(self, path):
        self.path = Path(path)

    @classmethod
    def create(cls, path, config: dict) -> "RunFolder":
        """Make the folder. FileExistsError when there is something in it: a run is never written over."""
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(not p.name.startswith(".") for p in path.iterdir())):
            raise FileExistsError(f"{path} is there already and not empty; choose another folder with --out")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run._clear()
        run.write_json("config.json", config)  # the first file: a run that is killed hereafter can be resumed
        (path / "samples").mkdir(exist_ok=True)
        return run

    @classmethod
    def open(cls, path) -> "RunFolder":
        """A run that is there. FileNotFoundError when the folder is none, ValueError when its config is damaged."""
        run = cls(path)
        if not (run.path / "config.json").is_file():
            what = "no config.json in it" if run.path.is_dir() else "no such folder"
            raise FileNotFoundError(f"{path} is no run folder: there is {what}")
        run.config()
        return run

    @staticmethod
    def unused(parent, name: str) -> Path:
        """parent/name, or parent/name-2, -3, … : the first that is not there."""
        candidates = [name, *(f"{name}-{i}" for i in range(2, 10_000))]
        return next(Path(parent) / c for c in candidates if not (Path(parent) / c).exists())

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    def config(self) -> dict:
        """What the run was started with. ValueError when it cannot be read."""
        path = self.path / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(config, dict) or not isinstance(config.get("model"), str):
                raise ValueError("it names no model")
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
            raise ValueError(f"{path} is damaged: {error}") from None
        return config

    def measures(self) -> dict | None:
        """What `scratchgen evaluate` kept last; None when there is nothing, or nothing readable."""
        try:
            measures = json.loads((self.path / "evaluation" / "measures.json").read_text(encoding="utf-8"))
            return measures if {"epoch", "data", "rows"} <= measures.keys() else None
        except (OSError, ValueError, AttributeError):
            return None

    def write_json(self, name: str, content) -> None:
        with atomic_write(self.path / name) as stream:
            stream.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    # --- metrics: one JSON object a line; "steps" records within an epoch, "epoch" records at its end ---

    def log(self, record: dict) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(_finite(record)) + "\n")

    def records(self) -> list[dict]:
        """All lines of metrics.jsonl; one that a crash has cut is left out."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        records = []
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and "kind" in record:
                records.append(record)
        return records

    @property
    def ended(self) -> bool:
        """Whether the run has come to its end, and all that belongs to this is there."""
        return self.records()[-1:] == [{"kind": "end", "state": "finished"}]

    def rewind(self, step: int) -> None:
        """Take back what was logged after that step, which a resumed run logs again, and what a killed one left."""
        self._clear()
        kept = [r for r in self.records() if r.get("step", 0) <= step and r["kind"] != "end"]
        with atomic_write(self.path / "metrics.jsonl") as stream:
            stream.write("".join(json.dumps(r) + "\n" for r in kept).encode())

    def _clear(self) -> None:
        """Remove what atomic_write left here when it was killed."""
        for folder in (self.path, *(p for p in self.path.iterdir() if p.is_dir())):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    # --- files ---

    def save_weights(self, model, name: str = "weights.safetensors") -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        save_weights(model, path)
        return path

    def save_picture(self, picture, name: str) -> Path:
        """Write a matplotlib Figure or a Pillow image as PNG."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        save_picture(picture, path)
        return path


def save_picture(picture, path) -> None:
    """Write a matplotlib Figure or a Pillow image as PNG; the file appears whole or not at all."""
    with atomic_write(path) as stream:
        if hasattr(picture, "savefig"):
            write_figure(picture, stream)
        else:
            picture.save(stream, format="PNG")


def _finite(value):
    """JSON has no NaN and no infinity: null in their place."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

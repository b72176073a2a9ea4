"""A training run from where it is to its end: when it saves, draws and measures, and how it stops."""

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO

from PIL import Image

from scratchgen.backend import fast
from scratchgen.commands import BROKEN_PIPE
from scratchgen.commands.trained import evaluate, how_far
from scratchgen.data import Dataset, Points
from scratchgen.errors import sentence
from scratchgen.files import atomic_write, printable
from scratchgen.progress import tqdm
from scratchgen.recipes import Findings, Recipe
from scratchgen.report import take_away, write
from scratchgen.safetensors_file import read_arrays
from scratchgen.training import NotFinite, RunFolder, StepTooLarge, Stopped, StopRequest, Training, stop_request

FIRST_SAVE = 8  # seconds until the first checkpoint within an epoch, at the most
SHARE = 0.02  # of the time so far, for pictures and the page while training goes on
CREDIT = 0.3  # seconds that these may take beyond their share: the first of them come early


class NoReader(Exception):
    """Nobody reads what is printed any more."""


class TrainingRun:
    """Trains until the end of the run, or until it is stopped.

    What must be kept is saved first: the checkpoint, the weights, the record of a marked epoch. Measures, pictures
    and the report come after it; where one fails, a line says so. A picture of the latest samples and a page of the
    run under way are made whenever all of them so far, and these, take no more than `SHARE` of the time.
    """

    def __init__(self, folder: RunFolder, recipe: Recipe, data: Dataset | Points, training: Training, *, quiet: bool):
        self.folder, self.recipe, self.data, self.training = folder, recipe, data, training
        self.config, self.progress = recipe.config, not quiet
        self.began = time.perf_counter()
        self.next_save = self.began + min(FIRST_SAVE, self.config["save_every"])
        self.shown, self.cost = 0.0, 0.0  # seconds that went into pictures and pages, and into the last of them
        self.epochs: list[dict[str, Any]] = []  # the records of the epochs so far
        self.reported: set[str] = set()  # symptoms, and what could not be made: each is printed once
        self.closing, self.stop = False, StopRequest()
        self.status = 0  # the exit status
        self.failure: BaseException | None = None  # what ended the run before its end, where it has been reported

    def train(self, head: Iterable[str] = ()) -> None:
        """Print the head, train; `status` and `failure` say how it ended."""
        try:
            self.say("\n".join(head))
            self.status = self._train()
        except (Stopped, NoReader, NotFinite, OSError) as error:
            self.failure = error
            self.status = self._ended_by(error)
        except StepTooLarge as error:
            self.close("stopped: out of memory")
            raise MemoryError(f"{str(error) or 'out of memory'}: {self._smaller(error)} needs less memory") from error
        except BaseException as error:
            self.close(f"stopped: {type(error).__name__}")
            raise
        if self.status == 130 and self.failure is None:
            self.failure = KeyboardInterrupt()

    def _ended_by(self, error: Exception) -> int:
        """Close the run and say why; the exit status."""
        if isinstance(error, Stopped):
            self.close("stopped")
            where = f"\nstopped in epoch {self.training.epoch}; everything is saved. To go on:"
            self.say_if_possible(f"{where}\n  {self.resume_command()}", sys.stdout)
            return 128 + self.stop.number
        if isinstance(error, NoReader):
            self.close("stopped: its output was closed")
            self.say_if_possible(f"scratchgen: the output was closed; {self.how_to_go_on()}")
            return 128 + self.stop.number if self.stop.is_set() else BROKEN_PIPE  # when a terminal is closed, both
        if isinstance(error, NotFinite):
            self.close(str(error))
            self.say_if_possible(f"scratchgen: {error}; {self.folder.checkpoint} is the last good checkpoint")
            return 1
        self.close(f"stopped: {sentence(error)}")
        self.say_if_possible(f"scratchgen: {sentence(error)}; {self.how_to_go_on()}")
        return 2

    def _train(self) -> int:
        training = self.training
        with stop_request() as self.stop:
            self.begin()
            records = training.train(
                on_record=lambda record: self.folder.log({"kind": "steps", **record}),
                on_pause=self.pause,
                progress=self.progress,
            )
            for record in records:
                self.save()
                self.end_epoch(record)
                if self.stop.is_set() and not training.finished:
                    if not self.has_sheet(record["epoch"]):
                        self.sheet("latest")
                    raise Stopped
        try:
            self.end()
        except KeyboardInterrupt:
            self.draw(under_way=False)
            self.say(f"\nstopped while measuring; the trained model is saved. To go on:\n  {self.resume_command()}")
            return 130
        return 0

    # --- from beginning to end ---

    def begin(self) -> None:
        training = self.training
        if self.recipe.backend == "numpy" and fast.available():
            fast.numba()  # which the first step would load, and must not count as the time of the first picture
        self.epochs = [r for r in self.folder.records() if r["kind"] == "epoch"]
        for n in range(1, len(self.epochs) + 1):  # printed before the run was resumed
            self.reported |= self.recipe.symptoms(self.epochs[:n]).keys()
        if training.steps == 0:
            self.folder.save(training)
            self.sheet("epoch-000")
            self.draw(under_way=True)
            return
        self.folder.save_weights(training)  # of a run that ended right after a checkpoint
        self.keep_weights()
        ended, last, recorded = training.ended, training.epoch - 1, [r.get("epoch") for r in self.epochs]
        if ended and training.step == 0 and ended["epoch"] == last and last not in recorded:
            self.end_epoch(dict(ended))  # the run ended between the checkpoint and this

    def pause(self) -> bool:
        """After a step: save and show when it is time; True when the run was asked to stop."""
        now, stop = time.perf_counter(), self.stop.is_set()
        if stop or now >= self.next_save:
            self.save()
        if stop:
            self.sheet("latest")  # for the page that closes the run
        elif self.affordable(now):
            self.sheet("latest")
            self.draw(under_way=True)
            self.cost = time.perf_counter() - now
        return stop

    def has_sheet(self, epoch: int) -> bool:
        """Whether a marked epoch has a picture of its own."""
        return self.training.is_marked(epoch, self.recipe.sheet_steps)

    def affordable(self, now: float) -> bool:
        """Whether the page can be drawn again without taking more than its share of the time."""
        return self.shown + self.cost <= CREDIT + SHARE * (now - self.began)

    def end_epoch(self, record: dict[str, Any]) -> None:
        """All that a marked epoch leaves beside its checkpoint, which is written already."""
        recipe = self.recipe
        record |= self.measured()
        if self.has_sheet(record["epoch"]):
            self.sheet(f"epoch-{record['epoch']:03d}")
        self.folder.log({"kind": "epoch", **record})
        if self.affordable(time.perf_counter()):
            self.draw(under_way=True)
        of = str(self.training.settings.epochs)
        speed = f"{record['per_second']:,.0f} samples/s"
        self.say(f"epoch {record['epoch']:>{max(3, len(of))}}/{of}  {recipe.line(record)}  {speed}")
        self.epochs.append(record)
        for symptom, text in recipe.symptoms(self.epochs).items():
            if symptom not in self.reported:
                self.reported.add(symptom)
                self.say(f"note     {text}")

    def end(self) -> None:
        folder, recipe = self.folder, self.recipe
        if self.config.get("evaluate") or recipe.always_measured:
            lines = []
            with self.part("the evaluation"):
                lines = [*evaluate(folder, recipe, self.data, progress=self.progress), ""]
            self.say("\n".join(lines))
        self.draw(under_way=False)
        folder.log({"kind": "end", "state": "finished"})
        sheet = folder.path / "samples" / f"epoch-{self.training.settings.epochs:03d}.png"
        share = self.shown / (time.perf_counter() - self.began)
        took = f"{self.training.tick():.0f} s, {100 * share:.1f} % of the time for pictures and the report"
        self.say(f"trained  {took}\nsamples  {sheet}\nreport   {folder.path / 'report.html'}")

    # --- what is kept ---

    def save(self) -> None:
        """The checkpoint and the weights."""
        self.folder.save(self.training)
        self.keep_weights()
        self.next_save = time.perf_counter() + self.config["save_every"]

    def keep_weights(self) -> None:
        """At a checkpoint, and again when a run goes on that may have ended right after it."""
        training = self.training
        if training.step == 0 and training.is_marked(training.epoch - 1):
            if self.has_sheet(training.epoch - 1):  # which shows the same
                self.folder.latest_sheet.unlink(missing_ok=True)
            if self.config.get("keep_weights") and training.epoch > 1:
                self.folder.save_weights(training, f"weights/epoch-{training.epoch - 1:03d}.safetensors")

    # --- what is measured and drawn, as far as it can be ---

    def measured(self) -> dict[str, Any]:
        """The epoch's measures, by name."""
        found = Findings()
        with found.part("the measures of the epoch"):
            found = self.recipe.epoch_measures(self.data)
        if self.config.get("evaluate") and self.recipe.measured_by_epoch:
            with found.part("the quality of the samples"):
                found.values |= self.recipe.quality(self.data, progress=self.progress)
        self.report_missing(found)
        return found.values

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Time that goes into what the run shows."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.shown += time.perf_counter() - before

    def sheet(self, name: str) -> None:
        with self.showing(), self.part("the picture of the samples"):
            picture = self.recipe.sheet(self.data)
            if isinstance(picture, Image.Image) and picture.mode == "RGB" and not self.training.finished:
                # A third of the bytes: a long run has many sheets on the way.
                picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
            step = self.training.steps if name == "latest" else None
            self.folder.save_picture(picture, f"samples/{name}.png", step=step)

    def draw(self, *, under_way: bool, ended: str = "") -> None:
        """The report, and at the end the curves and the sheets as files too; `ended`: why a run did before its
        end."""
        with self.showing():
            self._draw(under_way, "this page reloads itself" if under_way else ended)

    def _draw(self, under_way: bool, note: str) -> None:
        training = self.training
        state = how_far(self.recipe, training.epoch - 1, training.steps, training.tick())
        state += f"; {note}" if note else ""
        with self.part("report.html"):
            write(self.folder, self.recipe, state=state, under_way=under_way)
        pictures: dict[str, Callable[[IO[bytes]], None]] = {}
        if not under_way:
            with self.part("losses.png, health.png, samples.gif"):
                pictures = take_away(self.folder, self.recipe)
        for name, picture in pictures.items():
            with self.part(name), atomic_write(self.folder.path / name) as stream:
                picture(stream)

    def close(self, why: str) -> None:
        """The run stops here: its metrics say so, and its report no longer reloads itself, as far as they can
        be written."""
        self.closing = True
        with suppress(OSError):
            if self.folder.ended:  # and only what was printed after that found no reader
                return
            self.folder.log({"kind": "end", "state": "stopped"})
        with suppress(OSError):
            self.draw(under_way=False, ended=why)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """What is not needed to go on: where it fails, a line says so."""
        found = Findings()
        with found.part(what):
            yield
        self.report_missing(found)

    # --- what is printed ---

    def report_missing(self, found: Findings) -> None:
        """What could not be made: a line on each, the first time, unless the run stops for a better reason."""
        for what, why in found.missing.items():
            if what not in self.reported and not self.closing:
                self.reported.add(what)
                self.say(f"note: {what} could not be made: {why}", sys.stderr)

    def say_if_possible(self, text: str, stream: TextIO | None = None) -> None:
        """Print, though there may be no reader any more; on standard error, unless a stream is given."""
        with suppress(NoReader):
            self.say(text, stream or sys.stderr)

    def say(self, text: str, stream: TextIO | None = None) -> None:
        """Print, above the progress bar if there is one; nothing where the stream was closed from the start."""
        stream = stream or sys.stdout
        if stream is None:
            return
        try:
            tqdm.write("\n".join(map(printable, text.split("\n"))), file=stream)
            stream.flush()
        except OSError as error:
            raise NoReader from error

    def resume_command(self) -> str:
        return f"scratchgen train {self.recipe.name} --resume {shlex.quote(str(self.folder.path))}"

    def how_to_go_on(self) -> str:
        """What is safe, by what the folder holds, and how training goes on from there."""
        try:
            _, position = read_arrays(self.folder.checkpoint)
        except (OSError, ValueError):
            return "nothing had been saved yet"
        epoch, step = position["epoch"], position["step"]
        where = f"epoch {epoch}, step {step}," if step else f"epoch {epoch - 1}" if epoch > 1 else "the start"
        return f"the checkpoint of {where} is safe, and {self.resume_command()} goes on from there"

    def _smaller(self, error: MemoryError) -> str:
        """What would need less memory than a training step did."""
        least = 2 if self.recipe.drop_last else 1
        shape = getattr(error.__cause__, "shape", None)  # of the array that NumPy had no room for
        of_weights = shape in [p.value.shape for p in self.recipe.model.parameters()]
        return "a smaller network" if of_weights or self.config["batch_size"] <= least else "a smaller --batch-size"

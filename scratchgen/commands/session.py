"""A training run from here to its end: when it saves, what it draws and measures, and how it stops."""

import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from scratchgen.commands import BROKEN_PIPE
from scratchgen.commands.runs import evaluate
from scratchgen.errors import sentence
from scratchgen.files import printable
from scratchgen.plots import curves
from scratchgen.progress import tqdm
from scratchgen.recipes import Findings
from scratchgen.safetensors_file import read_arrays
from scratchgen.training import NotFinite, RunFolder, StepTooLarge, Stopped, StopRequest, Training, stop_request
from scratchgen.training.report import write_report

FIRST_LOOK = 8  # seconds until the first picture
DRAW_EVERY = 3  # seconds between two drawings of the curves, at the least


class NoReader(Exception):
    """Nobody reads what is printed any more."""


class Session:
    """From here to the end of the run, or until it is stopped.

    What must be kept is saved first: the checkpoint, the weights, the epoch's record. Measures, pictures and the page
    come after it, and one that fails is a line.
    """

    def __init__(self, folder: RunFolder, recipe, data, training: Training, *, quiet: bool):
        self.folder, self.recipe, self.data, self.training = folder, recipe, data, training
        self.config, self.progress = recipe.config, not quiet
        self.next_save = time.perf_counter() + min(FIRST_LOOK, self.config["save_every"])
        self.next_draw = 0.0
        self.history: list[dict] = []  # the records of the epochs so far
        self.ails: set[str] = set()  # the symptoms that have been said
        self.told: set[str] = set()  # what could not be had
        self.closing, self.stop = False, StopRequest()

    def run(self, head: Iterable[str] = ()) -> int:
        """Print the head, train; the exit status."""
        try:
            self.say("\n".join(head))
            return self._train()
        except Stopped:
            self.close("stopped")
            where = f"\nstopped in epoch {self.training.epoch}; everything is saved. To go on:"
            self.last_words(f"{where}\n  {self.resume_command()}", sys.stdout)
            return 128 + self.stop.number
        except NoReader:
            self.close("stopped: nobody read what it printed")
            self.last_words(f"scratchgen: nobody reads what is printed; {self.how_to_go_on()}")
            return 128 + self.stop.number if self.stop.is_set() else BROKEN_PIPE  # when a terminal is closed, both
        except NotFinite as error:
            self.close(str(error))
            self.last_words(f"scratchgen: {error}; {self.folder.checkpoint} is the last good checkpoint")
            return 1
        except StepTooLarge as error:
            self.close("stopped: out of memory")
            raise MemoryError(f"{str(error) or 'out of memory'}: {self._smaller(error)} needs less memory") from error
        except OSError as error:
            self.close(f"stopped: {sentence(error)}")
            self.last_words(f"scratchgen: {sentence(error)}; {self.how_to_go_on()}")
            return 2
        except BaseException as error:
            self.close(f"stopped: {type(error).__name__}")
            raise

    def _train(self) -> int:
        training = self.training
        with stop_request() as self.stop:
            self.begin()
            records = training.run(
                on_record=lambda record: self.folder.log({"kind": "steps", **record}),
                on_pause=self.pause,
                progress=self.progress,
            )
            for record in records:
                self.save()
                self.end_epoch(record)
                if self.stop.is_set() and not training.finished:
                    raise Stopped
        try:
            self.end()
        except KeyboardInterrupt:
            self.say(f"\nstopped while measuring; the trained model is saved. To go on:\n  {self.resume_command()}")
            return 130
        return 0

    # --- the way ---

    def begin(self) -> None:
        training = self.training
        self.history = [r for r in self.folder.records() if r["kind"] == "epoch"]
        for n in range(1, len(self.history) + 1):  # what was said already
            self.ails |= self.recipe.symptoms(self.history[:n]).keys()
        if training.steps == 0:
            self.folder.save(training)
            self.sheet("epoch-000")
            self.draw(under_way=True)
            return
        self.folder.save_weights(training)  # of a run that ended right after a checkpoint
        self.keep_weights()
        ended = training.ended
        if training.step == 0 and ended is not None and ended["epoch"] not in [r.get("epoch") for r in self.history]:
            self.end_epoch(dict(ended))  # the run ended between the checkpoint and this

    def pause(self) -> bool:
        """After every step: save and draw when it is time; True when the run was asked to stop."""
        if self.stop.is_set() or time.perf_counter() >= self.next_save:
            self.save()
            self.sheet("latest")
            self.draw(under_way=True)
        return self.stop.is_set()

    def end_epoch(self, record: dict) -> None:
        """All that an epoch leaves beside its checkpoint, which is written already."""
        recipe = self.recipe
        record |= self.measured(record["epoch"])
        self.sheet(f"epoch-{record['epoch']:03d}")
        self.folder.log({"kind": "epoch", **record})
        last = self.training.finished
        self.draw(under_way=not last)
        speed = f"{record['per_second']:,.0f} samples/s"
        self.say(f"epoch {record['epoch']:>3}/{self.training.settings.epochs}  {recipe.line(record)}  {speed}")
        self.history.append(record)
        for kind, text in recipe.symptoms(self.history).items():
            if kind not in self.ails:
                self.ails.add(kind)
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
        self.say(f"trained  {self.training.seconds:.0f} s\nsamples  {sheet}\nreport   {folder.path / 'report.html'}")

    # --- what is kept ---

    def save(self) -> None:
        """The checkpoint and the weights."""
        self.folder.save(self.training)
        self.keep_weights()
        self.next_save = time.perf_counter() + self.config["save_every"]

    def keep_weights(self) -> None:
        """At a checkpoint, and again when a run goes on that may have ended right after it."""
        training = self.training
        if training.step == 0:  # between epochs, where the epoch's own sheet shows the same
            (self.folder.path / "samples" / "latest.png").unlink(missing_ok=True)
            if self.config.get("keep_weights") and training.epoch > 1:
                self.folder.save_weights(training, f"weights/epoch-{training.epoch - 1:03d}.safetensors")

    # --- what is measured and drawn, as far as it can be ---

    def measured(self, epoch: int) -> dict:
        """The epoch's measures, by name."""
        found, values = Findings(), {}
        with found.part("the measures of the epoch"):
            each = self.recipe.epoch_measures(self.data)
            values |= each.values
            found.missing |= each.missing
        if self.config.get("evaluate") and self.recipe.measured_by_epoch:
            with found.part("the quality of the samples"):
                values |= self.recipe.quality(self.data, progress=self.progress)
        self.tell(found)
        return values

    def sheet(self, name: str) -> None:
        with self.part("the picture of the samples"):
            self.folder.save_picture(self.recipe.sheet(self.data), f"samples/{name}.png")

    def draw(self, *, under_way: bool, state: str | None = None) -> None:
        """The curves and the page; while it is under way not more often than drawing is worth."""
        if under_way and time.perf_counter() < self.next_draw:
            return
        records = self.folder.records()
        for name, panels in (("losses.png", self.recipe.panels), ("health.png", self.recipe.health)):
            with self.part(name):
                figure = curves(records, panels)
                if figure is not None:
                    self.folder.save_picture(figure, name)
        training = self.training
        if state is None:
            done = min(training.epoch - 1, training.settings.epochs)
            state = f"{done} of {training.settings.epochs} epochs, {training.steps:,} steps, {training.seconds:.0f} s"
            state += "; this page renews itself" if under_way else ""
        with self.part("report.html"):
            title = f"{self.recipe.title}: {self.folder.path.resolve().name}"
            write_report(self.folder, title=title, state=state, under_way=under_way)
        self.next_draw = time.perf_counter() + DRAW_EVERY

    def close(self, state: str) -> None:
        """The run stops here: its metrics say so, and its page no longer renews itself, as far as they can be
        written."""
        self.closing = True
        with suppress(OSError):
            if self.folder.ended:  # and only the last words found no reader
                return
            self.folder.log({"kind": "end", "state": "stopped"})
        with suppress(OSError):
            self.draw(under_way=False, state=state)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """What is of use and not needed to go on: where it fails, a line says so."""
        found = Findings()
        with found.part(what):
            yield
        self.tell(found)

    # --- words ---

    def tell(self, found: Findings) -> None:
        """What could not be had: a line on each, the first time, unless the run stops for a better reason."""
        for what, why in found.missing.items():
            if what not in self.told and not self.closing:
                self.told.add(what)
                self.say(f"note: {what} cannot be had: {why}", sys.stderr)

    def last_words(self, text: str, stream=None) -> None:
        """Words that may find no reader; on standard error, unless said otherwise."""
        with suppress(NoReader):
            self.say(text, stream or sys.stderr)

    def say(self, text: str, stream=None) -> None:
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

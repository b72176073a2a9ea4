"""A training run from here to its end: when it saves, what it draws, and how it stops."""

import shlex
import sys
import time

from scratchgen.commands.runs import evaluate
from scratchgen.plots import curves
from scratchgen.training import NotFinite, RunFolder, Stopped, Training, stop_request
from scratchgen.training.report import write_report

FIRST_LOOK = 8  # seconds until the first picture
DRAW_EVERY = 3  # seconds between two drawings of the curves, at the least


class Session:
    """From here to the end of the run, or until it is stopped."""

    def __init__(self, folder: RunFolder, recipe, data, training: Training, *, quiet: bool):
        self.folder, self.recipe, self.data, self.training = folder, recipe, data, training
        self.config, self.progress = recipe.config, not quiet
        self.next_save = time.perf_counter() + min(FIRST_LOOK, self.config["save_every"])
        self.next_draw = 0.0

    def run(self) -> int:
        training, folder = self.training, self.folder
        if training.steps == 0:
            folder.save_picture(self.recipe.sheet(self.data), "samples/epoch-000.png")
            folder.save(training)
            self.draw(under_way=True)
        else:
            folder.save_weights(training)
            self.keep_weights()  # of a run that was killed right after a checkpoint
        try:
            with stop_request() as stop:
                records = training.run(
                    on_record=lambda record: folder.log({"kind": "steps", **record}),
                    on_pause=lambda: self.pause(stop),
                    progress=self.progress,
                )
                for record in records:
                    self.end_epoch(record)
                    if stop.is_set() and not training.finished:
                        raise Stopped
        except Stopped:
            folder.log({"kind": "end", "state": "stopped"})
            self.draw(under_way=False, state="stopped")
            print(f"\nstopped in epoch {training.epoch}; everything is saved. To go on:")
            print(f"  {self.resume_command()}")
            return 130
        except NotFinite as error:
            self.draw(under_way=False, state=str(error))
            print(f"scratchgen: {error}; {folder.checkpoint} is the last good checkpoint", file=sys.stderr)
            return 1
        try:
            self.end()
        except KeyboardInterrupt:
            print("\nstopped while measuring; the trained model is saved. To go on:")
            print(f"  {self.resume_command()}")
            return 130
        return 0

    def resume_command(self) -> str:
        return f"scratchgen train {self.recipe.name} --resume {shlex.quote(str(self.folder.path))}"

    def pause(self, stop) -> bool:
        """After every step: save and draw when it is time; True when the run was asked to stop."""
        if stop.is_set() or time.perf_counter() >= self.next_save:
            self.folder.save(self.training)
            self.folder.save_picture(self.recipe.sheet(self.data), "samples/latest.png")
            self.draw(under_way=True)
            self.next_save = time.perf_counter() + self.config["save_every"]
        return stop.is_set()

    def end_epoch(self, record: dict) -> None:
        epoch, recipe, folder = record["epoch"], self.recipe, self.folder
        record |= recipe.epoch_measures(self.data)
        if self.config.get("evaluate") and recipe.measured_by_epoch:
            record |= recipe.quality(self.data, progress=self.progress)
        folder.save_picture(recipe.sheet(self.data), f"samples/epoch-{epoch:03d}.png")
        folder.log({"kind": "epoch", **record})
        folder.save(self.training)
        self.keep_weights()
        last = self.training.finished
        self.draw(under_way=not last)
        of, speed = self.training.settings.epochs, f"{record['per_second']:,.0f} samples/s"
        print(f"epoch {epoch:>3}/{of}  {recipe.line(record)}  {speed}", flush=True)
        self.next_save = time.perf_counter() + self.config["save_every"]

    def keep_weights(self) -> None:
        """At a checkpoint, and again when a run goes on that may have been killed right after it."""
        training = self.training
        if training.step == 0:  # between epochs, where the epoch's own sheet shows the same
            (self.folder.path / "samples" / "latest.png").unlink(missing_ok=True)
            if self.config.get("keep_weights"):
                self.folder.save_weights(training, f"weights/epoch-{training.epoch - 1:03d}.safetensors")

    def end(self) -> None:
        folder, recipe = self.folder, self.recipe
        if self.config.get("evaluate") or recipe.always_measured:
            evaluate(folder, recipe, self.data, progress=self.progress)
            print()
        self.draw(under_way=False)
        folder.log({"kind": "end", "state": "finished"})
        print(f"trained  {self.training.seconds:.0f} s")
        print(f"samples  {folder.path / 'samples' / f'epoch-{self.training.settings.epochs:03d}.png'}")
        print(f"report   {folder.path / 'report.html'}")

    def draw(self, *, under_way: bool, state: str | None = None) -> None:
        """The curves and the page; while it is under way not more often than drawing is worth."""
        if under_way and time.perf_counter() < self.next_draw:
            return
        records = self.folder.records()
        for name, panels in (("losses.png", self.recipe.panels), ("health.png", self.recipe.health)):
            figure = curves(records, panels)
            if figure is not None:
                self.folder.save_picture(figure, name)
        training = self.training
        if state is None:
            done = min(training.epoch - 1, training.settings.epochs)
            state = f"{done} of {training.settings.epochs} epochs, {training.steps:,} steps, {training.seconds:.0f} s"
            state += "; this page renews itself" if under_way else ""
        write_report(
            self.folder,
            title=f"{self.recipe.title}: {self.folder.path.resolve().name}",
            state=state,
            under_way=under_way,
        )
        self.next_draw = time.perf_counter() + DRAW_EVERY

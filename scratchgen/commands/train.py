"""scratchgen train: train a model and leave all that belongs to it in a run folder."""

import argparse
import hashlib
import os
import shlex
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from scratchgen.backend import BACKENDS, load_kernels
from scratchgen.commands import UsageError
from scratchgen.commands.runs import load_data
from scratchgen.data import SOURCES, Points
from scratchgen.plots import curves
from scratchgen.recipes import RECIPES, RecipeError, build
from scratchgen.recipes.options import positive, rate, seed
from scratchgen.training import NotFinite, RunFolder, Settings, Stopped, Training, stop_request
from scratchgen.training.report import write_report
from scratchgen.version import __version__

FIRST_LOOK = 8  # seconds until the first picture
FREE = ("data", "epochs", "threads")  # what a resumed run may be given anew
NOT_KEPT = ("run", "out", "quiet", "resume", "given", "save_every", "evaluate", "keep_weights", "recipe")


class Given(argparse.Action):
    """Stores the value, and that it was given."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
        namespace.given = (*getattr(namespace, "given", ()), self.dest)


def add_parser(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on images",
        description="Train a model. What it makes goes into a run folder: config.json, metrics.jsonl, checkpoint and "
        "weights, samples of every epoch, curves, and report.html to watch it in a browser.",
    )
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    for recipe in RECIPES.values():
        parser = models.add_parser(recipe.name, help=recipe.help, description=recipe.description, allow_abbrev=False)
        option = _options(parser)
        recipe.add_options(option)
        _common(option, recipe)
        parser.set_defaults(run=run, recipe=recipe, given=())


def _options(parser):
    """add_argument that ends each help text with the default, where there is one to name."""

    def option(name, *, help, **settings):
        if settings.get("default") is not None:
            shown = settings["default"]
            help += f" (default: {','.join(map(str, shown)) if isinstance(shown, list) else '%(default)s'})"
        if "action" not in settings:
            settings["action"] = Given
        parser.add_argument(name, help=help, **settings)

    return option


def _common(option, recipe) -> None:
    """The options that every model has."""
    d, p = recipe.defaults, getattr(recipe, "point_defaults", None)

    def default(name):
        points = f" for images, {p[name]} for points" if p and recipe.name == "gan" else ""
        return f"(default: {d[name]}{points})"

    option(
        "--data",
        metavar="NAME|DIR",
        help=f"a name: {', '.join(SOURCES)}; or a folder: of your own images, of IDX files as MNIST and "
        "Fashion-MNIST have them, or of CIFAR-10's binary files; without it the folder in SCRATCHGEN_DATA, else the "
        "sample: 10,000 digits that come along",
    )
    option("--image-size", type=positive, metavar="N", help="resize to N×N pixels (default: as they are; folder: 64)")
    option("--channels", type=int, choices=(1, 3), help="1 makes images grey, 3 coloured (default: as they are)")
    option("--epochs", type=positive, metavar="N", help=f"passes over the data {default('epochs')}")
    option("--batch-size", type=positive, metavar="N", help=f"samples per step {default('batch_size')}")
    option("--lr", type=rate, metavar="X", help=f"Adam's learning rate {default('lr')}")
    option(
        "--decay",
        choices=("none", "linear"),
        help="linear takes the learning rate to 0 at the end (default: none, for points linear)",
    )
    option("--seed", type=seed, default=0, metavar="N", help="of first weights, noise and the order of the data")
    option("--backend", choices=BACKENDS, default="numpy", help="cupy runs on an NVIDIA GPU")
    option(
        "--threads",
        type=positive,
        metavar="N",
        help="for matrix products; without it one less than the cores, since threads that wait for a core that "
        "another program uses cost far more than they bring",
    )
    option("--out", metavar="DIR", help="run folder; without it a new one in runs/")
    option("--resume", metavar="RUN", help="go on with this run, exactly; --epochs may be raised")
    option("--save-every", type=positive, default=60, metavar="S", help="seconds between checkpoints within an epoch")
    option("--keep-weights", action="store_true", help="keep the weights of every epoch, in weights/")
    option("--evaluate", action="store_true", help="measure as `scratchgen evaluate` does; GANs after every epoch")
    option("--quiet", action="store_true", help="no progress bars")


def run(args) -> int:
    load_kernels(args.backend)
    try:
        folder, config, data = _resumed(args) if args.resume else _started(args)
        recipe, training = _training(config, data)
    except (KeyError, TypeError) as error:
        if not args.resume:
            raise
        what = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UsageError(f"config.json in {args.resume} is damaged: {what}") from None
    config |= {"parameters": sum(p.value.size for p in recipe.model.parameters())}
    if args.resume:
        if folder.checkpoint.is_file():
            training.load(folder.checkpoint)
        if not (training.finished and folder.ended):
            folder.rewind(training.steps)
            folder.write_json("config.json", config)  # with the epochs that it is to have from now on
    else:
        folder = _create(args, config)
    print(f"data     {data.name}")
    for note in getattr(data, "notes", ()):
        print(f"         {note}")
    print(f"model    {recipe.describe()}")
    print(f"run      {folder.path}")
    print(f"report   {folder.path / 'report.html'}", flush=True)
    if training.finished and folder.ended:
        print(f"the run has had {training.epoch - 1} epochs: raise --epochs above that to go on")
        return 0
    with threadpool_limits(config["threads"]):
        return Session(args, folder, recipe, data, training).run()


def _training(config, data):
    recipe = build(config)
    settings = Settings(
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        decay=config["decay"],
        drop_last=recipe.drop_last,
        backend=config["backend"],
    )
    return recipe, Training(recipe, recipe.samples_of(data), settings)


def _started(args):
    data = load_data(args.data, args.image_size, args.channels, progress=not args.quiet)
    config = {"model": args.recipe.name, **{k: v for k, v in vars(args).items() if k not in NOT_KEPT}}
    config["threads"] = args.threads or max(1, cores() - 1)
    config["data"] = _source(args.data)
    try:
        config = args.recipe.settled(config, data)
    except RecipeError as error:
        raise UsageError(str(error)) from None
    config.setdefault("decay", "none")
    config |= {"data_sha256": digest(data), "data_name": data.name, "scratchgen": __version__}
    return None, config, data


def _resumed(args):
    if args.out:
        raise UsageError("--out and --resume exclude each other: a resumed run stays in its folder")
    folder = RunFolder.open(args.resume)
    config = folder.config()
    if config["model"] != args.recipe.name:
        raise UsageError(
            f"{args.resume} is a run of {config['model']}: scratchgen train {config['model']} --resume …"
        )
    for name in args.given:
        value = getattr(args, name)
        if name not in FREE and name not in NOT_KEPT and config.get(name) != value:
            switch = "--" + name.replace("_", "-")
            kept = config.get(name)
            kept = ",".join(map(str, kept)) if isinstance(kept, list) else kept
            how = f"without {switch}" if kept is None else f"with {switch} {kept}"
            raise UsageError(f"{args.resume} was started {how}, and goes on so")
    config["epochs"] = args.epochs or config["epochs"]
    config["threads"] = args.threads or config["threads"]
    source = args.data if args.data is not None else config["data"]
    data = load_data(source, config.get("image_size"), config.get("channels"), progress=not args.quiet)
    if digest(data) != config["data_sha256"]:
        raise UsageError(
            f"the data is not what {args.resume} was trained on, {config['data_name']}: choose with --data"
        )
    return folder, config, data


def _create(args, config) -> RunFolder:
    arch = f"-{config['arch']}" if "arch" in config else ""
    path = args.out or RunFolder.unused("runs", f"{config['model']}{arch}")
    try:
        return RunFolder.create(path, config)
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"nothing can be written in {path}: {error.strerror}; choose a folder with --out") from error


class Session:
    """From here to the end of the run, or until it is stopped."""

    def __init__(self, args, folder: RunFolder, recipe, data, training: Training):
        self.args, self.folder, self.recipe, self.data, self.training = args, folder, recipe, data, training
        self.next_save = time.perf_counter() + min(FIRST_LOOK, args.save_every)
        self.rows = []
        self.began = time.perf_counter()

    def run(self) -> int:
        training, folder = self.training, self.folder
        if training.steps == 0:
            folder.save_picture(self.recipe.sheet(self.data), "samples/epoch-000.png")
            training.save(folder.checkpoint)
            folder.save_weights(self.recipe.model)
            self.draw(under_way=True)
        else:
            self.save_weights()  # of a run that was killed right after a checkpoint
        try:
            with stop_request() as stop:
                records = training.run(
                    on_record=lambda record: folder.log({"kind": "steps", **record}),
                    on_pause=lambda: self.pause(stop),
                    progress=not self.args.quiet,
                )
                for record in records:
                    self.end_epoch(record)
                    if stop.is_set() and not training.finished:
                        raise Stopped
        except Stopped:
            folder.log({"kind": "end", "state": "stopped"})
            self.draw(under_way=False, state="stopped")
            print(f"\nstopped in epoch {training.epoch}; everything is saved. To go on:")
            print(f"  scratchgen train {self.recipe.name} --resume {shlex.quote(str(folder.path))}")
            return 130
        except NotFinite as error:
            self.draw(under_way=False, state=str(error))
            print(f"scratchgen: {error}; {folder.checkpoint} is the last good checkpoint", file=sys.stderr)
            return 1
        self.end()
        return 0

    def pause(self, stop) -> bool:
        """After every step: save and draw when it is time; True when the run was asked to stop."""
        if stop.is_set() or time.perf_counter() >= self.next_save:
            self.training.save(self.folder.checkpoint)
            self.folder.save_weights(self.recipe.model)
            self.folder.save_picture(self.recipe.sheet(self.data), "samples/latest.png")
            self.draw(under_way=True)
            self.next_save = time.perf_counter() + self.args.save_every
        return stop.is_set()

    def end_epoch(self, record: dict) -> None:
        epoch, recipe, folder = record["epoch"], self.recipe, self.folder
        record |= recipe.epoch_measures(self.data)
        if self.args.evaluate and hasattr(recipe, "quality"):
            record |= recipe.quality(self.data, progress=not self.args.quiet)
        folder.save_picture(recipe.sheet(self.data), f"samples/epoch-{epoch:03d}.png")
        folder.log({"kind": "epoch", **record})
        self.training.save(folder.checkpoint)
        self.save_weights()
        last = self.training.finished
        self.draw(under_way=not last)
        print(
            f"epoch {epoch:>3}/{self.training.settings.epochs}  {recipe.line(record)}  {_speed(record)}", flush=True
        )
        self.next_save = time.perf_counter() + self.args.save_every

    def save_weights(self) -> None:
        """At a checkpoint, and again when a run goes on that may have been killed right after it."""
        training, model = self.training, self.recipe.model
        if training.step == 0:  # between epochs, where the epoch's own sheet shows the same
            (self.folder.path / "samples" / "latest.png").unlink(missing_ok=True)
        self.folder.save_weights(model)
        if self.args.keep_weights and training.step == 0:
            self.folder.save_weights(model, f"weights/epoch-{training.epoch - 1:03d}.safetensors")

    def end(self) -> None:
        folder, recipe = self.folder, self.recipe
        if self.args.evaluate or recipe.name == "ae":
            self.rows = evaluate(folder, recipe, self.data, progress=not self.args.quiet)
            print()
        self.draw(under_way=False)
        folder.log({"kind": "end", "state": "finished"})
        print(f"trained  {self.training.seconds:.0f} s")
        print(f"samples  {folder.path / 'samples' / f'epoch-{self.training.settings.epochs:03d}.png'}")
        print(f"report   {folder.path / 'report.html'}")

    def draw(self, *, under_way: bool, state: str | None = None) -> None:
        """The curves and the page."""
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
            rows=self.rows,
        )


def evaluate(folder: RunFolder, recipe, data, **options):
    """Measure, print, and keep evaluation/ in the run folder; returns the rows."""
    found = recipe.measure(data, **options)
    print()
    width = max(len(label) for label, _ in found.rows)
    for label, text in found.rows:
        print(f"{label:<{width}}  {text}".rstrip())
    (folder.path / "evaluation").mkdir(exist_ok=True)
    for name, picture in found.pictures.items():
        folder.save_picture(picture, f"evaluation/{name}")
    folder.write_json("evaluation/measures.json", found.values)
    return found.rows


def digest(data) -> str:
    """SHA-256 of the training samples."""
    samples = data.train if isinstance(data, Points) else data.train_images
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _source(source) -> str:
    """What --data stands for, so that it means the same in another folder later."""
    folder = source if source is not None else os.environ.get("SCRATCHGEN_DATA")
    if not folder:
        return "sample"
    return source if source in SOURCES else os.path.abspath(os.path.expanduser(folder))


def _speed(record) -> str:
    return f"{record['per_second']:,.0f} samples/s"

"""scratchgen train: train a model and leave all that belongs to it in a run folder."""

import argparse
import os
from typing import Any

from scratchgen.backend import BackendUnavailable, load_kernels
from scratchgen.backend.threads import asked_for, cores, limited
from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, check_precision, of_kind, path
from scratchgen.commands.results import memory_for
from scratchgen.commands.runs import RUNS, open_folder
from scratchgen.commands.trained import digest, pixels, source_of, where_config_says
from scratchgen.commands.training_run import TrainingRun
from scratchgen.data import POINTS, SOURCES, Dataset, Points, load
from scratchgen.files import printable
from scratchgen.paths import as_path
from scratchgen.plots import warm_up
from scratchgen.recipes import RECIPES, Recipe, RecipeError, build, config_of
from scratchgen.recipes.options import COMMON, FEW, FREE, Config, identity
from scratchgen.training import OutOfStep, RunFolder, Settings, Training
from scratchgen.version import __version__

DONE = {"flip": "mirrored", "crop": "cut", "shift": "shifted"}  # to each image, by --augment
NOT_KEPT = ("main", "out", "quiet", "resume", "force", "recipe")


def add_parser(commands: Commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on images",
        description="Train a model. What it makes goes into a run folder: config.json, metrics.jsonl, checkpoint and "
        "weights, samples as it trains, curves, and report.html to watch it in a browser.",
    )
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    for recipe in RECIPES.values():
        parser = models.add_parser(recipe.name, help=recipe.help, description=recipe.description, allow_abbrev=False)
        _add_options(parser, recipe)
        parser.add_argument("--out", type=path, metavar="DIR", help="run folder; without it a new one in runs/")
        parser.add_argument(
            "--resume",
            type=path,
            metavar="RUN",
            help="go on with this run as if it had not stopped; --epochs, --steps, --sample-every, --save-every, "
            "--evaluate, --threads and --backend may be others",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="with --resume: go on from the checkpoint even where weights or metrics are newer or missing, and "
            "write over them",
        )
        parser.add_argument("--quiet", action="store_true", help="no progress bars")
        parser.set_defaults(main=main, recipe=recipe)


def _add_options(parser: argparse.ArgumentParser, recipe: type[Recipe]) -> None:
    """The settings of a run. Where one is not given it is None: a resumed run keeps its own."""
    points = recipe.points.defaults if recipe.points else {}
    names = ", ".join(name for name in SOURCES if recipe.points or name not in POINTS)
    when = "after every epoch and at the end" if recipe.measured_by_epoch else "at the end"
    for name, option in recipe.all_options().items():
        default = recipe.defaults.get(name, option.default)
        shown = option.help.format(names=names, when=when)
        few = default if name == "steps" else recipe.few.get(name, default)
        shown += _default(default, points.get(name, default), few)
        if name == "epochs" and "steps" in recipe.few:
            shown += f"; with up to {FEW:,} images as many as make {recipe.few['steps']:,} steps"
        settings = of_kind(option.kind) | ({"metavar": option.metavar} if option.metavar else {})
        parser.add_argument(f"--{name.replace('_', '-')}", help=shown, default=None, **settings)


def _default(of_images: Any, of_points: Any, of_few: Any) -> str:
    """The end of a help text."""
    said = [] if of_images is None else [str(of_images)]
    if of_points != of_images:
        said = [f"{text} for images" for text in said]
        said.append(f"{','.join(map(str, of_points)) if isinstance(of_points, list) else of_points} for points")
    if of_few != of_images:
        said.append(f"{','.join(of_few) if isinstance(of_few, list) else of_few} for up to {FEW:,} images")
    return f" (default: {', '.join(said)})" if said and of_images is not False else ""


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of a run that were given."""
    if args.epochs and args.steps:
        raise UsageError("--epochs and --steps cannot be given together: both say how long to train")
    return {name: value for name, value in vars(args).items() if value is not None and name not in NOT_KEPT}


def main(args: argparse.Namespace) -> int:
    warm_up()  # complains before anything is written
    return (resume if args.resume else begin)(args).status


def begin(args: argparse.Namespace) -> TrainingRun:
    """A new run, trained."""
    config, data = _new_config(args)
    recipe, training = _build(config, data)
    config |= {"id": identity(config), "parameters": recipe.parameter_count}
    folder = _create(args, config)
    with folder.locked() as locks, limited(config["threads"]):
        run = TrainingRun(folder, recipe, data, training, quiet=args.quiet)
        run.train(_head(args, run, locks))
        return run


def resume(args: argparse.Namespace) -> TrainingRun:
    """A run that is there, trained to its end; until all its files are known to fit nothing is written."""
    if args.out:
        raise UsageError("--out and --resume cannot be given together: a resumed run stays in its folder")
    folder = open_folder(args.resume)
    args.resume = folder.path
    with folder.locked() as locks:
        before = config_of(folder)
        config, data = _resumed_config(args, before)
        recipe, training = _build(config, data)
        config["parameters"] = recipe.parameter_count
        try:
            notes = folder.restore(training, force=args.force)
        except OutOfStep as error:
            raise UsageError(f"{error}: put the right one back, or go on from the checkpoint with --force") from None
        begun = training.epoch if training.step else training.epoch - 1
        if (args.epochs or args.steps) and config["epochs"] < begun:
            asked = f"--epochs is {args.epochs}" if args.epochs else f"--steps is {args.steps}"
            raise UsageError(f"{asked}, and the run is in epoch {begun}, at step {training.steps}, already")
        over = training.finished and folder.ended
        if not over:
            folder.rewind(training.steps)
            folder.write_json("config.json", config)  # with the epochs that it is to have from now on
        if config["decay"] != "none" and config["epochs"] != before["epochs"] and begun > 0:
            notes.append(
                "the learning rate falls to 0 over all epochs: another number of them changes it from the start"
            )
        run = TrainingRun(folder, recipe, data, training, quiet=args.quiet)
        notes += [] if over else _changes(before, config)
        head = _head(args, run, locks) + [f"note     {note}" for note in notes]
        if over:
            print(*head, f"the run has had {training.epoch - 1} epochs: raise --epochs above that to go on", sep="\n")
            return run
        with limited(config["threads"]):
            run.train(head)
        return run


def _head(args: argparse.Namespace, run: TrainingRun, locks: bool) -> list[str]:
    """What is trained on what, and where it goes."""
    config, data = run.config, run.data
    lines = [f"data     {data.name}", *(f"         {note}" for note in getattr(data, "notes", ()))]
    if args.batch_size and config["batch_size"] < args.batch_size:
        lines.append(f"note     there are {config['batch_size']:,} training samples, so that is the batch size")
    lines.append(f"model    {run.recipe.describe()}")
    lines.append(f"training {_length(run)}")
    if run.training.steps == 0:
        lines += [f"note     {note}" for note in run.recipe.expectations(run.data)]
    if config["backend"] == "cupy":
        lines.append(f"GPU      {load_kernels('cupy').about()['device']}, {config['precision']}")
    where = printable(str(run.folder.path))
    lines += [f"run      {where}", f"report   {os.path.join(where, 'report.html')}"]
    if not locks:
        lines.append(
            "note     this file system has no locks: two processes that train this run would damage it unnoticed"
        )
    return lines


def _length(run: TrainingRun) -> str:
    """How long it trains, and on what."""
    training, augment = run.training, run.training.settings.augment
    steps = training.settings.epochs * training.steps_per_epoch
    epochs = training.settings.epochs
    text = f"{epochs:,} epoch{'s' * (epochs > 1)}, {steps:,} steps of {training.settings.batch_size}"
    return f"{text}, each image {' and '.join(DONE[kind] for kind in augment)} at random" if augment else text


def _changes(before: Config, config: Config) -> list[str]:
    """What a resumed run does otherwise than until now."""
    was, now = _device(before), _device(config)
    return [f"until now on {was}, from here on {now}: the same run up to rounding"] if was != now else []


def _build(config: dict[str, Any], data: Dataset | Points) -> tuple[Recipe, Training]:
    with memory_for("the network", ": a smaller one needs less (--latent, --width, --hidden, --image-size)"):
        recipe = build(config)
    settings = Settings(
        **{name: config[name] for name in ("epochs", "batch_size", "seed", "decay", "backend")},
        warmup=config.get("warmup", 0),
        drop_last=recipe.drop_last,
        sample_every=config.get("sample_every"),
        mark_steps=recipe.mark_steps,
        augment=tuple(config.get("augment", ())),
    )
    training = Training(recipe, data.samples, settings)
    steps = settings.epochs * training.steps_per_epoch
    if 0 < steps <= settings.warmup:
        raise UsageError(f"--warmup is {settings.warmup}, needs to be below {steps:,}, the steps of the whole run")
    return recipe, training


def _new_config(args: argparse.Namespace) -> tuple[dict[str, Any], Dataset | Points]:
    """The settings of a new run, and its data."""
    _check_device(args.backend or "numpy", args.precision or "float32")
    data = _load(args, args.data, args.image_size, args.channels)
    given = _given(args) | {"data": data.name if data is args.data else _source(args.data)}
    given["threads"] = _threads(args)
    try:
        config = args.recipe.of_data(data).resolve_config(given, data)
    except RecipeError as error:
        raise UsageError(str(error)) from None
    return config | {"data_sha256": digest(data), "data_name": data.name, "scratchgen": __version__}, data


def _threads(args: argparse.Namespace) -> int:
    """How many threads the kernels get; the results do not depend on it."""
    return args.threads or asked_for() or cores()


def _resumed_config(args: argparse.Namespace, before: Config) -> tuple[Config, Dataset | Points]:
    """The settings with which a run goes on, and its data."""
    config = Config(before, before.source)
    if config["model"] != args.recipe.name:
        raise UsageError(
            f"{args.resume} is a run of {config['model']}: scratchgen train {config['model']} --resume …"
        )
    given = _given(args)
    for name, value in given.items():
        kept = config.get(name, args.recipe.before.get(name, args.recipe.all_options()[name].default))
        same = kept == value or (kept is None and value == ["none"])
        same |= name == "augment" and sorted(kept or ()) == sorted(value)
        if name not in FREE and not same:
            option = "--" + name.replace("_", "-")
            if isinstance(kept, list):
                kept = ("x" if name == "image_size" else ",").join(map(str, kept))
            how = f"without {option}" if kept is None else f"with {option} {kept}"
            raise UsageError(f"{args.resume} was started {how}, and a resumed run keeps that")
    _resolve_device(args, config)
    config["threads"] = _threads(args)
    for name in ("save_every", "sample_every", "keep_weights", "evaluate"):  # which earlier configs may lack
        if hasattr(args, name):
            config[name] = given.get(name, config.get(name, COMMON[name].default))
    if config.get("sample_every", 0) is None:
        del config["sample_every"]
    source = source_of(config) if args.data is None else args.data
    if source == before["data"] == before["data_name"]:
        raise UsageError(f"the data of {args.resume} was given in Python, as {printable(source)}: give it again")
    with where_config_says(args.resume, args.data):
        data = _load(args, source, config.get("image_size"), config.get("channels"))
    if digest(data) != config["data_sha256"]:
        raise UsageError(
            f"the data is not what {args.resume} was trained on, {printable(config['data_name'])}: choose with --data"
        )
    if args.steps:
        config["epochs"] = args.recipe.epochs_of(args.steps, len(data.samples), config["batch_size"])
    config["epochs"] = args.epochs or config["epochs"]
    return config, data


def _load(
    args: argparse.Namespace,
    source: str | Dataset | Points | None,
    size: int | list[int] | None,
    channels: int | None,
) -> Dataset | Points:
    if isinstance(source, Dataset | Points):  # from Python
        if size is not None or channels is not None:
            raise UsageError("--image-size and --channels are for data that are loaded: see scratchgen.data.resized")
        return source
    with memory_for("the data", ": a smaller --image-size needs less, and so do fewer images"):
        return load(source, image_size=pixels(size), channels=channels, progress=not args.quiet)


def _check_device(backend: str, precision: str) -> None:
    """Complains where there is no such backend, or it has no such precision."""
    check_precision(backend, precision)
    kernels = load_kernels(backend)
    if backend == "cupy":
        kernels.set_precision(precision)


def _resolve_device(args: argparse.Namespace, config: Config) -> None:
    """Where a resumed run goes on, and in which precision: as before where nothing else is asked for."""
    backend = args.backend or config["backend"]
    kept = config.get("precision", "float32") if backend == "cupy" else "float32"
    config |= {"backend": backend, "precision": args.precision or kept}
    try:
        _check_device(config["backend"], config["precision"])
    except BackendUnavailable as error:
        if args.backend:
            raise
        here = "with --backend numpy it goes on on the CPU"
        raise BackendUnavailable(f"{args.resume} was trained with --backend cupy, and {error}; {here}") from None


def _device(config: Config) -> str:
    """Where a run computes, in words."""
    return config["backend"] + (" in tf32" if config.get("precision") == "tf32" else "")


def _create(args: argparse.Namespace, config: dict[str, Any]) -> RunFolder:
    arch = f"-{config['arch']}" if "arch" in config else ""
    for _ in range(100):  # so many at once may take the name that was free
        folder = args.out or RunFolder.unused(RUNS, f"{config['model']}{arch}")
        try:
            return RunFolder.create(folder, config)
        except FileExistsError as error:
            taken = error
            if args.out:
                break
        except OSError as error:
            what = f"nothing can be written in {folder}: {error.strerror}"
            raise UsageError(f"{what}; choose a folder with --out") from error
    raise taken


def _source(source: str | None) -> str:
    """What --data stands for, so that it means the same in another folder later."""
    source = source if source is not None else os.environ.get("SCRATCHGEN_DATA") or "sample"
    return source if source in SOURCES else os.path.abspath(as_path(source))

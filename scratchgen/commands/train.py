"""scratchgen train: train a model and leave all that belongs to it in a run folder."""

import argparse
import os

from scratchgen.backend import BACKENDS, BackendUnavailable, load_kernels
from scratchgen.backend.threads import cores, limited
from scratchgen.bench.gpu.device import about
from scratchgen.commands import UsageError
from scratchgen.commands.runs import digest
from scratchgen.commands.session import Session
from scratchgen.data import POINTS, SOURCES, load
from scratchgen.plots import load_matplotlib
from scratchgen.recipes import RECIPES, RecipeError, build
from scratchgen.recipes.options import positive, rate, seed
from scratchgen.training import RunFolder, Settings, Training
from scratchgen.version import __version__

PRECISIONS = ("float32", "tf32")
FREE = ("data", "epochs", "threads", "save_every", "backend", "precision")  # what a resumed run may be given anew
NOT_KEPT = ("run", "out", "quiet", "resume", "given", "recipe")


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
    points = recipe.points.defaults if recipe.points else None
    names = [name for name in SOURCES if points or name not in POINTS]

    def default(name):
        also = f" for images, {points[name]} for points" if points else ""
        return f"(default: {recipe.defaults[name]}{also})"

    option(
        "--data",
        metavar="NAME|DIR",
        help=f"a name: {', '.join(names)}; or a folder: of your own images, of IDX files as MNIST and "
        "Fashion-MNIST have them, or of CIFAR-10's binary files; without it the folder in SCRATCHGEN_DATA, else the "
        "sample: 10,000 digits that come along",
    )
    cut = "cut out the middle square and resize it to N×N pixels (default: as they are; folder: 64)"
    option("--image-size", type=positive, metavar="N", help=cut)
    option("--channels", type=int, choices=(1, 3), help="1: grey, 3: coloured (default: as they are; folder: 3)")
    option("--epochs", type=positive, metavar="N", help=f"passes over the data {default('epochs')}")
    option("--batch-size", type=positive, metavar="N", help=f"samples per step {default('batch_size')}")
    option("--lr", type=rate, metavar="X", help=f"Adam's learning rate {default('lr')}")
    option(
        "--decay",
        choices=("none", "linear"),
        help="linear takes the learning rate to 0 at the last of --epochs "
        f"(default: none{', for points linear' if points else ''})",
    )
    option("--seed", type=seed, default=0, metavar="N", help="of first weights, noise and the order of the data")
    option("--backend", choices=BACKENDS, default="numpy", help="cupy runs on an NVIDIA GPU")
    option(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of matrix products on the GPU: tf32 has its tensor cores multiply numbers rounded to 10 bits, faster",
    )
    option(
        "--threads",
        type=positive,
        metavar="N",
        help="of the kernels; without it one less than the cores, since threads that wait for a core that another "
        "program uses cost more than they bring",
    )
    option("--out", metavar="DIR", help="run folder; without it a new one in runs/")
    option(
        "--resume",
        metavar="RUN",
        help="go on with this run as if it had not stopped; --epochs may be raised, and --backend changed",
    )
    option("--save-every", type=positive, default=60, metavar="S", help="seconds between checkpoints within an epoch")
    option("--keep-weights", action="store_true", help="keep the weights of every epoch, in weights/")
    when = "after every epoch and at the end" if recipe.measured_by_epoch else "at the end"
    if not recipe.always_measured:
        option("--evaluate", action="store_true", help=f"measure as `scratchgen evaluate` does, {when}")
    option("--quiet", action="store_true", help="no progress bars")


def run(args) -> int:
    load_matplotlib()  # complains before anything is written
    try:
        folder, config, data = _resumed(args) if args.resume else _started(args)
        recipe, training = _training(config, data)
    except (KeyError, TypeError) as error:
        if not args.resume:
            raise
        what = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UsageError(f"config.json in {args.resume} is damaged: {what}") from None
    config |= {"parameters": sum(p.value.size for p in recipe.model.parameters())}
    was, over = _place(config), False
    if args.resume:
        if folder.checkpoint.is_file():
            training.load(folder.checkpoint)
        begun = training.epoch if training.step else training.epoch - 1
        if args.epochs and args.epochs < begun:
            raise UsageError(f"--epochs is {args.epochs}, and the run is in epoch {begun} already")
        was, over = _place(folder.config()), training.finished and folder.ended
        if not over:
            folder.rewind(training.steps)
            folder.write_json("config.json", config)  # with the epochs that it is to have from now on
    else:
        folder = _create(args, config)
    print(f"data     {data.name}")
    for note in getattr(data, "notes", ()):
        print(f"         {note}")
    if args.batch_size and config["batch_size"] < args.batch_size:
        print(f"note     there are {config['batch_size']:,} training samples, so that is the batch size")
    print(f"model    {recipe.describe()}")
    if config["backend"] == "cupy":
        print(f"GPU      {about()['device']}, {config['precision']}")
    print(f"run      {folder.path}")
    print(f"report   {folder.path / 'report.html'}", flush=True)
    if was != _place(config) and not over:
        print(f"note     until now on {was}, from here on {_place(config)}: the same run up to rounding")
    if args.resume and config["decay"] == "linear" and args.epochs and begun > 0:
        print("note     the learning rate falls to 0 over all epochs: with another number of them it is another run")
    if over:
        print(f"the run has had {training.epoch - 1} epochs: raise --epochs above that to go on")
        return 0
    with limited(config["threads"]):
        return Session(folder, recipe, data, training, quiet=args.quiet).run()


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
    _check_place(args.backend, args.precision)
    data = load(args.data, image_size=args.image_size, channels=args.channels, progress=not args.quiet)
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
    _settle_place(args, config)
    config["epochs"] = args.epochs or config["epochs"]
    config["threads"] = args.threads or config["threads"]
    for name in ("evaluate", "keep_weights"):
        config[name] = getattr(args, name, False) or config.get(name, False)
    config["save_every"] = (
        args.save_every if "save_every" in args.given else config.get("save_every", args.save_every)
    )
    source = args.data if args.data is not None else config["data"]
    size, channels = config.get("image_size"), config.get("channels")
    data = load(source, image_size=size, channels=channels, progress=not args.quiet)
    if digest(data) != config["data_sha256"]:
        raise UsageError(
            f"the data is not what {args.resume} was trained on, {config['data_name']}: choose with --data"
        )
    return folder, config, data


def _check_place(backend: str, precision: str) -> None:
    """Complains where there is no such backend, or it has no such precision."""
    if precision == "tf32" and backend == "numpy":
        raise UsageError("--precision tf32 is a mode of NVIDIA's GPUs: add --backend cupy")
    kernels = load_kernels(backend)
    if backend == "cupy":
        kernels.set_precision(precision)


def _settle_place(args, config) -> None:
    """Where a resumed run goes on, and in which precision: as before where nothing else is asked for."""
    for name in ("backend", "precision"):
        if name in args.given:
            config[name] = getattr(args, name)
    config.setdefault("precision", "float32")
    if config["backend"] == "numpy" and "precision" not in args.given:
        config["precision"] = "float32"
    try:
        _check_place(config["backend"], config["precision"])
    except BackendUnavailable as error:
        if "backend" in args.given:
            raise
        here = "with --backend numpy it goes on on the CPU"
        raise BackendUnavailable(f"{args.resume} was trained with --backend cupy, and {error}; {here}") from None


def _place(config) -> str:
    """Where a run computes, in words."""
    return config["backend"] + (" in tf32" if config.get("precision") == "tf32" else "")


def _create(args, config) -> RunFolder:
    arch = f"-{config['arch']}" if "arch" in config else ""
    path = args.out or RunFolder.unused("runs", f"{config['model']}{arch}")
    try:
        return RunFolder.create(path, config)
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"nothing can be written in {path}: {error.strerror}; choose a folder with --out") from error


def _source(source) -> str:
    """What --data stands for, so that it means the same in another folder later."""
    folder = source if source is not None else os.environ.get("SCRATCHGEN_DATA")
    if not folder:
        return "sample"
    return source if source in SOURCES else os.path.abspath(os.path.expanduser(folder))

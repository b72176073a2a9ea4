"""scratchgen train: train a model and leave all that belongs to it in a run folder."""

import argparse
import os

from scratchgen.backend import BackendUnavailable, load_kernels
from scratchgen.backend.threads import asked_for, cores, limited
from scratchgen.bench.gpu.device import about
from scratchgen.commands import UsageError
from scratchgen.commands.runs import digest, memory_for, pixels
from scratchgen.commands.session import Session
from scratchgen.data import POINTS, SOURCES, load
from scratchgen.files import printable
from scratchgen.paths import as_path
from scratchgen.plots import load_matplotlib
from scratchgen.recipes import RECIPES, RecipeError, build, config_of
from scratchgen.recipes.options import COMMON, FREE, Config, identity, path
from scratchgen.training import OutOfStep, RunFolder, Settings, Training
from scratchgen.version import __version__

NOT_KEPT = ("run", "out", "quiet", "resume", "force", "given", "recipe")


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
    """add_argument that knows what the values of common options are, and ends each help text with the default."""

    def option(name, *, help, **settings):
        common = COMMON.get(name.removeprefix("--").replace("-", "_"))
        if common is not None:
            settings |= common.switch()
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
    cut = "cut out the middle and resize it to N×N pixels, or height × width (default: as they are; folder: 64)"
    option("--image-size", metavar="N|HxW", help=cut)
    option("--channels", help="1: grey, 3: coloured (default: as they are; folder: 3)")
    option("--epochs", metavar="N", help=f"passes over the data {default('epochs')}")
    option("--batch-size", metavar="N", help=f"samples per step {default('batch_size')}")
    option("--lr", metavar="X", help=f"Adam's learning rate {default('lr')}")
    option(
        "--decay",
        help="linear takes the learning rate to 0 at the last of --epochs "
        f"(default: none{', for points linear' if points else ''})",
    )
    option("--seed", default=0, metavar="N", help="of first weights, noise and the order of the data")
    option("--backend", default="numpy", help="cupy runs on an NVIDIA GPU")
    option(
        "--precision",
        default="float32",
        help="of matrix products on the GPU: tf32 has its tensor cores multiply numbers rounded to 10 bits, faster",
    )
    option(
        "--threads",
        metavar="N",
        help="of the kernels; without it SCRATCHGEN_THREADS, else one less than the cores, since threads that wait "
        "for a core that another program uses cost more than they bring",
    )
    option("--out", type=path, metavar="DIR", help="run folder; without it a new one in runs/")
    option(
        "--resume",
        type=path,
        metavar="RUN",
        help="go on with this run as if it had not stopped; --epochs may be raised, and --backend changed",
    )
    option(
        "--force",
        action="store_true",
        help="with --resume: go on from the checkpoint even where weights or metrics are newer or missing, and write "
        "over them",
    )
    option("--save-every", default=60, metavar="S", help="seconds between checkpoints within an epoch")
    option("--keep-weights", help="keep the weights of every epoch, in weights/")
    when = "after every epoch and at the end" if recipe.measured_by_epoch else "at the end"
    if not recipe.always_measured:
        option("--evaluate", help=f"measure as `scratchgen evaluate` does, {when}")
    option("--quiet", action="store_true", help="no progress bars")


def run(args) -> int:
    load_matplotlib()  # complains before anything is written
    return _go_on(args) if args.resume else _begin(args)


def _begin(args) -> int:
    """A new run."""
    config, data = _started(args)
    recipe, training = _training(config, data)
    config |= {"id": identity(config), "parameters": _parameters(recipe)}
    folder = _create(args, config)
    with folder.locked() as locks:
        head = _what(folder, recipe, data, args) + _whether_safe(locks)
        return _train(args, folder, recipe, data, training, head)


def _go_on(args) -> int:
    """A run that is there; until all its files are known to fit nothing is written."""
    if args.out:
        raise UsageError("--out and --resume exclude each other: a resumed run stays in its folder")
    folder = RunFolder.open(args.resume)
    with folder.locked() as locks:
        was = config_of(folder)
        config, data = _resumed(args, was)
        recipe, training = _training(config, data)
        config["parameters"] = _parameters(recipe)
        try:
            notes = folder.restore(training, force=args.force)
        except OutOfStep as error:
            raise UsageError(f"{error}: put the right one back, or go on from the checkpoint with --force") from None
        begun = training.epoch if training.step else training.epoch - 1
        if args.epochs and args.epochs < begun:
            raise UsageError(f"--epochs is {args.epochs}, and the run is in epoch {begun} already")
        over = training.finished and folder.ended
        if not over:
            folder.rewind(training.steps)
            folder.write_json("config.json", config)  # with the epochs that it is to have from now on
        head = _what(folder, recipe, data, args) + _whether_safe(locks) + [f"note     {note}" for note in notes]
        if config["decay"] == "linear" and args.epochs and begun > 0:
            head.append("note     the learning rate falls to 0 over all epochs: with more of them it is another run")
        if over:
            print(*head, f"the run has had {training.epoch - 1} epochs: raise --epochs above that to go on", sep="\n")
            return 0
        return _train(args, folder, recipe, data, training, head + _whether_the_same(args, was, config))


def _what(folder, recipe, data, args) -> list[str]:
    """What is trained on what, and where it goes."""
    config = recipe.config
    lines = [f"data     {data.name}", *(f"         {note}" for note in getattr(data, "notes", ()))]
    if args.batch_size and config["batch_size"] < args.batch_size:
        lines.append(f"note     there are {config['batch_size']:,} training samples, so that is the batch size")
    lines.append(f"model    {recipe.describe()}")
    if config["backend"] == "cupy":
        lines.append(f"GPU      {about()['device']}, {config['precision']}")
    where = printable(str(folder.path))
    return [*lines, f"run      {where}", f"report   {os.path.join(where, 'report.html')}"]


def _whether_safe(locks: bool) -> list[str]:
    unsafe = "note     this file system has no locks: two processes that train this run would spoil it unnoticed"
    return [] if locks else [unsafe]


def _whether_the_same(args, was: Config, config: Config) -> list[str]:
    """What a resumed run does otherwise than until now, or does not though the environment asks for it."""
    same, lines = "the same run up to rounding", []
    if _place(was) != _place(config):
        lines.append(f"note     until now on {_place(was)}, from here on {_place(config)}: {same}")
    if was["backend"] == config["backend"] == "numpy":
        before, now, asked = was.get("threads"), config["threads"], asked_for()
        if before != now:
            lines.append(f"note     until now with --threads {before}, from here on {now}: {same}")
        elif args.threads is None and asked not in (None, now):
            lines.append(f"note     it goes on with its --threads {now}, bit for bit, not SCRATCHGEN_THREADS={asked}")
    return lines


def _train(args, folder, recipe, data, training, head: list[str]) -> int:
    with limited(recipe.config["threads"]):
        return Session(folder, recipe, data, training, quiet=args.quiet).run(head)


def _parameters(recipe) -> int:
    return sum(p.value.size for p in recipe.model.parameters())


def _training(config, data):
    with memory_for("the network", ": a smaller one needs less (--latent, --width, --hidden, --image-size)"):
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
    data = _loaded(args.data, args.image_size, args.channels, args)
    config = {"model": args.recipe.name, **{k: v for k, v in vars(args).items() if k not in NOT_KEPT}}
    config["threads"] = args.threads or asked_for() or max(1, cores() - 1)
    config["data"] = _source(args.data)
    try:
        config = args.recipe.settled(config, data)
    except RecipeError as error:
        raise UsageError(str(error)) from None
    config.setdefault("decay", "none")
    config |= {"data_sha256": digest(data), "data_name": data.name, "scratchgen": __version__}
    return config, data


def _resumed(args, was: Config):
    """The settings with which a run goes on, and its data."""
    config = Config(was, was.source)
    if config["model"] != args.recipe.name:
        raise UsageError(
            f"{args.resume} is a run of {config['model']}: scratchgen train {config['model']} --resume …"
        )
    for name in args.given:
        value = getattr(args, name)
        if name not in FREE and name not in NOT_KEPT and config.get(name) != value:
            switch = "--" + name.replace("_", "-")
            kept = config.get(name)
            kept = ("x" if name == "image_size" else ",").join(map(str, kept)) if isinstance(kept, list) else kept
            how = f"without {switch}" if kept is None else f"with {switch} {kept}"
            raise UsageError(f"{args.resume} was started {how}, and goes on so")
    _settle_place(args, config)
    config["epochs"] = args.epochs or config["epochs"]
    config["threads"] = args.threads or config["threads"]
    for name in ("evaluate", "keep_weights"):
        if hasattr(args, name):
            config[name] = getattr(args, name) or config.get(name, False)
    config["save_every"] = (
        args.save_every if "save_every" in args.given else config.get("save_every", args.save_every)
    )
    source = args.data if args.data is not None else config["data"]
    try:
        data = _loaded(source, config.get("image_size"), config.get("channels"), args)
    except FileNotFoundError as error:
        if args.data is not None:
            raise
        raise UsageError(f"the data of {args.resume} is not where its config.json says: {error}") from None
    if digest(data) != config["data_sha256"]:
        raise UsageError(
            f"the data is not what {args.resume} was trained on, {printable(config['data_name'])}: choose with --data"
        )
    return config, data


def _loaded(source, size, channels, args):
    with memory_for("the data", ": a smaller --image-size needs less, and so do fewer images"):
        return load(source, image_size=pixels(size), channels=channels, progress=not args.quiet)


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
    for _ in range(100):  # so many at once may take the name that was free
        folder = args.out or RunFolder.unused("runs", f"{config['model']}{arch}")
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


def _source(source) -> str:
    """What --data stands for, so that it means the same in another folder later."""
    source = source if source is not None else os.environ.get("SCRATCHGEN_DATA") or "sample"
    return source if source in SOURCES else os.path.abspath(as_path(source))

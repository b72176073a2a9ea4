"""What the commands on a finished run share: opening it, its data, and where results go."""

from pathlib import Path

import numpy as np

from scratchgen.backend import load_kernels
from scratchgen.commands import UsageError
from scratchgen.data import load
from scratchgen.files import atomic_write
from scratchgen.recipes import Recipe, load_run
from scratchgen.training import RunFolder, save_picture

RESULTS = (".png", ".npy")


def load_data(source, image_size, channels, *, progress: bool = True):
    """The data; TypeError and such of `data.load` say what is wrong with it."""
    return load(source, image_size=image_size, channels=channels, progress=progress)


def open_run(args) -> tuple[RunFolder, Recipe]:
    """The run at args.RUN with its trained weights, on args.backend."""
    load_kernels(args.backend)
    run = RunFolder.open(args.RUN)
    if not run.weights.is_file():
        raise UsageError(f"{args.RUN} has no weights yet: it was stopped before its first step")
    return run, load_run(args.RUN, backend=args.backend)


def data_of(args, recipe: Recipe):
    """The data that the run was trained on, or --data in the same form."""
    c = recipe.config
    size = c.get("image_size") or (c["image_shape"][0] if args.data and "image_shape" in c else None)
    channels = c.get("channels") or (c["image_shape"][2] if args.data and "image_shape" in c else None)
    if "image_shape" in c and c["image_shape"][0] != c["image_shape"][1]:
        size = None
    data = load_data(args.data if args.data is not None else c["data"], size, channels)
    if list(getattr(data, "image_shape", ())) != list(c.get("image_shape", ())):
        what = f"images {tuple(c['image_shape'])}" if "image_shape" in c else "points"
        raise UsageError(f"{data.name} does not fit: the run is of {what}")
    return data


def add_run_options(parser, *, data: bool) -> None:
    """RUN and what goes with it."""
    parser.add_argument("RUN", help="folder of a run, as `scratchgen train` prints it")
    if data:
        parser.add_argument("--data", metavar="NAME|DIR", help="other data of the same form (default: the run's own)")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy", help="cupy runs on an NVIDIA GPU")


def output_path(text: str) -> Path:
    """For --output: a file whose name says what it is to hold."""
    path = Path(text)
    if path.suffix.lower() not in RESULTS:
        raise UsageError(f"--output is {text}, needs a name that ends in .png (a picture) or .npy (numbers)")
    if not path.parent.is_dir():
        raise UsageError(f"--output is {text}: there is no folder {path.parent}")
    return path


def write_result(path: Path, numbers: np.ndarray, picture) -> None:
    """The picture, a function that makes it, or the numbers: by the file's ending."""
    if path.suffix.lower() == ".npy":
        with atomic_write(path) as stream:
            np.save(stream, np.ascontiguousarray(numbers, np.float32), allow_pickle=False)
    else:
        save_picture(picture(), path)
    print(path)

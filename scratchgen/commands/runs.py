"""What the commands on a finished run share: opening it, its data, and where results go."""

import hashlib
import sys
from pathlib import Path

import numpy as np

from scratchgen.backend import BACKENDS, BackendUnavailable, load_kernels
from scratchgen.commands import UsageError
from scratchgen.data import POINTS, Points, load
from scratchgen.files import atomic_write, printable
from scratchgen.recipes import Recipe, config_of, load_run
from scratchgen.training import RunFolder, save_picture

RESULTS = (".png", ".npy")


def open_run(args) -> tuple[RunFolder, Recipe]:
    """The run at args.RUN with its trained weights, on args.backend, or else where it was trained if that is here."""
    if args.backend is not None:
        load_kernels(args.backend)
    run = RunFolder.open(args.RUN)
    return run, load_run(args.RUN, backend=args.backend or _backend_here(run))


def _backend_here(run: RunFolder) -> str:
    """The backend that a run was trained on, or "numpy", with a note, where this machine lacks it."""
    backend = config_of(run).get("backend", "numpy")
    try:
        load_kernels(backend)
    except BackendUnavailable as error:
        print(f"note: {run.path} was trained on {backend}, and this runs on numpy, since {error}", file=sys.stderr)
        return "numpy"
    return backend


def data_of(args, recipe: Recipe):
    """The data that the run was trained on, or --data in the same form."""
    c = recipe.config
    size = c.get("image_size") or (c["image_shape"][0] if args.data and "image_shape" in c else None)
    channels = c.get("channels") or (c["image_shape"][2] if args.data and "image_shape" in c else None)
    if "image_shape" in c and c["image_shape"][0] != c["image_shape"][1]:
        size = None
    if "image_shape" in c and args.data in POINTS:
        raise UsageError(f"the run is of images {tuple(c['image_shape'])}, and {args.data} is of points")
    data = load(args.data if args.data is not None else c["data"], image_size=size, channels=channels)
    if list(getattr(data, "image_shape", ())) != list(c.get("image_shape", ())):
        what = f"images {tuple(c['image_shape'])}" if "image_shape" in c else "points"
        raise UsageError(f"{data.name} does not fit: the run is of {what}")
    if args.data is None and digest(data) != c.get("data_sha256"):
        raise UsageError(
            f"{printable(c['data'])} is no longer what the run was trained on, so its test images may be training "
            f"images: to take it as it is now, say --data {printable(c['data'])}"
        )
    return data


def add_run_options(parser, *, data: bool) -> None:
    """RUN and what goes with it."""
    parser.add_argument("RUN", help="folder of a run, as `scratchgen train` prints it")
    if data:
        parser.add_argument("--data", metavar="NAME|DIR", help="other data of the same form (default: the run's own)")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="cupy runs on an NVIDIA GPU (default: that of the training, or numpy where there is no GPU)",
    )


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


def evaluate(folder: RunFolder, recipe: Recipe, data, **options) -> None:
    """Measure, print, and keep evaluation/ in the run folder."""
    found = recipe.measure(data, **options)
    print()
    width = max(len(label) for label, _ in found.rows)
    for label, text in found.rows:
        print(f"{label:<{width}}  {text}".rstrip())
    for name, picture in found.pictures.items():
        folder.save_picture(picture, f"evaluation/{name}")
    records = folder.records()
    if records.unreadable:
        print(f"note     {folder.metrics}: {records.note}")
    epoch = max((r["epoch"] for r in records if r["kind"] == "epoch"), default=0)
    folder.write_measures({"data": data.name, "epoch": epoch, "rows": found.rows, **found.values})


def digest(data) -> str:
    """SHA-256 of the training samples."""
    samples = data.train if isinstance(data, Points) else data.train_images
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()

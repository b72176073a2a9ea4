"""Tiny data, tiny models and runs of them, for the tests of training and of the command line."""

import contextlib
import json
import signal

import numpy as np
from PIL import Image

from scratchgen import backend
from scratchgen.cli import main
from scratchgen.data import toys, write_idx
from scratchgen.data.labelled import FILES
from scratchgen.paths import cache_folder
from scratchgen.safetensors_file import read_arrays

SMALL = "--data digits --image-size 8 --hidden 6 --latent 3 --batch-size 16"
MODELS = {  # the command line of a small run of each kind, with 4 steps an epoch, each of which is marked
    "ae": f"ae {SMALL}",
    "ae-conv": "ae --data digits --image-size 8 --arch conv --width 2 --latent 3 --batch-size 16 --decay linear "
    "--loss squared-error",
    "vae": f"vae {SMALL} --binarise dynamic",
    "vae-gaussian": "vae --data photos --image-size 8 --hidden 6 --latent 2 --batch-size 8 --likelihood gaussian "
    "--beta 2",
    "gan": "gan --data digits --image-size 4 --latent 3 --k 2 --batch-size 16",
    "points": "gan --data ring --batch-size 64 --k 3 --prior uniform",
    "dcgan": "dcgan --data photos --image-size 16 --width 1 --latent 3 --batch-size 8 --decay linear",
}
MODELS = {name: (*line.split(), "--sample-every", "1") for name, line in MODELS.items()}


def digits(folder, train: int = 60, test: int = 20):
    """Four IDX files as those of MNIST, of blots."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for part, count in (("train", train), ("test", test)):
        blots = rng.integers(0, 256, (count, 7, 7), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
        images, labels = FILES[:2] if part == "train" else FILES[2:]
        write_idx(folder / images, blots)
        write_idx(folder / labels, (np.arange(count) % 10).astype(np.uint8))
    return folder


def photos(folder, count: int = 34, size: int = 16):
    """Coloured images, and one in ten of them for testing."""
    rng = np.random.default_rng(2)
    folder.mkdir()
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(folder / f"{i:03d}.png")
    return folder


def folder_with_data(folder, monkeypatch):
    """Work in this folder, with tiny data in it, and without pictures."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)
    few_points(monkeypatch)
    no_pictures(monkeypatch)
    digits(folder / "digits")
    photos(folder / "photos")
    return folder


def own_cache(folder, monkeypatch):
    """A cache folder beside this one, with the compiled loops of the machine: each takes half a second."""
    kept, folder = cache_folder("kernels"), folder.with_name(f"{folder.name}-cache")
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(folder))
    folder.mkdir()
    kept.mkdir(parents=True, exist_ok=True)
    (folder / "kernels").symlink_to(kept)


def said(text: str) -> str:
    """What a process wrote on standard error, but for the line that says why its first seconds are slow."""
    return "".join(line for line in text.splitlines(keepends=True) if ": compiling loops" not in line)


def without_cupy(monkeypatch, sentence: str) -> None:
    """Asking for CuPy fails, with a sentence."""
    imported = backend.arrays._imported

    def without(name):
        if name == "cupy":
            raise backend.BackendUnavailable(sentence)
        return imported(name)

    monkeypatch.setattr(backend.arrays, "_imported", without)


def few_points(monkeypatch) -> None:
    """The ring with 256 training points."""
    ring = toys.ring
    monkeypatch.setattr(toys, "ring", lambda rng: ring(256, 40, rng))


def no_pictures(monkeypatch) -> None:
    """Where it is not they that are tested: neither curves nor sheets, which take most of a tiny run's time."""
    monkeypatch.setattr("scratchgen.report.page.curve", lambda *args: None)
    monkeypatch.setattr("scratchgen.commands.training_run.take_away", lambda *args: {})
    dot = Image.new("L", (1, 1))
    for name in ("autoencoder.AutoencoderRecipe", "vae.VAERecipe", "gan.GANRecipe"):
        monkeypatch.setattr(f"scratchgen.recipes.{name}.sheet", lambda self, data: dot)
    drawn = "autoencoder.image_rows autoencoder.codes vae.image_rows vae.codes gan.scatter gan.bars"
    for name in drawn.split():
        monkeypatch.setattr(f"scratchgen.recipes.{name}", lambda *args, **options: dot)


def stop_after(monkeypatch, steps: int | None) -> None:
    """The next run is asked to stop, as by Ctrl-C, in the course of that step, counted from where it goes on."""
    taken = []

    class Request:
        number = signal.SIGINT

        def is_set(self):
            return steps is not None and len(taken) >= steps

    @contextlib.contextmanager
    def request():
        yield Request()

    from scratchgen.training import Training

    one_step = getattr(Training._one_step, "plain", Training._one_step)

    def counted(self, batch):
        taken.append(1)
        one_step(self, batch)

    counted.plain = one_step
    monkeypatch.setattr(Training, "_one_step", counted)
    monkeypatch.setattr("scratchgen.commands.training_run.stop_request", request)


def run(*argv) -> int:
    """Exit status of a command line, argparse's exits included."""
    try:
        return main([str(a) for a in argv])
    except SystemExit as stop:
        return stop.code


def records(folder) -> list[dict]:
    """What metrics.jsonl says, each line a JSON object without NaN; times and speeds left out."""

    def refuse(constant):
        raise AssertionError(f"metrics.jsonl has {constant}")

    lines = [json.loads(line, parse_constant=refuse) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "per_second")} for line in lines]


def outcome(folder) -> dict:
    """All that a run arrives at, exactly: arrays as bytes, the state of the noise, records; times left out."""
    arrays, position = read_arrays(folder / "checkpoint.safetensors")
    weights, about = read_arrays(folder / "weights.safetensors")
    position.pop("seconds")
    for timed in ("seconds", "per_second"):
        (position["ended"] or {}).pop(timed, None)
    return {
        "arrays": {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()},
        "weights": {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in weights.items()},
        "about": about,
        "position": position,
        "records": [r for r in records(folder) if r["kind"] != "end"],
    }


def assert_same(found: dict, wanted: dict) -> None:
    """As ==, saying in few words what differs."""
    for part, value in wanted.items():
        if isinstance(value, dict):
            assert found[part].keys() == value.keys(), part
            different = [name for name in value if found[part][name] != value[name]]
            assert not different, f"{part}: {different}"
        else:
            assert found[part] == value, part

"""Thousands of damaged data files: each is read, or refused in one sentence, soon and in little memory.

A few of each kind in every run of the tests; all with `pytest -m slow`.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from damaged import damaged
from PIL import Image, features

from scratchgen.data import load

MOST_MIB = 1024
MOST_SECONDS = 20  # for one file
FEW, MANY = 12, 400  # of each kind


def idx(name: str) -> bytes:
    from scratchgen.data import mnist

    content = gzip.decompress((mnist.SAMPLE / f"t10k-{name}-ubyte.gz").read_bytes())
    if name == "images-idx3":
        return content[:4] + (40).to_bytes(4, "big") + content[8 : 16 + 40 * 784]
    return content[:4] + (40).to_bytes(4, "big") + content[8:48]


def mnist_around(name: str, content: bytes) -> dict[str, bytes]:
    """The four files of a small MNIST, that one among them."""
    files = {
        f"{part}-{kind}-ubyte": idx(kind) for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    }
    files.pop(name.removesuffix(".gz"), None)
    return {**files, name: content}


def cifar_binary() -> bytes:
    return b"".join(bytes([i]) + bytes((i * np.arange(3072) % 256).astype(np.uint8)) for i in range(4))


def cifar_python() -> bytes:
    pixels = np.frombuffer(cifar_binary(), np.uint8).reshape(4, 3073)[:, 1:].copy()
    return pickle.dumps({"labels": [0, 1, 2, 3], "data": pixels, "filenames": ["a", "b", "c", "d"]}, 3)


def cifar_around(name: str, content: bytes) -> dict[str, bytes]:
    binary = name.endswith(".bin")
    whole, other = (cifar_binary(), "data_batch_1.bin") if binary else (cifar_python(), "data_batch_1")
    return {other: whole, name: content}


PHOTO = (np.add.outer(np.arange(40), 3 * np.arange(50))[..., None] * (1, 2, 3) % 256).astype(np.uint8)


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image, options = Image.fromarray(PHOTO), {}
    match kind:
        case "progressive.jpg":
            options = {"progressive": True, "exif": exif}
        case "transparent.png":
            image = image.convert("RGBA")
        case "palette.png":
            image = image.convert("P")
        case "deep.png":
            image = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 16)
        case "float.tif":
            image = Image.fromarray(PHOTO[..., 0].astype(np.float32))
        case "packed.tif":
            options = {"compression": "tiff_deflate", "exif": exif}
        case "moving.gif" | "moving.webp" | "moving.png":
            options = {"save_all": True, "append_images": [image.rotate(90), image.rotate(45)]}
        case "lossless.webp":
            options = {"lossless": True}
    image.save(file, Image.registered_extensions()["." + kind.split(".")[-1]], **options)
    return file.getvalue()


def images_around(name: str, content: bytes) -> dict[str, bytes]:
    return {"whole1.png": picture("a.png"), "whole2.png": picture("palette.png"), name: content}


def numpy_file(kind: str) -> bytes:
    file = io.BytesIO()
    grey = PHOTO[None, ..., 0].repeat(5, 0)
    match kind:
        case "uint8.npy":
            np.save(file, grey)
        case "float.npy":
            np.save(file, np.float32(grey / 255))
        case "plain.npz":
            np.savez(file, x_train=grey, y_train=np.arange(5), x_test=grey[:2], y_test=np.arange(2))
        case "packed.npz":
            np.savez_compressed(file, images=grey / 255, labels=np.arange(5))
    return file.getvalue()


PICTURES = [
    *("a.png", "transparent.png", "palette.png", "deep.png", "moving.png", "a.jpg", "progressive.jpg", "a.gif"),
    *("moving.gif", "a.bmp", "a.ppm", "a.tif", "packed.tif", "float.tif", "a.webp", "lossless.webp", "moving.webp"),
    *(["a.jp2"] if features.check("jpg_2000") else []),
    *(["a.avif"] if features.check("avif") else []),
]
KINDS = {  # the name of the file, its content, and what lies beside it
    **{
        name: (name, (lambda n=name: gzip.compress(idx(n[5:16])) if n.endswith("gz") else idx(n[5:16])), mnist_around)
        for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz")
    },
    "test_batch.bin": ("test_batch.bin", cifar_binary, cifar_around),
    "test_batch": ("test_batch", cifar_python, cifar_around),
    **{kind: (kind, (lambda k=kind: picture(k)), images_around) for kind in PICTURES},
    **{
        kind: (kind, (lambda k=kind: numpy_file(k)), None)
        for kind in ("uint8.npy", "float.npy", "plain.npz", "packed.npz")
    },
}


def read(kind: str, number: int, folder: Path) -> str:
    """Damage the file of that kind in the way of that number, and load what it is in: what was wrong, or ""."""
    name, whole, around = KINDS[kind]
    content = damaged(whole(), np.random.default_rng([list(KINDS).index(kind), number]))
    folder.mkdir()
    for file, inside in (around(name, content) if around else {name: content}).items():
        (folder / file).write_bytes(inside)
    source = folder if around else folder / name
    try:
        data = load(source, image_size=8, channels=1, progress=False)
    except (OSError, ValueError) as error:
        said = str(error)
        if str(folder) not in said:
            return f"the sentence does not name the file: {said}"
        if "\n" in said or not said.rstrip().endswith((".", ")")) or len(said) > 600:
            return f"not one sentence: {said!r}"
        return "" if around is not images_around else f"one damaged picture stopped the others: {said}"
    if data.image_shape != (8, 8, 1) or len(data.train_images) < 1 or len(data.test_images) < 1:
        return f"read as {data.image_shape}"
    if around is images_around and not (
        len(data.train_images) + len(data.test_images) == 3 or any("1 left out: " in note for note in data.notes)
    ):
        return "left out without a word"
    if any("\n" in note for note in data.notes):
        return f"a note of several lines: {data.notes}"
    return ""


def read_many(kind: str, numbers: range, folder: Path) -> dict:
    """In a process of its own, whose peak of memory is theirs."""
    slowest, faults = 0.0, []
    for number in numbers:
        began = time.perf_counter()
        try:
            fault = read(kind, number, folder / f"{kind}-{number}")
        except BaseException as error:  #  whatever it is, it is the fault looked for
            fault = f"{type(error).__name__}: {error}"
        slowest = max(slowest, time.perf_counter() - began)
        if fault:
            faults.append(f"{kind} {number}: {fault}")
    return {"faults": faults, "slowest": slowest, "peak": _peak()}


def _peak() -> float:
    """The most memory that this process has had, MiB; 0 where the system does not say."""
    try:  # ru_maxrss would count the memory of the process that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024


def check(kinds: list[str], numbers: range, folder: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from test_damaged_data import read_many;"
        "kinds, first, last = json.loads(sys.argv[1]);"
        "print(json.dumps([read_many(kind, range(first, last), Path(sys.argv[2])) for kind in kinds]))"
    )
    arguments = json.dumps([kinds, numbers.start, numbers.stop]), str(folder)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        timeout=len(kinds) * len(numbers) * MOST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{kinds}: exit status {done.returncode}: {done.stderr[-2000:]}"
    assert done.stderr == ""
    found = json.loads(done.stdout.splitlines()[-1])
    assert [fault for result in found for fault in result["faults"]] == []
    assert max(result["slowest"] for result in found) < MOST_SECONDS
    assert max(result["peak"] for result in found) < MOST_MIB


GROUPS = {
    "IDX": [kind for kind in KINDS if "idx" in kind],
    "CIFAR-10": [kind for kind in KINDS if "batch" in kind],
    "NumPy": [kind for kind in KINDS if "np" in kind.split(".")[-1]],
    "images": PICTURES,
}


def test_every_kind_is_in_a_group() -> None:
    assert sorted(kind for group in GROUPS.values() for kind in group) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_files_are_read(tmp_path: Path, kind: str) -> None:
    name, whole, around = KINDS[kind]
    for file, inside in (around(name, whole()) if around else {name: whole()}).items():
        (tmp_path / file).write_bytes(inside)
    data = load(tmp_path if around else tmp_path / name, image_size=8, channels=1, progress=False)
    assert not [note for note in data.notes if "left out" in note]


@pytest.mark.parametrize("group", GROUPS)
def test_some_damaged_files(tmp_path: Path, group: str) -> None:
    check(GROUPS[group], range(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_damaged_files(tmp_path: Path, kind: str) -> None:
    check([kind], range(FEW, FEW + MANY), tmp_path)

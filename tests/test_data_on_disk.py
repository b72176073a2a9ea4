"""Published data sets where other libraries have put them, and CIFAR-10's pickles, which are never run."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from test_data import FILES, write_mnist
from test_data_sources import cifar_file, write_cifar

from scratchgen.cli import main
from scratchgen.commands import train
from scratchgen.data import DownloadError, cifar, cifar_python, fashion, load, load_cifar10, mnist, on_disk, write_idx

RAW = tuple(name.removesuffix(".gz") for name in FILES)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data sets of a few images count as whole, in a home of their own, and nothing can be downloaded."""
    for name in "SCRATCHGEN_DATA", "KERAS_HOME":
        monkeypatch.delenv(name, raising=False)
    for name, (_, shape, first) in on_disk.PUBLISHED.items():
        monkeypatch.setitem(on_disk.PUBLISHED, name, ((10, 10), shape, first))
    for name in "HOME", "USERPROFILE":
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(mnist, "download_mnist", _no_network)
    monkeypatch.setattr(fashion, "download_fashion_mnist", _no_network)
    monkeypatch.setattr(cifar, "download_cifar10", _no_network)


def _no_network(**_: object) -> None:
    raise DownloadError("it could not be downloaded from any mirror")


def put_idx(folder: Path, first: list[int], names: tuple[str, ...] = FILES) -> Path:
    write_mnist(folder, 10, 10, names)
    write_idx(folder / names[3], np.array(first, np.uint8))
    return folder


def put_mnist(folder: Path) -> Path:
    return put_idx(folder, fashion.FIRST_LABELS_MNIST, RAW)


def put_fashion(folder: Path) -> Path:
    return put_idx(folder, fashion.FIRST_LABELS)


def put_npz(folder: Path) -> Path:
    """As Keras keeps MNIST."""
    folder.mkdir(parents=True)
    x, y = np.arange(7840).reshape(10, 28, 28).astype(np.uint8), np.array(fashion.FIRST_LABELS_MNIST, np.uint8)
    np.savez_compressed(folder / "mnist.npz", x_test=x, x_train=x, y_train=y, y_test=y)
    return folder


def put_cifar(folder: Path) -> Path:
    write_cifar(folder)
    (folder / "test_batch.bin").write_bytes(cifar_file(cifar.FIRST_LABELS))
    return folder


def python_batch(labels: list[int], /, **changes: object) -> bytes:
    """A file of the Python version as Python 2 wrote it: strings are bytes, numbers fill the array in place."""
    planes = np.frombuffer(cifar_file(labels), np.uint8).reshape(-1, 3073)[:, 1:]

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def numbers(values: list[int]) -> bytes:
        return b"]q\x05(" + b"".join(b"K" + bytes([value]) for value in values) + b"e"

    pixels = planes.tobytes()
    built = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87R"
    state = b"(K\x01" + b"M" + struct.pack("<H", len(labels)) + b"M\x00\x0c\x86"
    state += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    array = built + state + b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    names = b"](" + b"".join(text(b"image_%d.png" % i) for i in range(len(labels))) + b"e"
    content = {
        b"batch_label": text(b"training batch"),
        b"labels": numbers(labels),
        b"data": array,
        b"filenames": names,
    }
    for name, value in changes.items():
        content[name.encode()] = value
    return b"\x80\x02}q\x01(" + b"".join(text(key) + b"q\x09" + value for key, value in content.items()) + b"u."


def put_python(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, 6):
        (folder / f"data_batch_{i}").write_bytes(python_batch([i, i - 1]))
    (folder / "test_batch").write_bytes(python_batch(cifar.FIRST_LABELS))
    (folder / "batches.meta").write_bytes(b"never looked at")
    return folder


PLACES = {  # what is put where; HERE is the working directory, HOME the home directory
    "mnist": [
        ("data/MNIST/raw", put_mnist),
        ("datasets/MNIST/raw", put_mnist),
        ("MNIST/raw", put_mnist),
        ("data/mnist", put_mnist),
        (".", put_mnist),
        ("../home/data/MNIST/raw", put_mnist),
        ("../home/datasets/MNIST/raw", put_mnist),
        ("../home/.keras/datasets", put_npz),
        ("../cache/mnist", put_mnist),
    ],
    "fashion-mnist": [
        ("data/FashionMNIST/raw", put_fashion),
        ("data", put_fashion),
        ("../home/.keras/datasets/fashion-mnist", put_fashion),
        ("../cache/fashion-mnist", put_fashion),
    ],
    "cifar10": [
        ("data/cifar-10-batches-py", put_python),
        ("data/cifar-10-batches-bin", put_cifar),
        ("../home/.keras/datasets/cifar-10-batches-py", put_python),
        ("../home/.keras/datasets/cifar-10-batches-py-target/cifar-10-batches-py", put_python),
        ("../cache/cifar-10", put_cifar),
    ],
}
CASES = [(name, place, put) for name, places in PLACES.items() for place, put in places]
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


@pytest.mark.parametrize(("name", "place", "put"), CASES)
def test_found_where_others_have_put_it(name: str, place: str, put) -> None:
    put(Path(place))
    data = load(name, progress=False)
    assert data.name.startswith(f"{TITLES[name]} (10 training and 10 test ")
    where = data.name.split(" from ")[1].rstrip(")")
    assert Path(where).resolve().is_relative_to(Path(place).resolve())  # said where
    assert data.test_labels.tolist() == on_disk.PUBLISHED[name][2]
    assert data.notes == ()
    assert len(data.classes) == 10
    other = next(other for other in PLACES if other != name)
    with pytest.raises(DownloadError, match="it could not be downloaded from any mirror"):
        load(other, progress=False)


@pytest.mark.parametrize("inside", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("spelled", ["{}", "{}/", "~/mine"])
def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, spelled: str) -> None:
    put_mnist(Path("data"))
    put_mnist(tmp_path / "cache" / "mnist")
    folder = tmp_path / "home" / "mine"
    put_mnist(folder / inside)
    monkeypatch.setenv("SCRATCHGEN_DATA", spelled.format(folder))
    assert f"from {folder / inside}" in load("mnist").name
    assert "from " + str(folder) in load().name


def test_the_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCHGEN_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    places = on_disk.places("mnist")
    home = tmp_path / "home"
    assert places == [
        tmp_path / "mine",
        tmp_path / "cache" / "mnist",
        Path(),
        Path("data"),
        Path("datasets"),
        home / "data",
        home / "datasets",
        tmp_path / "keras" / "datasets",
    ]
    for place in reversed(places):
        put_mnist(place) if place.name != "datasets" or "keras" not in place.parts else put_npz(place)
        where = load("mnist").name.split(" from ")[1].rstrip(")")
        assert Path(where) in (place, place / "mnist.npz")
    monkeypatch.setenv("SCRATCHGEN_DATA", str(tmp_path / "keras" / "datasets" / "mnist.npz"))
    assert load("mnist").name.endswith("mnist.npz)")


def truncated(folder: Path) -> None:
    path = folder / RAW[0]
    path.write_bytes(path.read_bytes()[:-1])


def empty(folder: Path) -> None:
    (folder / RAW[2]).write_bytes(b"")


def fewer(folder: Path) -> None:
    write_mnist(folder, 6, 10, RAW)


def other_labels(folder: Path) -> None:
    write_idx(folder / RAW[3], np.zeros(10, np.uint8))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncated, "of values; shape"),
        (empty, "is empty"),
        (fewer, "has 6 + 10 images, not 10 + 10"),
        (other_labels, "is not mnist: its test labels are others"),
    ],
)
def test_what_is_not_whole_is_passed_over_and_said(tmp_path: Path, damage, reason: str) -> None:
    damage(put_mnist(Path("data")))
    put_mnist(tmp_path / "home" / "data")
    data = load("mnist")
    assert f"from {tmp_path / 'home' / 'data'})" in data.name
    (note,) = data.notes
    assert note.startswith("skipped data: ")
    assert reason in note
    shutil.rmtree(tmp_path / "home" / "data")
    with pytest.raises(DownloadError) as caught:
        load("mnist")
    assert str(caught.value).splitlines()[0] == "it could not be downloaded from any mirror"
    assert (
        str(caught.value).splitlines()[1].startswith(f"It was looked for in {tmp_path / 'cache' / 'mnist'}, ., data,")
    )
    assert str(caught.value).splitlines()[2] == note


def test_a_folder_with_several_data_sets(tmp_path: Path) -> None:
    """torchvision's root, given as a folder."""
    put_fashion(tmp_path / "root" / "FashionMNIST" / "raw")
    data = load(tmp_path / "root")
    assert data.name.startswith("Fashion-MNIST (10 ")
    assert data.notes == ()
    put_mnist(tmp_path / "root" / "MNIST" / "raw")
    data = load(tmp_path / "root")
    assert data.name.startswith("MNIST (10 ")
    assert data.notes == (
        f"{tmp_path / 'root' / 'FashionMNIST' / 'raw'} holds such files, too; give that folder to take them.",
    )


def test_a_name_in_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Whatever --data takes, the variable does, and the run keeps it so."""
    monkeypatch.setenv("SCRATCHGEN_DATA", "ring")
    switches = ["--hidden", "4", "--latent", "2", "--epochs", "1", "--batch-size", "100000", "--quiet", "--out", "r"]
    assert main(["train", "gan", *switches]) == 0, capsys.readouterr().err
    assert '"data": "ring"' in Path("r/config.json").read_text(encoding="utf-8")
    for name, kept in (
        ("sample", "sample"),
        ("cifar10", "cifar10"),
        ("", "sample"),
        ("./ring", str(Path("ring").resolve())),
    ):
        monkeypatch.setenv("SCRATCHGEN_DATA", name)
        assert train._source(None) == kept
        assert train._source("mnist") == "mnist"
    monkeypatch.delenv("SCRATCHGEN_DATA")
    assert train._source(None) == "sample"


def test_published_names_in_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    put_mnist(Path("data/MNIST/raw"))
    put_fashion(Path("data/FashionMNIST/raw"))
    put_python(Path("data/cifar-10-batches-py"))
    for name, title in TITLES.items():
        monkeypatch.setenv("SCRATCHGEN_DATA", name)
        assert load().name.startswith(f"{title} (10 ")


# ------------------------------------------------------------------------------- CIFAR-10's Python version


def test_the_python_version_holds_what_the_binary_one_does(tmp_path: Path) -> None:
    binary, python = load_cifar10(put_cifar(tmp_path / "b")), load_cifar10(put_python(tmp_path / "p"))
    for part in "train", "test":
        assert np.array_equal(getattr(python, f"{part}_images"), getattr(binary, f"{part}_images"))
        assert np.array_equal(getattr(python, f"{part}_labels"), getattr(binary, f"{part}_labels"))
        assert getattr(python, f"{part}_images").flags.c_contiguous
    (tmp_path / "p" / "data_batch_2").unlink()
    assert "data_batch_2.bin missing" in load_cifar10(tmp_path / "p").notes[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_whichever_python_wrote_it(tmp_path: Path, protocol: int) -> None:
    """Pickled anew, by today's NumPy and in any protocol that keeps the pixels in one piece."""
    planes = np.frombuffer(cifar_file([3, 8]), np.uint8).reshape(-1, 3073)[:, 1:].copy()
    for key in str, str.encode:
        content = {key("labels"): [3, 8], key("data"): planes, key("filenames"): ["data", "labels", 7]}
        (tmp_path / "a").write_bytes(pickle.dumps(content, protocol))
        try:
            images, labels = cifar_python.read_batch(tmp_path / "a")
        except ValueError:
            assert protocol == 0  # numbers and pixels as text with escapes
            continue
        assert labels.tolist() == [3, 8]
        assert np.array_equal(images.transpose(0, 3, 1, 2).reshape(2, -1), planes)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


HOSTILE = {
    "a call": lambda ran: pickle.dumps(Hostile(ran)),
    "a call among the labels": lambda ran: pickle.dumps({"labels": [3, Hostile(ran)], "data": Hostile(ran)}, 2),
    "eval": lambda ran: b"c__builtin__\neval\n(V__import__('os').mkdir('ran')\ntR.",
    "nothing": lambda ran: b"",
    "no pickle": lambda ran: b"no pickle at all",
    "text": lambda ran: pickle.dumps("data" * 1000),
    "a long list": lambda ran: b"\x80\x02]" + b"K\x01" * 400_000 + b".",
    "a stated length": lambda ran: b"\x80\x02U\x04dataT\xff\xff\xff\x7f",
    "a number of many digits": lambda ran: b"U\x06labelsL" + b"9" * 10_000 + b"L\n.",
    "deep": lambda ran: b"\x80\x02" + b"](" * 100_000 + b".",
    "label 10": lambda ran: python_batch([10]),
    "more labels": lambda ran: python_batch([1, 2], labels=b"](K\x01K\x02K\x03e"),
    "no labels": lambda ran: python_batch([1], labels=b"]"),
    "negative": lambda ran: python_batch([1], labels=b"](J\xff\xff\xff\xffe"),
    "words for labels": lambda ran: python_batch([1], labels=b"](U\x01ae"),
    "cut": lambda ran: python_batch([1, 2])[:-100],
    "floats": lambda ran: pickle.dumps({"labels": [3], "data": np.zeros((1, 384))}, 3),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = put_python(tmp_path / "c")
    path = folder / "data_batch_3"
    path.write_bytes(HOSTILE[case](tmp_path / "ran"))
    began = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError, match=re.escape(f"{path}: is not a complete file of CIFAR-10's Python")
        ) as caught:
            load_cifar10(folder)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < 30  # seconds; tracing slows it


def test_what_is_not_needed_is_not_run_either(tmp_path: Path) -> None:
    """A call beside the data: a whole file to those who run it, and to us."""
    folder = put_python(tmp_path / "c")
    call = pickle.dumps(Hostile(tmp_path / "ran"), 2)[2:-1]
    (folder / "test_batch").write_bytes(python_batch([3, 8], filenames=call))
    assert load_cifar10(folder).test_labels.tolist() == [3, 8]
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_too_many_instructions(tmp_path: Path) -> None:
    folder = put_python(tmp_path)
    (folder / "test_batch").write_bytes(python_batch([3], filenames=b"](" + b"K\x01" * 310_000 + b"e"))
    with pytest.raises(ValueError, match=r"test_batch: is not a complete file .* \(more than 300,000 instructions\)"):
        load_cifar10(folder)


def test_a_pickle_that_is_too_large(tmp_path: Path) -> None:
    folder = put_python(tmp_path)
    os.truncate(folder / "test_batch", 70 << 20)
    with pytest.raises(
        ValueError, match=r"test_batch: has 73,400,320 bytes; a file of CIFAR-10's Python version has 31"
    ):
        load_cifar10(folder)

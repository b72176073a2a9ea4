"""Images in .npy and .npz files."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scratchgen.cli import main
from scratchgen.data import Dataset, arrays, limits, load, load_arrays

RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(23, 8, 6), dtype=np.uint8)
COLOUR = RNG.integers(256, size=(23, 8, 6, 3), dtype=np.uint8)
HELD = np.arange(23) % 10 == 0


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)


def saved(folder: Path, name: str = "a.npz", /, *, packed: bool = True, **stored: np.ndarray) -> Path:
    (np.savez_compressed if packed else np.savez)(folder / name, **stored)
    return folder / name


def check(data: Dataset, images: np.ndarray) -> None:
    """All images are there, every 10th of them for testing."""
    images = images if images.ndim == 4 else images[..., None]
    assert np.array_equal(data.test_images, images[HELD])
    assert np.array_equal(data.train_images, images[~HELD])
    assert data.train_images.flags.c_contiguous
    assert data.test_images.flags.c_contiguous


LAYOUTS = {
    "(N, H, W)": (GREY, GREY, ""),
    "(N, H, W, 1)": (GREY[..., None], GREY, ""),
    "(N, H, W, 3)": (COLOUR, COLOUR, ""),
    "(N, 3, H, W)": (
        COLOUR.transpose(0, 3, 1, 2),
        COLOUR,
        "(23, 3, 8, 6) is taken for (N, C, H, W): channels first.",
    ),
    "(N, 1, H, W)": (GREY[:, None], GREY, "(23, 1, 8, 6) is taken for (N, C, H, W): channels first."),
}


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("ending", ["npy", "npz", "NPY"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str, ending: str, order: str) -> None:
    stored, images, note = LAYOUTS[layout]
    path = tmp_path / f"faces.{ending}"
    stored = np.asarray(stored, order=order)
    with open(path, "wb") as file:
        np.savez(file, stored) if ending == "npz" else np.save(file, stored)
    for data in load_arrays(path), load(path), load(str(path)):
        check(data, images)
        assert data.notes == ((f"arr_0 {note}" if ending == "npz" else note,) if note else ())
        assert data.name == f"faces (20 training and 3 test images of 8 × 6 from {path})"
        assert data.train_labels is data.test_labels is None


TYPES = {  # the stored values of GREY, and what the note says
    "float32 to 1": (np.float32(GREY / 255), "floating-point levels from 0 to 1: taken for 0 … 1,"),
    "float64 to 1": (GREY / 255, "floating-point levels from 0 to 1: taken for 0 … 1,"),
    "float16 to 1": (np.float16(GREY / 255), "floating-point levels from 0 to 1: taken for 0 … 1,"),
    "big-endian": ((GREY / 255).astype(">f4"), "floating-point levels from 0 to 1: taken for 0 … 1,"),
    "float -1 to 1": (GREY / 127.5 - 1, "floating-point levels from -1 to 1: taken for -1 … 1,"),
    "float to 255": (GREY.astype(np.float32), "floating-point levels from 0 to 255: taken for 0 … 255,"),
    "int64": (GREY.astype(np.int64), "integer levels from 0 to 255: taken for 8 bits,"),
    "uint16 of 12 bits": (GREY.astype(np.uint16) * 16 + 15, "integer levels from 15 to 4,095: taken for 12 bits,"),
    "uint16 of 16 bits": (GREY.astype(">u2") * 257, "integer levels from 0 to 65,535: taken for 16 bits,"),
    "int16 from 0 down": (
        GREY.astype(np.int16) - 255,
        "integer levels from -255 to 0: no usual range, so -255 becomes",
    ),
}


@pytest.mark.parametrize("case", TYPES)
def test_types_and_ranges(tmp_path: Path, case: str) -> None:
    values, words = TYPES[case]
    data = load_arrays(saved(tmp_path, x=values))
    whole = np.empty((23, 8, 6), int)
    whole[HELD], whole[~HELD] = data.test_images[..., 0], data.train_images[..., 0]
    assert abs(whole - GREY).max() <= (1 if "12 bits" in case else 0)
    (note,) = data.notes
    assert note.startswith(words)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float64])
def test_0_and_1_are_black_and_white(tmp_path: Path, dtype: type) -> None:
    data = load_arrays(saved(tmp_path, imgs=(GREY > 99).astype(dtype)))
    check(data, np.where(GREY > 99, np.uint8(255), np.uint8(0)))
    (note,) = data.notes
    assert "1 white" in note


def test_train_and_test_share_a_range(tmp_path: Path) -> None:
    train, test = np.full((9, 4, 4), 0.25), np.full((2, 4, 4), 200.0)
    train[0, 0, 0] = 0
    data = load_arrays(saved(tmp_path, x_train=train, x_test=test))
    assert data.test_images.min() == 200
    assert data.train_images.max() == 0
    assert "(the highest in x_test)" in data.notes[0]


NAMES = [
    ("x_train", "y_train", "x_test", "y_test"),
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("trainImages", "trainLabels", "testImages", "testLabels"),
    ("images/train", "targets/train", "images/test", "targets/test"),
]


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
@pytest.mark.parametrize("names", NAMES)
def test_parts_and_labels_by_their_names(tmp_path: Path, names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    x, y, x_test, y_test = names
    labels = np.arange(20).reshape(shape)
    stored = {x: GREY[:20], y: labels, x_test: GREY[20:], y_test: np.arange(3).astype(np.uint8)}
    path = saved(tmp_path, "a.npz", **{name: stored[name] for name in sorted(stored)})
    data = load_arrays(path)
    assert np.array_equal(data.train_images[..., 0], GREY[:20])
    assert np.array_equal(data.test_images[..., 0], GREY[20:])
    assert data.train_labels.tolist() == list(range(20))
    assert data.test_labels.tolist() == [0, 1, 2]
    assert data.classes == data.notes == ()


def test_one_array_and_its_labels(tmp_path: Path) -> None:
    data = load_arrays(saved(tmp_path, images=GREY, labels=np.arange(23)))
    check(data, GREY)
    assert data.test_labels.tolist() == [0, 10, 20]
    assert data.train_labels.tolist() == [i for i in range(23) if i % 10]


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(23) - 1,
        np.arange(23) * 12,
        np.arange(22),
        np.eye(23),
        np.linspace(0, 1, 23),
        np.array(["a"] * 23),
        np.array([None] * 23),
    ],
    ids=["negative", "beyond 255", "too few", "one-hot", "floats", "words", "objects"],
)
def test_other_labels_are_left_out_and_said(tmp_path: Path, labels: np.ndarray) -> None:
    data = load_arrays(saved(tmp_path, x=GREY, y=labels))
    check(data, GREY)
    assert data.train_labels is data.test_labels is None
    assert data.notes == ("labels are left out (y): all images need one, an integer in 0 … 255.",)


def test_of_several_arrays_the_one_named_images_is_taken(tmp_path: Path) -> None:
    for name in "x_train", "trainImages", "TRAIN-DATA":
        data = load_arrays(saved(tmp_path, **{name: GREY, "train_masks": GREY[::-1], "depth": GREY}))
        check(data, GREY)
        (note,) = data.notes
        assert note.startswith("left out: ")
        assert "train_masks" in note
        assert "depth" in note


def test_what_else_is_in_the_file_is_said(tmp_path: Path) -> None:
    """As in the file of dSprites, whose metadata is a pickle, and in MedMNIST's with their validation images."""
    path = saved(
        tmp_path,
        metadata=np.array({"a": 1}, dtype=object),
        imgs=(GREY > 99).astype(np.uint8),
        latents_classes=np.zeros((23, 6), np.int64),
    )
    data = load_arrays(path)
    check(data, np.where(GREY > 99, np.uint8(255), np.uint8(0)))
    assert data.notes[0] == "left out: metadata, latents_classes, which are not for training or testing."
    path = saved(tmp_path, train_images=GREY, val_images=GREY[:5], val_labels=np.arange(5), test_images=GREY[:2])
    data = load_arrays(path)
    assert (len(data.train_images), len(data.test_images)) == (23, 2)
    assert data.notes == ("left out: val_images, val_labels, which are not for training or testing.",)


REFUSED = {
    "one picture": ({"a": COLOUR[0]}, "has shape (8, 6, 3), which is one image; needs many"),
    "four channels": ({"a": np.zeros((5, 8, 6, 4))}, "has shape (5, 8, 6, 4); needs 1 channel (grey) or 3"),
    "rows": ({"a": np.zeros((5, 784))}, "Rows of 784 elements may be images.reshape(-1, 28, 28)."),
    "no images": ({"y_train": np.zeros(5)}, "holds no images for training but y_train (5,) of float64"),
    "objects": ({"a": np.array([None])}, "Python objects are not opened, since they can run code"),
    "complex": ({"a": np.zeros((5, 8, 6), complex)}, "holds no images for training but a (5, 8, 6) of complex128"),
    "two": ({"a": GREY, "b": GREY}, "has several arrays of images (a (23, 8, 6) of uint8, b (23, 8, 6) of uint8)"),
    "one image": ({"a": GREY[:1]}, "holds 1 images, needs at least 2"),
    "none, with labels": ({"x": GREY[:0], "y": np.zeros(0, int)}, "has shape (0, 8, 6), so there is nothing in it"),
    "none": ({"a": GREY[:0]}, "has shape (0, 8, 6), so there is nothing in it"),
    "only for testing": ({"x_test": GREY}, "holds no images for training but x_test (23, 8, 6) of uint8"),
    "two sizes": ({"x_train": GREY, "x_test": COLOUR}, "test images must be (8, 6, 1)"),
    "nothing": ({}, "holds no images for training but nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    stored, words = REFUSED[case]
    path = saved(tmp_path, **stored)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the words are compared below
        load_arrays(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def npy(header: str, values: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode("latin-1") + values


def header(shape: object, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


FORGED = {
    "no header": (b"\x93NUMPY", "is not a complete NumPy array"),
    "another kind of file": (b"GIF89a", "is not a complete NumPy array"),
    "empty": (b"", "is not a complete NumPy array"),
    "version": (npy(header((1, 2, 2)), bytes(4), b"\7\0"), "is not a complete NumPy array"),
    "code": (npy("__import__('os').mkdir('ran')\n"), "is not a complete NumPy array"),
    "deep": (npy("(" * 9000), "is not a complete NumPy array"),
    "huge": (npy(header((2**40, 28, 28))), "has 0 bytes of values; its shape (1099511627776, 28, 28) of uint8 needs"),
    "beyond any number": (npy(header((10**30, 9, 9))), "has 0 bytes of values"),
    "negative": (npy(header((-1, 2, -2)), bytes(4)), "has 4 bytes of values"),
    "short": (npy(header((2, 2, 2)), bytes(7)), "has 7 bytes of values; its shape (2, 2, 2) of uint8 needs 8"),
    "long": (npy(header((2, 2, 2)), bytes(9)), "has 9 bytes of values; its shape (2, 2, 2) of uint8 needs 8"),
    "objects": (npy(header((2, 2, 2), "'|O'"), b"cos\nsystem\n(S'mkdir ran'\ntR."), "Python objects are not opened"),
    "records": (npy(header((2, 2, 2), "[('a', '|u1')]"), bytes(8)), "holds no images"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["npy", "npz"])
@pytest.mark.parametrize("case", FORGED)
def test_forged_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, packed: bool) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = FORGED[case]
    path = tmp_path / ("a.npz" if packed else "a.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:  # noqa: PT011  the words are compared below
            load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert words in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_an_expansion_that_no_images_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = saved(tmp_path, x=np.zeros((100_000, 28, 28), np.uint8))
    with pytest.raises(ValueError, match=r"a\.npz: x: .* bytes that state to be 78\.4 MB unpacked are not read"):
        load_arrays(bomb)
    sprites = np.zeros((20_000, 64, 64), np.uint8)  # white squares on black
    for sprite, (y, x, size) in zip(sprites, RNG.integers((0, 0, 10), (44, 44, 20), size=(20_000, 3)), strict=True):
        sprite[y : y + size, x : x + size] = 1
    path = saved(tmp_path, "sprites.npz", imgs=sprites)
    assert sprites.nbytes / path.stat().st_size > 250
    assert len(load_arrays(path).test_images) == 2000
    # What the archive's list states of a member is not trusted: more comes out of it than stated, or less.
    content = bytearray(saved(tmp_path, "small.npz", x=np.zeros((100, 28, 28), np.uint8)).read_bytes())
    at = content.rindex(b"PK\1\2") + 24
    content[at : at + 4] = (400).to_bytes(4, "little")
    (tmp_path / "small.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"small\.npz: "):
        load_arrays(tmp_path / "small.npz")
    monkeypatch.setattr(limits, "_memory", lambda: 1000)
    with pytest.raises(ValueError, match="of memory, and this machine has"):
        load_arrays(saved(tmp_path, x=GREY))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_checksum_of_an_archive_is_looked_at(tmp_path: Path, packed: bool, dtype: type) -> None:
    """One pixel has changed, and all else is as it was."""
    path = saved(tmp_path, packed=False, x=GREY.astype(dtype), y=np.arange(23, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    at = content.index(GREY.astype(dtype).tobytes()[-40:]) + 20
    content[at] ^= 1
    if packed:  # with the checksum of what it was
        with (
            zipfile.ZipFile(path) as whole,
            zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name in whole.namelist():
                archive.writestr(name, whole.read(name))
            archive.getinfo("x.npy").CRC ^= 1
        path = tmp_path / "b.npz"
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged \(Bad CRC-32 for file 'x.npy'\)"):
        load_arrays(path)


def test_archives_that_numpy_does_not_write(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, GREY)
    for name, method in ("lzma", zipfile.ZIP_LZMA), ("bzip2", zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", method) as archive:
            archive.writestr("x.npy", content.getvalue())
        with pytest.raises(ValueError, match="x is encrypted or packed in a way that NumPy does not write"):
            load_arrays(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for i in range(1001):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(ValueError, match="holds 1,001 arrays; at most 1,000 are looked at"):
        load_arrays(tmp_path / "many.npz")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("packed", [False, True])
def test_memory_is_twice_the_result_at_most(tmp_path: Path, dtype: type, packed: bool) -> None:
    values = (RNG.random((300, 3, 64, 64)) * 200).astype(dtype)
    path = saved(tmp_path, packed=packed, x_train=values, x_test=values[:9])
    size = 309 * 3 * 64 * 64
    tracemalloc.start()
    try:
        load_arrays(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * size + 40 * arrays.BLOCK  # some blocks of float64


def test_a_training_run_on_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, "digits.npz", x=np.float32(GREY / 255))
    options = ["--hidden", "4", "--latent", "2", "--epochs", "1", "--quiet", "--out", "r"]
    assert main(["train", "ae", "--data", "digits.npz", *options]) == 0
    out = capsys.readouterr().out
    assert "digits (20 training and 3 test images of 8 × 6" in out
    assert "floating-point levels from 0 to 1: taken for 0 … 1" in out
    monkeypatch.chdir("/")  # the run knows where its data are
    assert main(["train", "ae", "--resume", str(tmp_path / "r"), "--epochs", "2", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"a", "is not a directory; give one, a .npy or .npz file, or one of the names"),
        ("a.npz", b"PK\3\4", "is damaged"),
        ("nowhere.npy", None, "is not a directory; give one, a .npy or .npz file"),
    ],
)
def test_files_that_are_no_data_set(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load(tmp_path / name)
    if name == "nowhere.npy":
        with pytest.raises(FileNotFoundError, match=r"no such file; a \.npy or \.npz file is needed"):
            load_arrays(tmp_path / name)


def test_a_home_directory_and_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "HOME", "USERPROFILE":
        monkeypatch.setenv(name, str(tmp_path))
    saved(tmp_path, x=GREY)
    check(load("~/a.npz"), GREY)
    monkeypatch.setenv("SCRATCHGEN_DATA", "~/a.npz")
    check(load(), GREY)
    assert load(image_size=(4, 6), channels=3).image_shape == (4, 6, 3)

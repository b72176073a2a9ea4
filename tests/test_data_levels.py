"""Pictures whose levels are not 0 … 255, of shapes that are not square, and larger than is good for the memory."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scratchgen.data import Dataset, load, load_folder, picture, resized
from scratchgen.data.levels import Levels, even
from scratchgen.data.resize import MODES, middle

RAMP = np.linspace(0, 1, 32)[None].repeat(32, 0)  # from black to white


def folder_of(folder: Path, *pictures: np.ndarray) -> Path:
    """The pictures, of more than 8 bits, in files 0.…, 1.…"""
    folder.mkdir(parents=True, exist_ok=True)
    for i, levels in enumerate(pictures):
        ending = "png" if levels.dtype == np.uint16 else "tif"
        Image.fromarray(levels).save(folder / f"{i}.{ending}")
    return folder


def taken(folder: Path) -> tuple[Dataset, np.ndarray]:
    """The data set in its own size, in grey, and all its images in the order of the files."""
    data = load_folder(folder, size=32, channels=1, progress=False)
    images = np.empty((len(data.train_images) + len(data.test_images), 32, 32), np.uint8)
    held = np.arange(len(images)) % 10 == 0
    images[held], images[~held] = data.test_images[..., 0], data.train_images[..., 0]
    return data, images


# What reaches what, and what the note says of it. Levels are exact where the file holds integers.
RANGES = {
    "8 bits in 16": (np.uint16, 255, "taken for 8 bits, 0 becomes black and 255 white"),
    "10 bits in 16": (np.uint16, 1023, "taken for 10 bits, 0 becomes black and 1,023 white"),
    "12 bits in 16": (np.uint16, 4095, "taken for 12 bits, 0 becomes black and 4,095 white"),
    "14 bits in 16": (np.uint16, 16_383, "taken for 14 bits, 0 becomes black and 16,383 white"),
    "16 bits": (np.uint16, 65_535, "taken for 16 bits, 0 becomes black and 65,535 white"),
    "1 bit in 16": (np.uint16, 1, "taken for 1 bit, 0 becomes black and 1 white"),
    "12 bits in 32": (np.int32, 4095, "taken for 12 bits"),
    "beyond 16 bits": (np.int32, 1_000_000, "no usual range, so 0 becomes black and 1,000,000 white"),
    "float to 1": (np.float32, 1, "taken for 0 … 1, 0 becomes black and 1 white."),
    "float to 255": (np.float32, 255, "taken for 0 … 255, 0 becomes black and 255 white."),
    "float to 4095": (np.float32, 4095, "taken for 0 … 4,095, 0 becomes black"),
    "float to 65535": (np.float32, 65_535, "taken for 0 … 65,535, 0 becomes black"),
    "float to 3": (np.float32, 3, "no usual range, so 0 becomes black and 3 white"),
    "float to 1e30": (np.float32, 1e30, "no usual range, so 0 becomes black and 1e+30 white"),
}


@pytest.mark.parametrize("case", RANGES)
def test_the_range_is_that_of_the_whole_folder(tmp_path: Path, case: str) -> None:
    """A dark picture stays dark beside a bright one of the same camera, and neither turns black."""
    dtype, top, words = RANGES[case]
    bright = (top * RAMP).astype(dtype)
    dark = (bright // 4) if dtype != np.float32 else bright / 4
    data, images = taken(folder_of(tmp_path, dark, bright, dark))
    for levels, image in zip((dark, bright, dark), images, strict=True):
        assert np.array_equal(image, np.rint(levels.astype(float) * 255 / top).astype(np.uint8))
    assert images.max() == 255
    (note,) = [note for note in data.notes if ", in 3 images, from " in note]
    assert words in note
    assert "(the highest in 1." in note
    # In the other order of the files, too: what came first is decoded anew.
    _, again = taken(folder_of(tmp_path / "again", bright, dark, dark))
    assert np.array_equal(again, images[[1, 0, 2]])


@pytest.mark.parametrize(
    ("low", "high", "dtype", "black", "white", "words"),
    [
        (0, 1.02, np.float32, 0, 1, "0 becomes black and 1 white, what lies beyond is cut off"),
        (-0.03, 1.0, np.float32, 0, 1, "0 becomes black and 1 white, what lies beyond is cut off"),
        (-2, 262, np.float32, 0, 255, "0 becomes black and 255 white, what lies beyond is cut off"),
        (-1, 1, np.float32, -1, 1, "taken for -1 … 1, -1 becomes black and 1 white"),
        (-1.04, 1.04, np.float32, -1, 1, "taken for -1 … 1,"),
        (-0.5, 0.5, np.float32, -0.5, 0.5, "taken for -0.5 … 0.5,"),
        (-2.1, 2.6, np.float32, -2.1, 2.6, "no usual range, so -2.1 becomes black and 2.6 white"),
        (-1024, 3071, np.int32, -1024, 3071, "no usual range, so -1,024 becomes black and 3,071 white"),
        (-30_000, -20_000, np.int32, -30_000, -20_000, "so -30,000 becomes black and -20,000 white"),
    ],
)
def test_levels_below_0_and_beyond_1(tmp_path: Path, low, high, dtype, black, white, words: str) -> None:
    levels = (low + (high - low) * RAMP).astype(dtype)
    data, images = taken(folder_of(tmp_path, levels, levels))
    expected = np.rint(np.clip((levels.astype(float) - black) * 255 / (white - black), 0, 255))
    assert abs(images[0] - expected).max() <= (1 if dtype == np.float32 else 0)
    assert words in data.notes[0]


def test_levels_that_are_no_numbers(tmp_path: Path) -> None:
    broken = RAMP.astype(np.float32)
    broken[3, 4], broken[5, 6], broken[7, 8] = np.nan, np.inf, -np.inf
    data, images = taken(folder_of(tmp_path, RAMP.astype(np.float32), broken))
    assert [images[1][at] for at in ((3, 4), (5, 6), (7, 8))] == [0, 255, 0]
    assert np.array_equal(
        np.delete(images[1].ravel(), [100, 166, 232]), np.delete(images[0].ravel(), [100, 166, 232])
    )
    assert "; NaN becomes black (in 1.tif)." in data.notes[0]
    nothing = np.full((32, 32), np.nan, np.float32)
    data, images = taken(folder_of(tmp_path / "nothing", nothing, nothing))
    assert images.max() == 0
    assert data.notes[0] == "floating-point levels, in 2 images, none of which is finite: all is black."


def test_kinds_of_levels_have_ranges_of_their_own(tmp_path: Path) -> None:
    """8 bits, integers of more and floating point in one folder: each is what it would be alone."""
    folder_of(tmp_path, (4095 * RAMP).astype(np.uint16), RAMP.astype(np.float32))
    Image.fromarray((255 * RAMP).astype(np.uint8)).save(tmp_path / "2.png")
    data, images = taken(tmp_path)
    assert abs(images.astype(int) - images[2]).max() <= 1
    assert [note.split(" from")[0] for note in data.notes] == [
        "floating-point levels, in 1 image,",
        "levels of 16 bits or more, in 1 image,",
    ]


def test_a_part_of_a_picture_counts_like_the_whole() -> None:
    whole, parts = Levels(floating=True), Levels(floating=True)
    values = np.random.default_rng(0).normal(size=1000)
    whole.add("a", values)
    for _ in range(2):
        for part in np.split(values, 10):
            parts.add("a", part)
    assert parts.range == whole.range
    assert (parts.low, parts.high, parts.names) == (values.min(), values.max(), {"a"})


DARK = {
    "0 … 15 in 8 bits": ((15 * RAMP).astype(np.uint8), "black"),
    "a mask of 0 and 1": ((RAMP > 0.5).astype(np.uint8), "black"),
    "a palest grey": ((245 + 10 * RAMP).astype(np.uint8), "white"),
    "one grey": (np.full((32, 32), 128, np.uint8), "even grey"),
}


@pytest.mark.parametrize("case", DARK)
def test_a_warning_where_a_small_part_of_the_range_is_used(tmp_path: Path, case: str) -> None:
    levels, about = DARK[case]
    for i in range(5):
        Image.fromarray(levels).save(tmp_path / f"{i}.png")
    data, _ = taken(tmp_path)
    assert data.notes[-1].startswith(
        f"5 of 5 pictures are nearly {about}: their levels differ by less than 16 of 255"
    )


def test_the_warning_is_in_proportion(tmp_path: Path) -> None:
    """One hot pixel in one picture darkens all the others: the note says how many, and which picture it is."""
    frames = [(3000 * RAMP).astype(np.uint16) for _ in range(20)]
    frames[7][3, 3] = 65_535
    data, _ = taken(folder_of(tmp_path, *frames))
    assert "20 of 20 pictures are nearly black" in data.notes[-1]
    assert "(the highest in 7.png)" in data.notes[0]
    # Two dark ones among twenty are said, one is not.
    for count in 1, 2:
        some = [(65_535 * RAMP).astype(np.uint16)] * (20 - count) + [(3000 * RAMP).astype(np.uint16)] * count
        data, _ = taken(folder_of(tmp_path / str(count), *some))
        warned = [note for note in data.notes if "are nearly black" in note]
        assert warned == ([data.notes[-1]] if count == 2 else [])
        assert all(note.startswith("2 of 20 pictures") for note in warned)


def test_many_pictures_are_looked_at_here_and_there() -> None:
    seen = even(np.zeros((1100, 4, 4, 1), np.uint8), np.zeros((120, 4, 4, 1), np.uint8))
    assert seen.startswith("407 of 407 pictures looked at are nearly black: ")
    assert even(np.zeros((0, 4, 4, 1), np.uint8)) == ""


def test_what_is_not_taken_as_it_is(tmp_path: Path) -> None:
    """16-bit colours lose their lower half in Pillow, and of several frames one is taken: both are counted."""
    scene = Image.fromarray(np.uint8(255 * RAMP)).convert("RGB")
    for i in range(2):
        scene.save(tmp_path / f"a{i}.png")
    scene.save(tmp_path / "b.gif", save_all=True, append_images=[scene.rotate(90)])
    scene.save(tmp_path / "c.tif", save_all=True, append_images=[scene.rotate(90), scene])
    scene.save(tmp_path / "d.webp", save_all=True, append_images=[scene.rotate(90)], lossless=True)
    deep = np.uint16(65_535 * RAMP)[..., None].repeat(3, -1)
    with open(tmp_path / "e.tif", "wb") as file:  # Pillow reads RGB of 16 bits, and does not write it
        values = deep.astype("<u2").tobytes()
        entries = [(256, 4, 32), (257, 4, 32), (262, 3, 2), (273, 4, 1000), (277, 3, 3), (278, 4, 32)]
        entries += [(279, 4, len(values)), (258, 3, 16), (259, 3, 1), (284, 3, 1)]
        file.write(b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little"))
        for tag, kind, value in sorted(entries):
            count, stored = (3, 900) if tag == 258 else (1, value)
            file.write(
                tag.to_bytes(2, "little")
                + kind.to_bytes(2, "little")
                + count.to_bytes(4, "little")
                + stored.to_bytes(4, "little")
            )
        file.write(bytes(4))
        file.write(bytes(900 - file.tell()) + 3 * (16).to_bytes(2, "little"))
        file.write(bytes(1000 - file.tell()) + values)
    data, images = taken(tmp_path)
    assert abs(images.astype(int) - images[0]).max() <= 2  # all are the first frame
    assert data.notes == (
        "3 taken with the first of their frames alone (b.gif, c.tif, d.webp).",
        "1 taken with the upper 8 of the 16 bits of their colours (e.tif).",
    )


# ----------------------------------------------------------------------------------------- shapes and memory


def reference(image: Image.Image, shape: tuple[int, int], mode: str) -> np.ndarray:
    """The whole image along its rows, then along its columns."""
    left, top, right, bottom = middle(image.size, shape)
    wide = image.convert(mode).resize(
        (shape[1], image.height), Image.Resampling.LANCZOS, (left, 0, right, image.height)
    )
    return np.asarray(wide.resize(shape[::-1], Image.Resampling.LANCZOS, (0, top, shape[1], bottom)))


@pytest.mark.parametrize("strip", [1, 700, 1 << 20])
@pytest.mark.parametrize("size", [(90, 60), (61, 97), (400, 3), (3, 400), (1, 1), (16, 16)])
@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (1, 1), (100, 120)])
def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch, strip: int, size, shape) -> None:
    monkeypatch.setattr(picture, "STRIP", strip)
    noise = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for mode in MODES.values():
        found = np.asarray(picture.cut(image, shape, mode, lambda part: part))
        # Pillow takes a box in float32, so that another origin may round another way.
        assert abs(found.astype(int) - reference(image, shape, mode)).max() <= 1


def test_rectangles(tmp_path: Path) -> None:
    """(H, W) cuts the largest part of that shape out of the middle, whichever way the picture stands."""
    scene = np.zeros((40, 100, 3), np.uint8)
    scene[:, 30:70] = (255, 0, 0)
    scene[:, 50:] += np.uint8([0, 100, 0])
    for i in range(2):
        Image.fromarray(scene).save(tmp_path / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, as a camera does that is held upright
    Image.fromarray(np.ascontiguousarray(np.rot90(scene))).save(tmp_path / "2.png", exif=exif)
    for source in load_folder(tmp_path, size=(40, 40), progress=False), load(tmp_path, image_size=40, progress=False):
        assert source.image_shape == (40, 40, 3)
        assert (source.train_images == scene[:, 30:70]).all()
    wide = load(tmp_path, image_size=(20, 50), progress=False)
    assert wide.image_shape == (20, 50, 3)
    assert "images of 20 × 50" in wide.name
    assert abs(wide.train_images[..., 0, 0].astype(int)).max() == 0
    assert np.array_equal(wide.train_images[0], wide.train_images[1])
    tall = load(tmp_path, image_size=(40, 10), progress=False)
    assert (tall.train_images == scene[:, 45:55]).all()
    sample = load("sample", image_size=(28, 14))
    assert sample.image_shape == (28, 14, 1)
    assert sample.name.endswith("resized to 28 × 14")
    assert np.array_equal(sample.train_images, load("sample").train_images[:, :, 7:21])
    assert resized(sample, (28, 14)) is sample


LARGE = {
    "RGBA": (Image.new("RGBA", (4500, 4500), (200, 0, 0, 128)), "png", {"compress_level": 1}),
    "I;16": (Image.new("I;16", (4500, 4500), 1000), "png", {"compress_level": 1}),
    "P, transparent": (Image.new("P", (4500, 4500)), "gif", {"transparency": 0}),
    "F": (Image.new("F", (2500, 2500), 0.5), "tif", {"compression": "tiff_deflate"}),
    "CMYK": (Image.new("CMYK", (3000, 3000)), "tif", {"compression": "tiff_deflate"}),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from Linux")
@pytest.mark.parametrize("kind", LARGE)
def test_a_large_picture_takes_no_more_than_its_decoder(tmp_path: Path, kind: str) -> None:
    """20 million pixels, which pack into little: decoded once, and converted strip by strip."""
    image, ending, options = LARGE[kind]
    for name in "ab":
        image.save(tmp_path / f"{name}.{ending}", **options)
    code = (
        "import re, sys; from scratchgen.data import load_folder; from PIL import Image; Image.init()\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) // 1024\n"
        "before = peak()\n"
        "data = load_folder(sys.argv[1], size=8, progress=False)\n"
        "print(peak() - before, len(data.train_images))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    peak, count = map(int, done.stdout.split())
    assert count == 1
    assert peak < 81 + 60  # MiB: four bytes for each pixel, and what a strip needs


@pytest.mark.parametrize(
    ("name", "options", "pixels", "fits"),
    [
        ("a.png", {}, 400, True),
        ("a.jpg", {}, 400, True),
        ("a.jpg", {"progressive": True}, 400, False),
        ("a.webp", {}, 400, False),
        ("a.jp2", {}, 400, False),
        ("a.avif", {}, 400, False),
        ("a.tif", {}, 400, False),
        ("a.png", {}, 484, False),
    ],
)
def test_decoders_differ_in_what_they_take(tmp_path: Path, monkeypatch, name, options, pixels, fits: bool) -> None:
    """Four bytes for a pixel are allowed; WebP's decoder takes sixteen, a progressive JPEG's six."""
    monkeypatch.setattr(picture, "MOST_BYTES", 4 * 400 + 100)
    side = int(pixels**0.5)
    Image.new("RGB", (side, side)).save(tmp_path / name, **options)
    for i in range(2):
        Image.new("L", (4, 4)).save(tmp_path / f"b{i}.png")
    data = load_folder(tmp_path, size=64, progress=False)
    left = [note for note in data.notes if note.startswith("1 left out: larger than ")]
    assert len(left) == (0 if fits else 1)


def test_more_images_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scratchgen.data import limits

    for i in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(limits, "_memory", lambda: 2_000_000)
    with pytest.raises(
        ValueError, match=r"3 images of 500 × 500: needs 2\.2 MB of memory, and this machine has 2\.0 MB"
    ):
        load_folder(tmp_path, size=500, progress=False)


def test_pillow_is_left_as_it_was(tmp_path: Path) -> None:
    for i in range(2):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i}.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_folder(tmp_path, progress=False)
    assert before == Image.MAX_IMAGE_PIXELS


def test_names_in_any_case_and_with_control_characters(tmp_path: Path) -> None:
    for name in "a.JPG", "b.Jpeg", "c.PNG", "d.WEBP", "e.BMP", "f.TIF", "g.tiff", "h.jfif":
        Image.fromarray(np.uint8(255 * RAMP)).save(tmp_path / name, format=None if name[0] != "h" else "JPEG")
    if os.name == "posix":
        (tmp_path / "i\nj\t.png").write_bytes(b"")
    data, images = taken(tmp_path)
    assert len(images) == 8
    assert abs(images.astype(int) - images[2]).max() < 12
    assert data.notes == (("1 left out: empty (i j .png).",) if os.name == "posix" else ())


def test_memory_of_reading_is_that_of_the_result(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.uint16(4095 * RAMP)).save(file, format="png")
    for i in range(300):
        (tmp_path / f"{i:03}.png").write_bytes(file.getvalue())
    load_folder(tmp_path, size=1, progress=False)  # decoders are loaded by now
    tracemalloc.start()
    try:
        data = load_folder(tmp_path, size=160, channels=1, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * (data.train_images.nbytes + data.test_images.nbytes)
    assert re.search("taken for 12 bits", data.notes[0])

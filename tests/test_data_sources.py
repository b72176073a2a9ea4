"""Fashion-MNIST, CIFAR-10, folders of images, resizing, and the one call that loads them all."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data import FILES, Mirror, corrupted, status, write_mnist

from scratchgen.data import (
    SOURCES,
    Dataset,
    DownloadError,
    IdxError,
    cifar,
    download,
    download_cifar10,
    download_fashion_mnist,
    download_mnist,
    fashion,
    load,
    load_cifar10,
    load_fashion_mnist,
    load_folder,
    load_mnist,
    picture,
    resized,
    write_idx,
)
from scratchgen.data import folder as folder_module

DIGITS = tuple("0123456789")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory) -> None:
    """No test sees the user's data, cache or proxy, and none waits."""
    home = tmp_path_factory.mktemp("home")
    for name in "HOME", "USERPROFILE":
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    for name in "SCRATCHGEN_DATA", "KERAS_HOME":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror({})
    yield server
    server.close()


# ------------------------------------------------------------------------------------------------- Dataset


def pixels(n: int, size: int = 4, channels: int = 3) -> np.ndarray:
    return np.zeros((n, size, size, channels), np.uint8)


def test_dataset_without_labels() -> None:
    data = Dataset("squares", pixels(5), None, pixels(2), None, notes=("a.png: skipped.",))
    assert data.train_labels is data.test_labels is None
    assert data.classes == ()
    assert data.notes == ("a.png: skipped.",)
    assert repr(data) == "Dataset(name='squares')"


def test_digits_have_names() -> None:
    assert load_mnist("sample").classes == DIGITS


# ------------------------------------------------------------------------------------------- Fashion-MNIST


@pytest.mark.parametrize("sub", ["", "fashion-mnist"], ids=["itself", "sub-folder"])
def test_fashion_directory(tmp_path: Path, sub: str) -> None:
    write_mnist(tmp_path / sub)
    data = load_fashion_mnist(tmp_path)
    assert data.name == f"Fashion-MNIST (6 training and 4 test images from {tmp_path})"
    assert data.image_shape == (28, 28, 1)
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"
    assert len(data.classes) == 10


def test_fashion_errors_speak_of_fashion(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'nowhere: is not a directory; .* "download" to fetch') as caught:
        load_fashion_mnist(tmp_path / "nowhere")
    assert "sample" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=f"does not hold Fashion-MNIST; missing: {FILES[0]}, "):
        load_fashion_mnist(tmp_path)
    write_mnist(tmp_path)
    write_idx(tmp_path / FILES[1], np.full(6, 10, np.uint8))
    with pytest.raises(ValueError, match=r"train-labels.*has a label 10; Fashion-MNIST labels are 0 to 9"):
        load_fashion_mnist(tmp_path)
    with pytest.raises(TypeError, match='source must be "download" or a directory, not NoneType'):
        load_fashion_mnist(None)


def test_fashion_download(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mnist(tmp_path / "published")
    mirror.contents = {name: (folder / name).read_bytes() for name in FILES}
    for name, content in mirror.contents.items():
        monkeypatch.setitem(fashion.SHA256, name, hashlib.sha256(content).hexdigest())
    mirror.answers = {"a": [corrupted]}
    urls = [mirror.url("a"), mirror.url("b")]
    monkeypatch.setattr(download_fashion_mnist, "__kwdefaults__", {"mirrors": urls, "progress": True})
    data = load("fashion-mnist", progress=False)
    cache = tmp_path / "cache" / "fashion-mnist"
    assert data.name == f"Fashion-MNIST (6 training and 4 test images from {cache})"
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == mirror.contents
    assert mirror.requests == [f"/{folder}/{name}" for name in FILES for folder in "ab"]
    load_fashion_mnist("download", progress=False)
    assert len(mirror.requests) == 8
    mirror.answers["b"] = [status(404)]
    with pytest.raises(
        DownloadError,
        match=r"it could not be downloaded from any mirror:\n.*/a/.*hash(.|\n)*/b/.*404(.|\n)*four Fashion-MNIST",
    ):
        download_fashion_mnist(tmp_path / "other", progress=False)
    assert os.listdir(tmp_path / "other") == []


def test_published_hashes_and_mirrors() -> None:
    assert tuple(fashion.SHA256) == FILES
    for value in (*fashion.SHA256.values(), *cifar.SHA256.values()):
        assert re.fullmatch("[0-9a-f]{64}", value)
    assert not set(fashion.SHA256.values()) & set(download_mnist.__globals__["SHA256"].values())
    for url in (*fashion.MIRRORS, *cifar.MIRRORS):
        assert re.fullmatch(r"https?://[^ ]+/", url)


# ------------------------------------------------------------------------------------------------- CIFAR-10


def cifar_file(labels: list[int]) -> bytes:
    """Records whose pixels tell their place: red 10 · row + label, green column, blue 200."""
    records = np.empty((len(labels), 3073), np.uint8)
    records[:, 0] = labels
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    for record, label in zip(planes, labels, strict=True):
        record[0] = 7 * np.arange(32)[:, None] + label
        record[1] = np.arange(32)[None, :]
        record[2] = 200
    return records.tobytes()


def write_cifar(folder: Path, which: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Path:
    """Training file i holds the labels i, i - 1; the test file 9, 0, 3."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in which:
        (folder / f"data_batch_{i}.bin").write_bytes(cifar_file([i, i - 1]))
    (folder / "test_batch.bin").write_bytes(cifar_file([9, 0, 3]))
    return folder


@pytest.mark.parametrize("sub", ["", "cifar-10-batches-bin"], ids=["itself", "sub-folder"])
def test_cifar_directory(tmp_path: Path, sub: str) -> None:
    write_cifar(tmp_path / sub)
    data = load_cifar10(tmp_path)
    assert data.name == f"CIFAR-10 (10 training and 3 test images from {tmp_path / sub})"
    assert data.notes == ()
    assert data.classes[3] == "cat"
    assert len(data.classes) == 10
    assert data.train_images.shape == (10, 32, 32, 3)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.tolist() == [1, 0, 2, 1, 3, 2, 4, 3, 5, 4]
    assert data.test_labels.tolist() == [9, 0, 3]
    row, column = np.mgrid[:32, :32]
    for images, labels in (data.train_images, data.train_labels), (data.test_images, data.test_labels):
        for image, label in zip(images, labels, strict=True):
            assert np.array_equal(image[..., 0], 7 * row + label)
            assert np.array_equal(image[..., 1], column)
            assert (image[..., 2] == 200).all()


def test_some_training_files_will_do(tmp_path: Path) -> None:
    write_cifar(tmp_path, (2, 5))
    data = load_cifar10(str(tmp_path))
    assert data.train_labels.tolist() == [2, 1, 5, 4]
    (note,) = data.notes
    assert "data_batch_1.bin, data_batch_3.bin, data_batch_4.bin missing" in note


def test_missing_cifar_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: is not a directory; missing: data_batch_1.bin, "):
        load_cifar10(tmp_path / "nowhere")
    write_cifar(tmp_path, ())
    with pytest.raises(
        FileNotFoundError, match=r"does not hold CIFAR-10; missing: data_batch_1.bin, .*_5.bin; looked in it"
    ):
        load_cifar10(tmp_path)
    write_cifar(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing: test_batch.bin; .*\"download\" to fetch"):
        load(tmp_path)
    with pytest.raises(TypeError, match='source must be "download" or a directory, not int'):
        load_cifar10(3)


@pytest.mark.parametrize("name", ["data_batch_3.bin", "test_batch.bin"])
def test_damaged_cifar_files(tmp_path: Path, name: str) -> None:
    write_cifar(tmp_path)
    content = (tmp_path / name).read_bytes()
    for damaged in content[:-1], content + b"\0", b"", content[:1]:
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(f"{name}: has {len(damaged)} bytes; CIFAR-10 needs one or")):
            load_cifar10(tmp_path)
    (tmp_path / name).write_bytes(content[:3073] + b"\x0a" + content[3074:])
    with pytest.raises(ValueError, match=re.escape(name) + ": has a label 10; CIFAR-10 labels are 0 to 9"):
        load_cifar10(tmp_path)


def cifar_archive(*extra: tuple[tarfile.TarInfo, bytes], leave_out: str = "") -> bytes:
    """An archive as the published one, with more members in front."""
    inside = [("batches.meta.txt", b"airplane\n"), ("readme.html", b"<html>")]
    inside += [(f"data_batch_{i}.bin", cifar_file([i, i - 1])) for i in range(1, 6)]
    inside += [("test_batch.bin", cifar_file([9, 0, 3]))]
    members = list(extra)
    for name, content in inside:
        if name != leave_out:
            members.append(member(f"cifar-10-batches-bin/{name}", content))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content else None)
    return packed.getvalue()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content) if kind == tarfile.REGTYPE else 3073, kind, link
    return info, content


def publish(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    mirror.contents = {cifar.ARCHIVE: content}
    monkeypatch.setitem(cifar.SHA256, cifar.ARCHIVE, hashlib.sha256(content).hexdigest())
    urls = [mirror.url("a"), mirror.url("b")]
    monkeypatch.setattr(download_cifar10, "__kwdefaults__", {"mirrors": urls, "progress": True})


UNPACKED = sorted([*cifar.FILES, "SHA256SUMS"])


def test_cifar_download(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(mirror, monkeypatch, cifar_archive())
    mirror.answers = {"a": [status(500)]}
    data = load("cifar10", progress=False)
    cache = tmp_path / "cache" / "cifar-10"
    assert data.name == f"CIFAR-10 (10 training and 3 test images from {cache})"
    assert data.train_labels.tolist() == [1, 0, 2, 1, 3, 2, 4, 3, 5, 4]
    assert sorted(os.listdir(cache)) == UNPACKED  # neither the archive nor anything temporary
    assert len(mirror.requests) == 2
    load_cifar10("download", progress=False)
    assert len(mirror.requests) == 2  # nothing is fetched
    # A file that has changed since, of the same size or not, or a lost list of hashes: all is fetched anew.
    path = cache / "data_batch_4.bin"
    good = path.read_bytes()
    for step, damage in enumerate(
        (
            lambda: path.write_bytes(good[:-1] + b"\1"),
            lambda: path.write_bytes(good[:3073]),
            path.unlink,
            (cache / "SHA256SUMS").unlink,
            lambda: (cache / "SHA256SUMS").write_bytes(b"\xff"),
        )
    ):
        damage()
        download_cifar10(progress=False)
        assert path.read_bytes() == good
        assert len(mirror.requests) == 2 * (step + 2)
        assert sorted(os.listdir(cache)) == UNPACKED


def test_cifar_download_fails_whole(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(mirror, monkeypatch, cifar_archive())
    mirror.answers = {"a": [corrupted], "b": [status(404)]}
    with pytest.raises(
        DownloadError,
        match=r"it could not be downloaded from any mirror:\n.*hash(.|\n)*404(.|\n)*the files of CIFAR-10",
    ):
        download_cifar10(tmp_path / "d", progress=False)
    assert os.listdir(tmp_path / "d") == []
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot be stored"):
        download_cifar10(tmp_path / "file", progress=False)


def test_cifar_that_cannot_be_unpacked(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(mirror, monkeypatch, cifar_archive())

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match=r"cannot be unpacked \(no space left\)"):
        download_cifar10(tmp_path / "d", progress=False)
    assert os.listdir(tmp_path / "d") == [cifar.ARCHIVE]
    monkeypatch.undo()
    publish(mirror, monkeypatch, cifar_archive())
    download_cifar10(tmp_path / "d", progress=False)  # the archive is there already
    assert len(mirror.requests) == 1
    assert sorted(os.listdir(tmp_path / "d")) == UNPACKED


def test_only_the_expected_members_are_unpacked(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = cifar_file([1])
    forged = [
        member("../escaped.bin", records),
        member("../data_batch_1.bin", records),
        member(str(tmp_path / "absolute.bin"), records),
        member("cifar-10-batches-bin/../../data_batch_2.bin", records),
        member("cifar-10-batches-bin/deeper/data_batch_3.bin", records),
        member("data_batch_5.bin", records),
        member("link", kind=tarfile.SYMTYPE, link=str(tmp_path)),
        member("link/through.bin", records),
    ]
    publish(mirror, monkeypatch, cifar_archive(*forged))
    download_cifar10(tmp_path / "in" / "d", progress=False)
    assert sorted(os.listdir(tmp_path / "in" / "d")) == UNPACKED
    assert os.listdir(tmp_path / "in") == ["d"]
    assert os.listdir(tmp_path) == ["in"]
    assert load_cifar10(tmp_path / "in" / "d").train_labels.tolist() == [1, 0, 2, 1, 3, 2, 4, 3, 5, 4]


BATCH = "cifar-10-batches-bin/data_batch_1.bin"
FORGED = {
    "symbolic link": member(BATCH, kind=tarfile.SYMTYPE, link="data_batch_2.bin"),
    "hard link": member(BATCH, kind=tarfile.LNKTYPE, link="cifar-10-batches-bin/data_batch_2.bin"),
    "folder": member(BATCH, kind=tarfile.DIRTYPE),
    "device": member(BATCH, kind=tarfile.CHRTYPE),
    "fifo": member(BATCH, kind=tarfile.FIFOTYPE),
    "empty": member(BATCH),
    "size": member(BATCH, bytes(3072)),
    "too many records": member(BATCH, bytes(4 * 3073)),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_members(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(cifar, "MOST_RECORDS", 3)
    publish(mirror, monkeypatch, cifar_archive(FORGED[case]))
    with pytest.raises(DownloadError, match=re.escape(f"its {BATCH} is not a file of CIFAR-10 records")):
        download_cifar10(tmp_path / "d", progress=False)
    assert os.listdir(tmp_path / "d") == [cifar.ARCHIVE]


def test_damaged_archives(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cifar_archive()
    for i, content in enumerate((b"no archive", whole[: len(whole) // 2], whole[:1000] + bytes(50) + whole[1050:])):
        publish(mirror, monkeypatch, content)
        with pytest.raises(DownloadError, match=r"is a damaged archive|cannot be unpacked|lacks "):
            download_cifar10(tmp_path / str(i), progress=False)
        assert "SHA256SUMS" not in os.listdir(tmp_path / str(i))
    publish(mirror, monkeypatch, cifar_archive(leave_out="data_batch_4.bin"))
    with pytest.raises(DownloadError, match=f"{cifar.ARCHIVE}: lacks cifar-10-batches-bin/data_batch_4.bin"):
        download_cifar10(tmp_path / "d", progress=False)


# --------------------------------------------------------------------------------------------------- folder


def plain(color=(10, 20, 30), size=(8, 8), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, color)


def one(folder: Path, *, size: int = 4, channels: int = 3) -> np.ndarray:
    """The image whose name sorts first, beside another that makes a data set of it."""
    plain().save(folder / "zz.png")
    data = load_folder(folder, size=size, channels=channels, progress=False)
    assert not [note for note in data.notes if "left out" in note]
    assert data.test_images.shape == data.train_images.shape == (1, size, size, channels)
    return data.test_images[0]


def palette(color=(200, 100, 50)) -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *color])
    return image


def levels(value: float, dtype: type) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, dtype))


def big_endian(value: int) -> Image.Image:
    return Image.frombytes("I;16B", (8, 8), np.full((8, 8), value, ">u2").tobytes())


def said(data: Dataset) -> tuple[str, ...]:
    """The notes, less the one that plain colours earn: that nothing is to be seen in them."""
    return tuple(note for note in data.notes if "(standard deviation)" not in note)


WHITE = (255, 255, 255)
KINDS = {  # file name, image, what to save it with, its mode as Pillow opens it, expected colour
    "1": ("a.png", plain(1, mode="1"), {}, "1", WHITE),
    "1, black": ("a.png", plain(0, mode="1"), {}, "1", (0, 0, 0)),
    "L": ("a.png", plain(77, mode="L"), {}, "L", (77, 77, 77)),
    "L, transparent": ("a.png", plain(77, mode="L"), {"transparency": 77}, "L", WHITE),
    "L, another level transparent": ("a.png", plain(77, mode="L"), {"transparency": 78}, "L", (77, 77, 77)),
    "LA": ("a.png", plain((0, 128), mode="LA"), {}, "LA", (127, 127, 127)),
    "LA, opaque": ("a.png", plain((40, 255), mode="LA"), {}, "LA", (40, 40, 40)),
    "P": ("a.png", palette(), {}, "P", (200, 100, 50)),
    "P, transparent": ("a.png", palette(), {"transparency": 1}, "P", WHITE),
    "P, half transparent": ("a.png", palette(), {"transparency": b"\xff\x80"}, "P", (227, 177, 152)),
    "P, GIF": ("a.gif", palette(), {}, "P", (200, 100, 50)),
    "P, GIF, transparent": ("a.gif", palette(), {"transparency": 1}, "P", WHITE),
    "RGB": ("a.png", plain((1, 2, 3)), {}, "RGB", (1, 2, 3)),
    "RGB, BMP": ("a.bmp", plain((1, 2, 3)), {}, "RGB", (1, 2, 3)),
    "RGB, transparent": ("a.png", plain((1, 2, 3)), {"transparency": (1, 2, 3)}, "RGB", WHITE),
    "RGBA": ("a.png", plain((255, 0, 0, 128), mode="RGBA"), {}, "RGBA", (255, 127, 127)),
    "RGBA, black but transparent": ("a.png", plain((0, 0, 0, 0), mode="RGBA"), {}, "RGBA", WHITE),
    "RGBA, opaque": ("a.tif", plain((9, 8, 7, 255), mode="RGBA"), {}, "RGBA", (9, 8, 7)),
    "CMYK": ("a.tif", plain((0, 255, 255, 0), mode="CMYK"), {}, "CMYK", (255, 0, 0)),
    "CMYK, JPEG": ("a.jpg", plain((0, 255, 255, 0), mode="CMYK"), {"quality": 100}, "CMYK", (255, 0, 0)),
    "YCbCr": ("a.tif", plain((128, 128, 128), mode="YCbCr"), {}, "YCbCr", (128, 128, 128)),
    "I;16": ("a.png", levels(40_000, np.uint16), {}, "I;16", (156, 156, 156)),  # 40000 / 257 = 155.6
    "I;16, full": ("a.png", levels(65_535, np.uint16), {}, "I;16", WHITE),
    "I;16, transparent": ("a.png", levels(40_000, np.uint16), {"transparency": 40_000}, "I;16", WHITE),
    "I;16B": ("a.tif", big_endian(40_000), {}, "I;16B", (156, 156, 156)),
    "I": ("a.tif", levels(40_000, np.int32), {}, "I", (156, 156, 156)),
    "I of 8 bits": ("a.tif", levels(200, np.int32), {}, "I", (200, 200, 200)),
    "F to 1": ("a.tif", levels(0.2, np.float32), {}, "F", (51, 51, 51)),
    "F to 255": ("a.tif", levels(51.2, np.float32), {}, "F", (51, 51, 51)),
    "F to 65535": ("a.tif", levels(40_000, np.float32), {}, "F", (156, 156, 156)),
}


@pytest.mark.parametrize("case", KINDS)
def test_every_kind_of_image(tmp_path: Path, case: str) -> None:
    name, image, options, mode, color = KINDS[case]
    image.save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as opened:
        assert opened.mode == mode
    assert (one(tmp_path) == np.array(color)).all()
    # Grey is the luma of ITU-R BT.601.
    luma = np.dot(color, (0.299, 0.587, 0.114))
    assert abs(one(tmp_path, channels=1) - luma).max() <= 0.51


def test_the_formats_of_photographs(tmp_path: Path) -> None:
    for name in "a.jpg", "b.JPEG", "c.webp", "d.ppm", "e.Tiff", "f.jp2":
        plain((200, 100, 50)).save(tmp_path / name)
    (tmp_path / "g.png").write_bytes((tmp_path / "a.jpg").read_bytes())  # the content decides
    data = load_folder(tmp_path, size=4, progress=False)
    images = np.concatenate((data.train_images, data.test_images))
    assert said(data) == ()
    assert images.shape == (7, 4, 4, 3)
    assert abs(images.astype(int) - (200, 100, 50)).max() <= 4


QUADRANTS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))  # upper left and right, lower left and right


def quadrants(size: int = 16) -> np.ndarray:
    half = size // 2
    return np.array(QUADRANTS, np.uint8).reshape(2, 2, 3).repeat(half, axis=0).repeat(half, axis=1)


# What a camera stores so that the orientation tag brings it upright, from EXIF 2.3, section 4.6.4: tag 6 means that
# the stored first row is the right side of the scene, and its first column the top.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[:, ::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path: Path, orientation: int, name: str) -> None:
    wide = np.concatenate((np.zeros((16, 8, 3), np.uint8), quadrants(), np.zeros((16, 8, 3), np.uint8)), axis=1)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](wide)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"lossless": True} if name == "a.webp" else {}) | {"quality": 100}
    stored.save(tmp_path / name, **({"exif": exif} if name == "a.tif" else options))
    image = one(tmp_path, size=16).astype(int)
    corners = image[2, 2], image[2, -3], image[-3, 2], image[-3, -3]
    assert abs(np.array(corners) - QUADRANTS).max() < 60  # JPEG is not exact


def test_unknown_and_damaged_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.fromarray(quadrants()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(one(tmp_path, size=16), quadrants())
    Image.fromarray(quadrants()).save(tmp_path / "a.png", exif=b"Exif\0\0no tags at all")
    assert np.array_equal(one(tmp_path, size=16), quadrants())


def test_the_middle_square_of_any_shape(tmp_path: Path) -> None:
    for shape in (16, 48), (48, 16), (17, 48), (16, 16):
        height, width = shape
        array = np.zeros((*shape, 3), np.uint8)
        top, left = (height - 16) // 2, (width - 16) // 2
        array[top : top + 16, left : left + 16] = quadrants()
        Image.fromarray(array).save(tmp_path / "a.png")
        image = one(tmp_path, size=16).astype(int)
        difference = abs(image - quadrants())
        assert (difference.max() <= 1) if 17 not in shape else (difference[2:-2].mean() < 20)
    Image.fromarray(quadrants(64)).save(tmp_path / "a.png")
    smaller = one(tmp_path, size=8)
    assert [smaller[y, x].tolist() for y in (0, -1) for x in (0, -1)] == [list(color) for color in QUADRANTS]
    Image.fromarray(quadrants(2)).save(tmp_path / "a.png")
    larger = one(tmp_path, size=32)
    assert [larger[y, x].tolist() for y in (0, -1) for x in (0, -1)] == [list(color) for color in QUADRANTS]
    plain(size=(3000, 1)).save(tmp_path / "a.png")
    assert (one(tmp_path, size=16) == (10, 20, 30)).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_shrinking_is_antialiased(tmp_path: Path, name: str) -> None:
    """A chessboard of single pixels becomes even grey; every pixel that counts counts alike."""
    board = (255 * (np.indices((256, 256)).sum(axis=0) % 2)).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / name, **({"quality": 100} if name == "a.jpg" else {}))
    image = one(tmp_path, size=16, channels=1).astype(int)
    assert abs(image - 127.5).max() < 3


def test_jpeg_keeps_its_detail(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
    Image.fromarray(stripes).save(tmp_path / "a.jpg", quality=100)
    assert abs(one(tmp_path, size=64, channels=1)[..., 0].astype(int) - stripes).max() < 5


def test_large_images_are_taken_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the size of a photograph, whatever Pillow's own limit is; beyond, left out before they are decoded."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    monkeypatch.setattr(picture, "MOST_PIXELS", 100)
    plain(size=(10, 10)).save(tmp_path / "a.png")
    assert (one(tmp_path) == (10, 20, 30)).all()
    plain(size=(4, 26)).save(tmp_path / "b.png")
    plain(size=(30, 30)).save(tmp_path / "c.png")  # Pillow itself says nothing of its size
    limit = "0 million pixels"
    assert said(load_folder(tmp_path, progress=False)) == (
        f"1 left out: larger than {limit}, or 800 MB while it is decoded (b.png: 4 × 26 pixels).",
        f"1 left out: larger than {limit} (c.png: {limit} or more).",
    )
    assert Image.MAX_IMAGE_PIXELS == 5


def test_memory_is_taken_once(tmp_path: Path) -> None:
    numbered_images(tmp_path, 200)
    load_folder(tmp_path, size=1, progress=False)  # decoders are loaded by now
    tracemalloc.start()
    try:
        data = load_folder(tmp_path, size=128, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * (data.train_images.nbytes + 2 * data.test_images.nbytes)


def test_first_frame(tmp_path: Path) -> None:
    frames = [plain(color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for name in "a.gif", "a.webp", "a.tif", "a.png":
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        with Image.open(tmp_path / name) as opened:
            assert opened.n_frames == 3
        assert (one(tmp_path) == (255, 0, 0)).all()
        (tmp_path / name).unlink()


def numbered_images(folder: Path, count: int) -> None:
    for i in range(count):
        plain((i, 0, 0)).save(folder / f"{i:03}.png")


@pytest.mark.parametrize(("count", "tests"), [(2, [0]), (10, [0]), (11, [0, 10]), (25, [0, 10, 20])])
def test_every_tenth_is_for_testing(tmp_path: Path, count: int, tests: list[int]) -> None:
    numbered_images(tmp_path, count)
    data = load_folder(tmp_path, size=4, progress=False)
    assert data.test_images[:, 0, 0, 0].tolist() == tests
    assert data.train_images[:, 0, 0, 0].tolist() == [i for i in range(count) if i not in tests]
    assert data.train_labels is data.test_labels is None
    assert data.classes == ()
    counts = f"{count - len(tests)} training and {len(tests)} test images of 4 × 4"
    assert data.name == f"{tmp_path.name} ({counts} from {tmp_path})"
    assert data.train_images.flags.c_contiguous
    assert data.test_images.flags.c_contiguous


def test_skipped_images_leave_no_gap(tmp_path: Path) -> None:
    numbered_images(tmp_path, 30)
    for i in 0, 7, 10, 29:
        (tmp_path / f"{i:03}.png").write_bytes(b"")
    data = load_folder(tmp_path, size=4, progress=False)
    left = [i for i in range(30) if i not in (0, 7, 10, 29)]
    assert data.test_images[:, 0, 0, 0].tolist() == left[::10]
    assert data.train_images[:, 0, 0, 0].tolist() == [i for k, i in enumerate(left) if k % 10]
    assert said(data) == ("4 left out: empty (000.png, 007.png, 010.png, …).",)


def test_order_and_what_is_left_out(tmp_path: Path) -> None:
    paths = ["a/b/1.png", "a/2.png", "a-b/3.png", "b.png", "B/4.PNG"]
    for i, path in enumerate(sorted(paths, key=lambda path: path.split("/"))):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        plain((i, 0, 0)).save(tmp_path / path)
    left_out = [".hidden.png", "a/._2.png", ".git/5.png", "__MACOSX/._1.png", "__MACOSX/6.png", "a/Thumbs.db"]
    for path in *left_out, "a/@eaDir/1.png", "desktop.ini", "notes.txt", "a/scores.csv", "README":
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"no image")
    data = load_folder(tmp_path, size=4, progress=False)
    assert said(data) == (
        "7 left out: hidden and system files.",
        "3 left out: not named as images (1 .csv, 1 .txt, 1 without extension).",
    )
    assert np.concatenate((data.test_images, data.train_images))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    again = load_folder(tmp_path, size=4, progress=False)
    assert np.array_equal(data.train_images, again.train_images)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb() -> bytes:
    """A PNG that states 100,000 × 100,000 pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def encoded(name: str) -> bytes:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format=name)
    return file.getvalue()


def test_unreadable_images_are_counted_by_kind(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    unknown, damaged = "no image of a known format", "damaged"
    files = {
        "bomb.png": (bomb(), "larger than 200 million pixels"),
        "empty.jpg": (b"", "empty"),
        "flipped.png": (encoded("png")[:200] + bytes(200) + encoded("png")[400:], damaged),
        "garbage.webp": (os.urandom(500), unknown),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC, which Pillow does not read: convert them"),
        "sub/half.jpg": (encoded("jpeg")[:2000], damaged),
        "sub/half.png": (encoded("png")[:2000], damaged),
        "text.png": (b"version https://example.org/spec", unknown),
        "drawing.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", unknown),
        "whole.jpg": (encoded("jpeg"), None),
        "whole.png": (encoded("png"), None),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    data = load_folder(tmp_path, size=8, progress=False)
    assert (len(data.train_images), len(data.test_images)) == (1, 1)
    kinds = {kind for _, kind in files.values() if kind}
    assert len(said(data)) == len(kinds)
    for kind in kinds:
        names = [name for name, (_, its) in files.items() if its == kind]
        (note,) = (note for note in data.notes if note.startswith(f"{len(names)} left out: {kind}"))
        assert all(str(Path(name)) in note for name in names)
        assert note.endswith(".")
        assert "\n" not in note
    (note,) = (note for note in data.notes if damaged in note)
    assert "half.jpg: image file is truncated" in note  # each with what is wrong in it


@pytest.mark.parametrize("count", [30, 3000])
def test_what_is_left_out_takes_few_lines(tmp_path: Path, count: int) -> None:
    """However many files there are: counts by kind, and three examples of each."""
    numbered_images(tmp_path, 2)
    for i in range(count):
        (tmp_path / f"x{i}.jpg").write_bytes(b"" if i % 3 else b"abc")
        (tmp_path / f"x{i}.txt").touch()
    notes = said(load_folder(tmp_path, progress=False))
    assert len(notes) == 3
    assert notes[1].startswith(f"{count // 3:,} left out: no image of a known format (x0.jpg, x")
    assert sum(int(note.split(" ")[0].replace(",", "")) for note in notes) == 2 * count
    assert max(map(len, notes)) < 120
    for path in tmp_path.glob("0*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no image that can be read") as caught:
        load_folder(tmp_path, progress=False)
    assert len(str(caught.value).splitlines()) == 4


needs_links = pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX")


def classes_of_links(folder: Path) -> None:
    """What is outside, and a folder of links to it."""
    for name in "cats", "dogs":
        (folder / "store" / name / "deep").mkdir(parents=True)
        numbered_images(folder / "store" / name, 3)
        numbered_images(folder / "store" / name / "deep", 2)
    (folder / "set").mkdir()


@needs_links
def test_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    classes_of_links(tmp_path)
    for name in "cats", "dogs":
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    data = load_folder(tmp_path / "set", progress=False)
    assert len(data.train_images) + len(data.test_images) == 10
    assert said(data) == ("2 followed: links to folders (cats, dogs).",)
    # Beside real folders, given itself by a link, relative, and of a link to a link.
    (tmp_path / "set" / "dogs").unlink()
    (tmp_path / "set" / "birds").mkdir()
    numbered_images(tmp_path / "set" / "birds", 4)
    (tmp_path / "second").symlink_to("store/dogs")
    (tmp_path / "set" / "dogs").symlink_to("../second", target_is_directory=True)
    (tmp_path / "entry").symlink_to("set")
    again = load_folder(tmp_path / "entry", progress=False)
    assert len(again.train_images) + len(again.test_images) == 14
    assert said(again) == said(data)
    paths, _ = folder_module.find_images(tmp_path / "set")
    assert [path.parent.name for path in paths] == ["birds"] * 4 + (["cats"] * 3 + ["deep"] * 2) + ["dogs"] * 3 + [
        "deep"
    ] * 2


@needs_links
@pytest.mark.parametrize(
    ("target", "name"),
    [("set", "set/loop"), ("set", "set/a/loop"), (".", "set/up"), ("/", "set/root"), ("set/a", "set/z")],
)
def test_links_in_a_circle_and_twice(tmp_path: Path, target: str, name: str) -> None:
    """Each folder is taken once, where it lies, and no link to a folder around this one is followed."""
    (tmp_path / "set" / "a").mkdir(parents=True)
    numbered_images(tmp_path / "set" / "a", 3)
    (tmp_path / name).symlink_to(tmp_path / target)
    data = load_folder(tmp_path / "set", progress=False)
    assert len(data.train_images) + len(data.test_images) == 3
    inside = Path(name).relative_to("set")
    assert said(data) == (f"1 left out: folders taken already, which a link reaches again ({inside}).",)


@needs_links
def test_links_and_pipes(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    numbered_images(folder, 2)
    (tmp_path / "outside").mkdir()
    numbered_images(tmp_path / "outside", 3)
    (folder / "9.png").symlink_to(tmp_path / "outside" / "002.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "class").symlink_to("nowhere")
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe.png")  # to open it would wait for ever
    data = load_folder(folder, progress=False)
    assert len(data.train_images) + len(data.test_images) == 3
    assert said(data) == (
        "3 left out: broken links (class, gone.png, self).",
        "1 left out: no regular file (pipe.png).",
    )


def test_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered_images(tmp_path, 2)
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str | Path) -> Iterator[os.DirEntry]:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert said(load_folder(tmp_path, progress=False)) == (
        "1 left out: cannot be opened, Permission denied (closed).",
    )


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: holds no image that can be read, needs at least 2; it is empty"):
        load_folder(tmp_path / "none")
    for name in "a.txt", "b.txt", "c.csv", ".d", "README":
        (tmp_path / name).touch()
    with pytest.raises(
        ValueError, match=r"\n  4 left out: not named as images \(2 .txt, 1 .csv, 1 without extension\)\."
    ):
        load_folder(tmp_path)
    for i in range(12):
        (tmp_path / f"{i}.png").touch()
    with pytest.raises(ValueError, match=r"\n  12 left out: empty \(0.png, 1.png, 10.png, …\)\.") as caught:
        load_folder(tmp_path, progress=False)
    assert str(caught.value).count("left out") == 3
    plain().save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="holds only one image that can be read, needs at least 2"):
        load_folder(tmp_path, progress=False)


@pytest.mark.parametrize(("terminal", "progress"), [(True, True), (True, False), (False, True)])
def test_progress_is_for_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal, progress) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    numbered_images(tmp_path, 3)
    stream = Stream()
    monkeypatch.setattr("sys.stderr", stream)
    load_folder(tmp_path, progress=progress)
    assert ("/3" in stream.getvalue()) == (terminal and progress)
    assert terminal or stream.getvalue() == ""


def test_pillow_settings_are_left_alone(tmp_path: Path) -> None:
    from PIL import ImageFile

    numbered_images(tmp_path, 2)
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    load_folder(tmp_path, progress=False)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


# -------------------------------------------------------------------------------------------------- resized


def labelled_squares(channels: int) -> Dataset:
    grey = np.arange(0, 240, 40, dtype=np.uint8)
    images = np.broadcast_to(grey[:, None, None, None], (6, 8, 8, channels)).copy()
    if channels == 3:
        images[...] = (200, 100, 50)
    labels = np.arange(6, dtype=np.uint8)
    return Dataset("squares", images, labels, images[:2].copy(), labels[:2], tuple("abcdef"), ("a note.",))


def test_resized_keeps_labels_and_says_so() -> None:
    data = labelled_squares(1)
    larger = resized(data, 16)
    assert larger.name == "squares, resized to 16 × 16"
    assert larger.image_shape == (16, 16, 1)
    assert larger.train_images[:, 7, 7, 0].tolist() == [0, 40, 80, 120, 160, 200]
    assert (larger.train_labels, larger.classes, larger.notes) == (data.train_labels, data.classes, data.notes)
    assert data.image_shape == (8, 8, 1)
    both = resized(data, 4, 3)
    assert both.name == "squares, resized to 4 × 4 in RGB"
    assert both.test_images.shape == (2, 4, 4, 3)
    assert (both.train_images == data.train_images[:, :4, :4]).all()
    grey = resized(labelled_squares(3), channels=1)
    assert grey.name == "squares, in grey"
    assert grey.image_shape == (8, 8, 1)
    assert (grey.train_images == 124).all()  # 0.299 · 200 + 0.587 · 100 + 0.114 · 50 = 124.2
    assert resized(data) is resized(data, 8, 1) is data
    picture = Dataset("q", quadrants(32)[None], None, quadrants(32)[None], None)
    assert np.array_equal(resized(picture, 8).train_images[0, ::7, ::7].reshape(4, 3), QUADRANTS)


# ----------------------------------------------------------------------------------------------------- load


def test_load_the_sample() -> None:
    for source in None, "sample":
        data = load(source)
        assert data.name == "MNIST sample (10,000 training and 2,000 test digits, embedded)"
    small = load("sample", image_size=14, channels=3)
    assert small.name == data.name + ", resized to 14 × 14 in RGB"
    assert small.train_images.shape == (10_000, 14, 14, 3)
    assert np.array_equal(small.train_labels, data.train_labels)
    means = [images.mean(axis=(1, 2, 3)) for images in (small.train_images[:100], data.train_images[:100])]
    assert abs(means[0] - means[1]).max() < 6  # the same digits, of means from 5 to 60


def test_load_mnist_by_name(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mnist(tmp_path / "published")
    mirror.contents = {name: (folder / name).read_bytes() for name in FILES}
    for file, content in mirror.contents.items():
        monkeypatch.setitem(download_mnist.__globals__["SHA256"], file, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(download_mnist, "__kwdefaults__", {"mirrors": [mirror.url("a")], "progress": True})
    assert load("mnist", progress=False).name.startswith("MNIST (6 training and 4 test digits from ")
    assert (tmp_path / "cache" / "mnist").is_dir()
    with pytest.raises(FileNotFoundError, match=r"download is not a name any more: say mnist, which"):
        load("download", progress=False)


def test_load_recognises_folders(tmp_path: Path) -> None:
    write_cifar(tmp_path / "one" / "cifar-10-batches-bin")
    write_mnist(tmp_path / "two" / "mnist")
    write_mnist(tmp_path / "three" / "fashion-mnist")
    write_mnist(tmp_path / "four")
    (tmp_path / "five").mkdir()
    numbered_images(tmp_path / "five", 4)
    found = {name: load(tmp_path / name, progress=False) for name in ("one", "two", "three", "four", "five")}
    assert [data.name.split(" (")[0] for data in found.values()] == [
        "CIFAR-10",
        "MNIST",
        "Fashion-MNIST",
        "MNIST",
        "five",
    ]
    assert found["five"].image_shape == (64, 64, 3)
    assert found["two"].classes == DIGITS
    assert found["three"].classes[9] == "Ankle boot"
    options = {"image_size": 20, "channels": 1, "progress": False}
    for name in found:
        assert load(str(tmp_path / name), **options).image_shape == (20, 20, 1)
    assert "resized" not in load(tmp_path / "five", **options).name  # made so, not made over
    numbered_images(tmp_path / "four", 4)  # a picture beside the files changes nothing
    assert load(tmp_path / "four", progress=False).classes == DIGITS


def test_content_tells_the_two_apart(tmp_path: Path) -> None:
    for title, first in ("fashion", fashion.FIRST_LABELS), ("digits", fashion.FIRST_LABELS_MNIST):
        for place in "fashion-files", "numbers":
            folder = write_mnist(tmp_path / title / place, test=10)
            write_idx(folder / FILES[3], np.array(first, np.uint8))
            expected = "Fashion-MNIST" if title == "fashion" else "MNIST"
            assert load(folder).name.startswith(f"{expected} (")
    # Where the labels are neither's, the name of the folder decides.
    assert load(write_mnist(tmp_path / "FashionMNIST" / "raw")).classes[0] == "T-shirt/top"
    assert load(write_mnist(tmp_path / "fashionable" / "user" / "plain")).classes[0] == "0"
    # The published digits begin so: every fifth test digit is in the sample.
    assert load_mnist("sample").test_labels[:2].tolist() == fashion.FIRST_LABELS_MNIST[::5]


def test_broken_idx_folders(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / FILES[2]).unlink()
    with pytest.raises(FileNotFoundError, match=f"does not hold MNIST or Fashion-MNIST; missing: {FILES[2]};"):
        load(tmp_path)
    write_mnist(tmp_path)
    path = tmp_path / FILES[3]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(IdxError, match=re.escape(str(path))):
        load(tmp_path)


def test_load_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered_images(tmp_path, 3)
    monkeypatch.setenv("SCRATCHGEN_DATA", str(tmp_path))
    assert load(progress=False).image_shape == (64, 64, 3)
    assert len(load("sample").train_images) == 10_000
    monkeypatch.setenv("SCRATCHGEN_DATA", "")
    assert len(load().train_images) == 10_000
    monkeypatch.setenv("SCRATCHGEN_DATA", "ring")
    assert load().name == load("ring").name
    monkeypatch.setenv("SCRATCHGEN_DATA", "fashion_mnist")
    with pytest.raises(FileNotFoundError, match=r"is not a directory; .* Did you mean fashion-mnist\?"):
        load()
    monkeypatch.setenv("SCRATCHGEN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere' \(from SCRATCHGEN_DATA\): is not a directory"):
        load()


def test_names_win_over_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "sample", "ring":
        Path(name).mkdir()
        numbered_images(Path(name), 3)
        assert len(getattr(load(name), "train_images", np.empty(10_000))) == 10_000
        for folder in f"./{name}", f"{name}/", Path(name):
            assert load(folder, progress=False).name.startswith(f"{name} (2 training and 1 test images")


def test_folder_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "photos").mkdir()
    numbered_images(tmp_path / "photos", 2)
    monkeypatch.chdir(tmp_path)
    for spelled in "~/photos", "~/photos/", "photos", "./photos/":
        assert load(spelled, progress=False).name.startswith("photos (1 training")
    with pytest.raises(ValueError, match="there is no user nobody-of-that-name"):
        load("~nobody-of-that-name/photos")
    write_cifar(tmp_path / "c")
    assert load_cifar10("~/c").image_shape == (32, 32, 3)


@pytest.mark.parametrize("source", ["nowhere", "MNIST", "", "a file.png"])
def test_unknown_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    plain().save("a file.png")
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"'{source}': is not a directory; give one, a .npy")
    ) as caught:
        load(source)
    for name in SOURCES:
        assert name in str(caught.value)


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    load("moons")
    numbered_images(tmp_path, 2)
    load_folder(tmp_path, progress=False)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_nothing_is_unpickled() -> None:
    code = (
        "import sys, tempfile, pathlib, scratchgen.data as d\n"
        "print(sorted({'pooch', 'requests', 'tqdm', 'matplotlib'} & set(sys.modules)))\n"
        "print(any('pickle' in p.read_text(encoding='utf-8').split() for p in "
        "pathlib.Path(d.__file__).parent.glob('*.py')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]

"""IDX files, MNIST from every source, and minibatches."""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scratchgen.data import (
    Dataset,
    DownloadError,
    IdxError,
    augmented,
    download,
    download_mnist,
    epoch_rng,
    limits,
    load_mnist,
    make_sample,
    minibatches,
    mnist,
    read_idx,
    to_float,
    write_idx,
)
from scratchgen.data.idx import TYPES

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
ORIGINALS = os.environ.get("SCRATCHGEN_DATA", "")  # before the fixture below takes it away
needs_originals = pytest.mark.skipif(
    not os.path.isdir(ORIGINALS),
    reason="SCRATCHGEN_DATA does not name a directory with the four original MNIST files",
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's data, cache or proxy."""
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# ------------------------------------------------------------------------------------------------------ IDX


def idx_bytes(code: int, shape: tuple[int, ...], values: bytes) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + values


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
@pytest.mark.parametrize("dtype", TYPES.values(), ids=str)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_idx_round_trip(tmp_path: Path, dtype: np.dtype, name: str, data: st.DataObject) -> None:
    order = data.draw(st.sampled_from("<>"))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4))
    array = data.draw(hnp.arrays(dtype.newbyteorder(order), shape))
    write_idx(tmp_path / name, array)
    back = read_idx(tmp_path / name)
    assert back.dtype == dtype
    assert back.dtype.isnative
    assert back.shape == shape
    assert back.tobytes() == array.astype(dtype).tobytes()  # bits, so that NaN and -0.0 count
    assert back.flags.writeable
    assert back.flags.c_contiguous
    assert os.listdir(tmp_path) == [name]  # no temporary file is left


BY_HAND = {
    0x08: ([0, 1, 255], "00 01 ff"),
    0x09: ([0, 127, -128], "00 7f 80"),
    0x0B: ([1, 258, -2], "0001 0102 fffe"),
    0x0C: ([1, 16909060, -2], "00000001 01020304 fffffffe"),
    0x0D: ([1.0, -2.5, 0.15625], "3f800000 c0200000 3e200000"),
    0x0E: ([1.0, -2.5, 0.15625], "3ff0000000000000 c004000000000000 3fc4000000000000"),
}


@pytest.mark.parametrize("code", BY_HAND)
def test_idx_bytes_by_hand(tmp_path: Path, code: int) -> None:
    values, written = BY_HAND[code]
    content = bytes.fromhex(f"00 00 {code:02x} 02  00 00 00 01  00 00 00 03 {written}")
    (tmp_path / "a").write_bytes(content)
    array = read_idx(tmp_path / "a")
    assert array.tolist() == [values]
    assert array.dtype == TYPES[code]
    write_idx(tmp_path / "b", array)
    assert (tmp_path / "b").read_bytes() == content


def test_idx_index_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx_bytes(0x08, (2, 3), bytes(range(6))))
    assert read_idx(tmp_path / "a").tolist() == [[0, 1, 2], [3, 4, 5]]
    write_idx(tmp_path / "b", np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    write_idx(tmp_path / "c", np.arange(12, dtype=np.int16)[::2])
    assert read_idx(str(tmp_path / "c")).tolist() == [0, 2, 4, 6, 8, 10]


def test_gzip_is_known_by_its_magic_bytes(tmp_path: Path) -> None:
    content = idx_bytes(0x08, (3,), b"abc")
    (tmp_path / "plain.gz").write_bytes(content)
    (tmp_path / "zipped").write_bytes(gzip.compress(content))
    (tmp_path / "members").write_bytes(gzip.compress(content[:5]) + gzip.compress(content[5:]))
    for name in "plain.gz", "zipped", "members":
        assert read_idx(tmp_path / name).tobytes() == b"abc"


def test_gzip_bytes_are_reproducible(tmp_path: Path) -> None:
    array = np.arange(100, dtype=np.uint8)
    write_idx(tmp_path / "one.gz", array)
    write_idx(tmp_path / "two.gz", array)
    content = (tmp_path / "one.gz").read_bytes()
    assert content == (tmp_path / "two.gz").read_bytes()
    assert content[3] == 0  # no flag: no name, no comment
    assert content[4:8] == bytes(4)  # time 0


def test_largest_gzip_expansion_is_read(tmp_path: Path) -> None:
    write_idx(tmp_path / "a.gz", np.zeros(20_000_000, np.uint8))
    assert (tmp_path / "a.gz").stat().st_size < 20_000  # near the 1032-fold that DEFLATE reaches
    assert read_idx(tmp_path / "a.gz").shape == (20_000_000,)


MALFORMED = {
    "empty": (b"", "is empty; an IDX file starts with a 4-byte magic number"),
    "stub": (b"\0\0\x08", "has 3 bytes; an IDX file starts with a 4-byte magic number"),
    "magic": (b"PK\x08\x01", "starts with bytes 50 4b; an IDX file starts with 00 00"),
    "magic, second byte": (b"\0\1\x08\x01", "starts with bytes 00 01;"),
    "type": (b"\0\0\x0a\x01", r"has type code 0x0a; IDX knows 0x08 \(uint8\), .*0x0e \(float64\)"),
    "no dimension": (b"\0\0\x08\0x", "states 0 dimensions; 1 to 64 are possible"),
    "dimensions": (b"\0\0\x08\x41" + bytes(4 * 65), "states 65 dimensions; 1 to 64 are possible"),
    "header": (b"\0\0\x08\x03" + bytes(11), "header ends after 15 bytes; 3 dimensions need 16"),
    "short": (idx_bytes(0x0B, (2, 2), bytes(7)), r"7 bytes of values.*shape \(2, 2\) of int16 needs 8"),
    "no values": (idx_bytes(0x08, (1,), b""), r"0 bytes of values.*shape \(1,\) of uint8 needs 1"),
    "long": (idx_bytes(0x0B, (2, 2), bytes(9)), r"trailing bytes; shape \(2, 2\) of int16 needs exactly 8"),
    "long, no values": (idx_bytes(0x0B, (0, 2), bytes(1)), "trailing bytes; .* needs exactly 0 bytes"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_idx(tmp_path: Path, case: str, zipped: bool) -> None:
    content, message = MALFORMED[case]
    path = tmp_path / "digits.idx"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(IdxError, match=re.escape(str(path)) + ": .*" + message):
        read_idx(path)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    whole = gzip.compress(idx_bytes(0x08, (3,), b"abc"), mtime=0)
    bad_block = whole[:10] + b"\xff" + whole[11:]  # zlib.error
    bad_crc = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]  # BadGzipFile
    for content in bad_block, bad_crc, whole[:-9], whole[:-1], whole[:5], whole[:2], whole + b"garbage":
        path.write_bytes(content)
        with pytest.raises(IdxError, match=r"a\.gz: has a damaged gzip stream \(.+\); fetch or copy it again"):
            read_idx(path)


def test_every_truncation(tmp_path: Path) -> None:
    content = idx_bytes(0x0C, (2, 3), bytes(range(24)))
    path = tmp_path / "a"
    for whole in content, gzip.compress(content):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(IdxError, match=re.escape(str(path))):
                read_idx(path)
        path.write_bytes(whole)
        assert read_idx(path).tobytes() == np.arange(24, dtype=np.uint8).view(">i4").astype("i4").tobytes()


def read_or_error(path: Path) -> np.ndarray | str:
    try:
        return read_idx(path)
    except IdxError as error:
        return str(error)


def flips(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Place, new value and content for every bit."""
    for place, old in enumerate(content):
        for bit in range(8):
            new = old ^ 1 << bit
            yield place, new, content[:place] + bytes([new]) + content[place + 1 :]


def test_every_flip_of_a_header_bit(tmp_path: Path) -> None:
    header, values = idx_bytes(0x0C, (2, 3), b""), bytes(range(24))
    path = tmp_path / "a"
    accepted = []
    for place, new, flipped in flips(header):
        path.write_bytes(flipped + values)
        result = read_or_error(path)
        if isinstance(result, str):
            assert str(path) in result
        else:
            assert result.nbytes == len(values)
            accepted.append((place, new))
    assert accepted == [(2, 0x0D)]  # float32 is as wide as int32; every other flip shows


def test_every_flip_of_a_gzip_bit(tmp_path: Path) -> None:
    values = bytes(range(24))
    path = tmp_path / "a"
    for _, _, flipped in flips(gzip.compress(idx_bytes(0x0C, (2, 3), values), mtime=0)):
        path.write_bytes(flipped)
        result = read_or_error(path)
        if isinstance(result, str):
            assert str(path) in result
        else:  # a byte that means nothing, as the time
            assert result.ravel().tolist() == np.frombuffer(values, ">i4").tolist()


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "shape",
    [(2**32 - 1,), (2**32 - 1, 2**32 - 1), (2**32 - 1,) * 64, (60_000, 28, 28), (0, *(2**32 - 1,) * 3)],
    ids=["4 GB", "2^64", "64 dimensions", "MNIST", "empty but huge"],
)
def test_forged_sizes_cost_neither_memory_nor_time(tmp_path: Path, shape: tuple[int, ...], zipped: bool) -> None:
    content = idx_bytes(0x0E, shape, bytes(1000))
    path = tmp_path / "forged"
    path.write_bytes(gzip.compress(content) if zipped else content)
    began = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(IdxError, match=r"forged: (has room|states) "):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # bytes
    assert time.perf_counter() - began < 5  # seconds; to read 4 GB or more takes longer


def test_long_gzip_stream_is_not_unpacked(tmp_path: Path) -> None:
    """100 MB of zeros behind a header for 10 bytes: refused after a chunk."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(idx_bytes(0x08, (10,), b""))
        for _ in range(100):
            file.write(bytes(1_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(IdxError, match="trailing bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(100_000, 28, 28), (70_000_000,), (20_000, 64, 64)])
def test_an_expansion_that_no_images_have_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(idx_bytes(0x08, shape, b""))
        for _ in range(math.prod(shape) // 10_000):
            file.write(bytes(10_000))
    tracemalloc.start()
    try:
        with pytest.raises(IdxError, match=r"bomb\.gz: .* bytes that state to be .* MB unpacked are not read, since"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_values_are_read_once(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(256, size=(5000, 40, 40), dtype=np.uint8)
    for name in "a", "a.gz":
        path = tmp_path / name
        if name == "a":
            write_idx(path, values)
        else:
            path.write_bytes(gzip.compress((tmp_path / "a").read_bytes(), 1))
        tracemalloc.start()
        try:
            back = read_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 1.2 * values.nbytes
        finally:
            tracemalloc.stop()
        assert np.array_equal(back, values)


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "a", np.zeros(2000, np.uint8))
    monkeypatch.setattr(limits, "_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"needs 0\.0 MB of memory, and this machine has 0\.0 MB; a data set with"):
        read_idx(tmp_path / "a")
    monkeypatch.setattr(limits, "_memory", lambda: None)  # a system that does not say
    assert read_idx(tmp_path / "a").shape == (2000,)


def test_idx_missing_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.idx: no such file; an IDX file is needed"):
        read_idx(tmp_path / "nothing.idx")
    with pytest.raises(IdxError, match="is not a regular file"):
        read_idx(tmp_path)


def test_idx_error_is_a_value_error() -> None:
    assert issubclass(IdxError, ValueError)
    assert issubclass(DownloadError, OSError)


def test_write_idx_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; create .*nowhere first"):
        write_idx(tmp_path / "nowhere" / "a.idx", np.zeros(1, np.uint8))


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, step: str
) -> None:
    path = tmp_path / name
    write_idx(path, np.arange(3, dtype=np.uint8))
    seen = []

    def fail(*_: object) -> None:
        seen.append(read_idx(path).tolist())
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_idx(path, np.arange(9, dtype=np.uint8))
    assert seen == [[0, 1, 2]]
    assert read_idx(path).tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_written_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_idx(tmp_path / "a.idx", np.zeros(1, np.uint8))
    assert (tmp_path / "a.idx").stat().st_mode == (tmp_path / "usual").stat().st_mode


# -------------------------------------------------------------------------------------------------- Dataset


def images(n: int = 2, size: int = 4) -> np.ndarray:
    return np.zeros((n, size, size, 3), np.uint8)


def labels(n: int = 2) -> np.ndarray:
    return np.zeros(n, np.uint8)


def test_dataset() -> None:
    data = Dataset("squares", images(5), labels(5), images(2), labels(2))
    assert data.image_shape == (4, 4, 3)
    assert repr(data) == "Dataset(name='squares')"
    with pytest.raises(AttributeError):
        data.name = "other"


# ---------------------------------------------------------------------------------------------------- MNIST


def test_sample() -> None:
    data = load_mnist()
    assert data.name == "MNIST sample (10,000 training and 2,000 test digits, embedded)"
    assert data.train_images.shape == (10_000, 28, 28, 1)
    assert data.test_images.shape == (2_000, 28, 28, 1)
    assert data.image_shape == (28, 28, 1)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)
    for part, count in (data.train_labels, 10_000), (data.test_labels, 2_000):
        classes = np.bincount(part, minlength=10)
        assert len(classes) == 10
        assert classes.sum() == count
        assert classes.min() > 0.07 * count
        assert classes.max() < 0.13 * count
    # The first digits of MNIST are famously 5, 0, 4, 1, 9, 2, 1; the seventh opens the second sixth.
    assert data.train_labels[:2].tolist() == [5, 1]
    assert data.test_labels[0] == 7
    # Digits are bright strokes on black, centred: upright and not inverted.
    assert data.train_images[:, 0].max() < 128 < data.train_images[:, 14].max()
    assert np.array_equal(load_mnist("sample").train_images, data.train_images)


def test_sample_files() -> None:
    folder = mnist.SAMPLE
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "LICENSE.md"])
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_200_000
    licence = (folder / "LICENSE.md").read_text(encoding="utf-8")
    for word in "LeCun", "Cortes", "Burges", "CC BY-SA 3.0", "every 6th", "every 5th", "make_sample":
        assert word in licence


@needs_originals
def test_sample_is_drawn_from_the_originals(tmp_path: Path) -> None:
    whole, sample = load_mnist(ORIGINALS), load_mnist("sample")
    assert len(whole.train_images) == 60_000
    assert np.array_equal(sample.train_images, whole.train_images[::6])
    assert np.array_equal(sample.train_labels, whole.train_labels[::6])
    assert np.array_equal(sample.test_images, whole.test_images[::5])
    assert np.array_equal(sample.test_labels, whole.test_labels[::5])
    make_sample(ORIGINALS, tmp_path)
    for name in FILES:  # unpacked, for zlib versions pack differently
        assert gzip.decompress((tmp_path / name).read_bytes()) == gzip.decompress((mnist.SAMPLE / name).read_bytes())


def write_mnist(folder: Path, train: int = 6, test: int = 4, names: tuple[str, ...] = FILES) -> Path:
    """A tiny MNIST whose pixels and labels tell the digits apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in zip(names, (train, train, test, test), strict=True):
        array = (np.arange(count) % 10).astype(np.uint8)
        if "images" in name:
            array = np.broadcast_to(array[:, None, None], (count, 28, 28))
        write_idx(folder / name, array)
    return folder


def test_make_sample(tmp_path: Path) -> None:
    originals = write_mnist(tmp_path / "originals", 60_000, 10_000, tuple(n.removesuffix(".gz") for n in FILES))
    folder = make_sample(originals, tmp_path / "new" / "sample")
    assert sorted(os.listdir(folder)) == sorted(FILES)
    data = load_mnist(folder)
    assert data.train_labels.tolist() == [i % 10 for i in range(0, 60_000, 6)]
    assert data.test_labels.tolist() == [i % 10 for i in range(0, 10_000, 5)]
    assert np.array_equal(data.train_images[:, 3, 4, 0], data.train_labels)
    assert np.array_equal(data.test_images[:, 3, 4, 0], data.test_labels)


def test_make_sample_needs_all_digits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has \(6, 4\) digits; the sample is drawn from \(60000, 10000\)"):
        make_sample(write_mnist(tmp_path / "few"), tmp_path / "sample")
    assert not (tmp_path / "sample").exists()


PLAIN = tuple(name.removesuffix(".gz") for name in FILES)
SPELLINGS = {
    "gzip": FILES,
    "plain": PLAIN,
    "dotted": tuple(name.replace("-idx", ".idx") for name in PLAIN),
    "dotted gzip": tuple(name.replace("-idx", ".idx") for name in FILES),
    "mixed": (FILES[0], PLAIN[1], PLAIN[2].replace("-idx", ".idx"), FILES[3]),
}


@pytest.mark.parametrize("sub", ["", "mnist"], ids=["itself", "sub-folder"])
@pytest.mark.parametrize("names", SPELLINGS.values(), ids=SPELLINGS)
def test_directory(tmp_path: Path, names: tuple[str, ...], sub: str) -> None:
    write_mnist(tmp_path / sub, names=names)
    for source in tmp_path, str(tmp_path):
        data = load_mnist(source)
        assert data.name == f"MNIST (6 training and 4 test digits from {tmp_path})"
        assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
        assert data.test_labels.tolist() == [0, 1, 2, 3]
        assert data.train_images.shape == (6, 28, 28, 1)
        assert data.test_images[:, 27, 27, 0].tolist() == [0, 1, 2, 3]


def test_directory_with_braces_and_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "{a} %s")
    assert "{a} %s" in load_mnist(tmp_path / "{a} %s").name
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(load_mnist("~/{a} %s").train_images) == 6


def test_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCHGEN_DATA", str(write_mnist(tmp_path / "data")))
    assert len(load_mnist().train_images) == 6
    assert len(load_mnist("sample").train_images) == 10_000
    monkeypatch.setenv("SCRATCHGEN_DATA", "")
    assert len(load_mnist().train_images) == 10_000
    monkeypatch.setenv("SCRATCHGEN_DATA", "sample")
    assert len(load_mnist().train_images) == 10_000
    monkeypatch.setattr(mnist, "download_mnist", lambda progress: tmp_path / "data")
    for name in "mnist", "download":
        monkeypatch.setenv("SCRATCHGEN_DATA", name)
        assert len(load_mnist().train_images) == 6
    monkeypatch.setenv("SCRATCHGEN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere \(from SCRATCHGEN_DATA\): is not a directory"):
        load_mnist()


def test_missing_files_are_listed(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / FILES[0]).unlink()
    (tmp_path / FILES[3]).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: does not hold MNIST; missing: {FILES[0]}, {FILES[3]}; looked in ")
    assert FILES[1] not in message
    for part in str(tmp_path / "mnist"), '"download" to fetch', "the embedded sample", "four files":
        assert part in message
    # Halves in two places are not put together: they may be of two data sets.
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / FILES[1]).unlink()
    with pytest.raises(FileNotFoundError, match=f"missing: {FILES[1]};"):
        load_mnist(tmp_path)


def replace_one(folder: Path, which: int, array: np.ndarray) -> None:
    write_idx(folder / FILES[which], array)


@pytest.mark.parametrize(
    ("which", "array", "message"),
    [
        (0, np.zeros((6, 28, 27), np.uint8), r"has shape \(6, 28, 27\) of uint8; MNIST needs \(N, 28, 28\)"),
        (2, np.zeros((4, 28, 28), np.int16), r"has shape \(4, 28, 28\) of int16; MNIST needs \(N, 28, 28\)"),
        (2, np.zeros((4, 784), np.uint8), r"has shape \(4, 784\) of uint8"),
        (0, np.zeros((0, 28, 28), np.uint8), r"has shape \(0, 28, 28\) of uint8; .* N ≥ 1"),
        (1, np.zeros((6, 1), np.uint8), r"has shape \(6, 1\) of uint8; MNIST needs \(N,\)"),
        (3, np.zeros(4, np.int8), r"has shape \(4,\) of int8; MNIST needs \(N,\) of uint8"),
        (1, np.zeros(7, np.uint8), "has 7 labels; the images of train-images-idx3-ubyte.gz need 6"),
        (3, np.array([0, 9, 10, 1], np.uint8), "has a label 10; MNIST labels are 0 to 9"),
    ],
)
def test_files_that_are_not_mnist(tmp_path: Path, which: int, array: np.ndarray, message: str) -> None:
    write_mnist(tmp_path)
    replace_one(tmp_path, which, array)
    with pytest.raises(ValueError, match=re.escape(FILES[which]) + ": " + message):
        load_mnist(tmp_path)


def test_damaged_file_in_a_directory(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / FILES[2]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(IdxError, match=re.escape(str(path))):
        load_mnist(tmp_path)


def test_source_must_be_a_name_or_a_directory() -> None:
    with pytest.raises(TypeError, match="source must be None, a name or a directory, not int"):
        load_mnist(3)


# ------------------------------------------------------------------------------------------------- download

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def good(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def unsized(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"oops")

    return answer


def truncated(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def truncated_unsized(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    unsized(handler, content[: len(content) // 2])


def corrupted(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    good(handler, content[:-1] + bytes([content[-1] ^ 1]))


def web_page(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    good(handler, b"<html>Please log in to this network.</html>")


class Mirror:
    """An HTTP server in a thread; `answers[folder]` is what its next requests get, the last one for good."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[str] = []
        self.released = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                folder, name = self.path.strip("/").split("/")
                queue = mirror.answers.get(folder, [good])
                answer = queue.pop(0) if len(queue) > 1 else queue[0]
                answer(self, mirror.contents[name])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def url(self, folder: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{folder}/"

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of a tiny MNIST whose hashes the module takes for the published ones; no pauses."""
    folder = write_mnist(tmp_path / "published")
    contents = {name: (folder / name).read_bytes() for name in FILES}
    for name, content in contents.items():
        monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(download, "PAUSE", 0.0)
    server = Mirror(contents)
    yield server
    server.close()


def whole(folder: Path, mirror: Mirror) -> bool:
    """Just the four files, each as published: no temporary file either."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} == mirror.contents


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("answer", [good, unsized])
def test_download(
    tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str], answer: Answer, progress: bool
) -> None:
    mirror.answers["a"] = [answer]
    folder = download_mnist(tmp_path / "new" / "here", mirrors=[mirror.url("a")], progress=progress)
    assert folder == tmp_path / "new" / "here"
    assert whole(folder, mirror)
    assert mirror.requests == [f"/a/{name}" for name in FILES]
    out, err = capsys.readouterr()
    assert out == ""
    if progress:
        assert all(name in err for name in FILES)
        assert err.count("\n") == len(FILES)
    else:
        assert err == ""
    assert "Downloading data" not in err
    # Again: nothing is fetched, nothing is said.
    download_mnist(folder, mirrors=[mirror.url("a")], progress=progress)
    assert len(mirror.requests) == 4
    assert capsys.readouterr() == ("", "")


def test_download_restores_the_log_level(tmp_path: Path, mirror: Mirror) -> None:
    import pooch

    assert pooch.get_logger().level != logging.WARNING
    before = pooch.get_logger().level
    download_mnist(tmp_path / "a", mirrors=[mirror.url("a")], progress=False)
    assert pooch.get_logger().level == before


def test_load_downloaded_mnist(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_mnist, "__kwdefaults__", {"mirrors": [mirror.url("a")], "progress": True})
    cache = tmp_path / "cache" / "mnist"  # SCRATCHGEN_CACHE
    data = load_mnist("download", progress=False)
    assert data.name == f"MNIST (6 training and 4 test digits from {cache})"
    assert whole(cache, mirror)
    load_mnist("download", progress=False)
    assert len(mirror.requests) == 4


def test_default_cache(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv("SCRATCHGEN_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda project: str(tmp_path / "user" / project))
    folder = download_mnist(mirrors=[mirror.url("a")], progress=False)
    assert folder == tmp_path / "user" / "scratchgen" / "mnist"
    assert whole(folder, mirror)


BAD = {
    "404": (status(404), "answered 404 Not Found"),
    "500": (status(500), "answered 500 Internal Server Error"),
    "truncated": (truncated, "broke off in the middle|gave another file"),
    "truncated, no length": (truncated_unsized, r"gave another file than the published one \(its hash differs\)"),
    "corrupted": (corrupted, r"gave another file than the published one \(its hash differs\)"),
    "web page": (web_page, r"gave another file than the published one \(its hash differs\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_second_mirror_steps_in(tmp_path: Path, mirror: Mirror, case: str) -> None:
    mirror.answers["a"] = [BAD[case][0]]
    folder = download_mnist(tmp_path / "d", mirrors=(mirror.url("a"), mirror.url("b")), progress=False)
    assert whole(folder, mirror)
    assert mirror.requests == [f"/{m}/{name}" for name in FILES for m in "ab"]


def test_second_round(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    monkeypatch.setattr(download, "PAUSE", 0.25)
    monkeypatch.setattr(time, "sleep", pauses.append)
    mirror.answers = {"a": [status(503), good], "b": [status(503), good]}
    folder = download_mnist(tmp_path / "d", mirrors=(mirror.url("a"), mirror.url("b")), progress=False)
    assert whole(folder, mirror)
    assert mirror.requests[:4] == [
        f"/{m}/{name}" for m, name in zip("abaa", [FILES[0]] * 3 + [FILES[1]], strict=True)
    ]
    assert 0.25 in pauses


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_all_mirrors_fail(tmp_path: Path, mirror: Mirror, case: str, progress: bool) -> None:
    answer, reason = BAD[case]
    mirror.answers = {"a": [answer], "b": [status(418)]}
    urls = mirror.url("a"), mirror.url("b").rstrip("/")
    with pytest.raises(DownloadError) as caught:
        download_mnist(tmp_path / "d", mirrors=urls, progress=progress)
    message = str(caught.value)
    assert message.startswith(f"{FILES[0]}: it could not be downloaded from any mirror:\n")
    assert re.search(rf"\n  {re.escape(urls[0])}{FILES[0]}: .*({reason})", message)
    assert re.search(rf"\n  {re.escape(urls[1])}/{FILES[0]}: answered 418 I'm a teapot\.", message, re.IGNORECASE)
    for part in "SCRATCHGEN_DATA", 'the embedded "sample"':
        assert part in message
    assert os.listdir(tmp_path / "d") == []
    assert len(mirror.requests) == 4  # two mirrors, two rounds


def test_unreachable_and_silent_mirrors(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))
    mirror.answers["a"] = [lambda handler, content: mirror.released.wait(10) and None]
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    closed.server_close()
    urls = mirror.url("a"), f"http://127.0.0.1:{closed.server_port}/", "no address", "file:///tmp/"
    began = time.perf_counter()
    with pytest.raises(DownloadError) as caught:
        download_mnist(tmp_path / "d", mirrors=urls, progress=False)
    silent, refused, malformed, other = str(caught.value).split("\n")[1:5]
    assert time.perf_counter() - began < 5  # seconds; two rounds of 0.2 and no pause
    assert silent.endswith(": stopped sending: nothing for 0.2 seconds.")
    assert refused.endswith(": cannot be reached: connection refused.")
    for line in malformed, other:
        assert line.endswith(": is not a web address.")
    assert os.listdir(tmp_path / "d") == []


@pytest.mark.parametrize("progress", [False, True])
def test_no_network(
    tmp_path: Path,
    mirror: Mirror,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: bool,
) -> None:
    """No bar of a file of which nothing came, and of each mirror one sentence without a class or an address in it."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    urls = ("https://mirror.example/mnist/", "http://other.example/", "ftp://mirror.example/")
    with pytest.raises(DownloadError) as caught:
        download_mnist(tmp_path / "d", mirrors=urls, progress=progress)
    assert capsys.readouterr() == ("", "")
    first, *lines, advice = str(caught.value).split("\n")
    assert first == f"{FILES[0]}: it could not be downloaded from any mirror:"
    assert lines == [
        f"  {urls[0]}{FILES[0]}: cannot be reached: no network, or no such host.",
        f"  {urls[1]}{FILES[0]}: cannot be reached: no network, or no such host.",
        f"  {urls[2]}{FILES[0]}: is not a web address.",
    ]
    assert advice.startswith("Try again where there is a network, ")


def test_reasons_of_a_failed_download() -> None:
    """What no server here can play: the words are ours, whatever the libraries below put into theirs."""
    from requests import exceptions as of

    refused = of.ConnectionError("HTTPSConnectionPool(host='x', port=443)", OSError(111, "Connection refused"))
    assert download._reason(refused) == "cannot be reached: connection refused"
    circle = of.ConnectionError("a")
    circle.__cause__ = OSError()
    circle.__cause__.__cause__ = circle
    assert download._reason(circle) == "cannot be reached: the connection failed"
    assert "no answer in" in download._reason(of.ConnectTimeout("x"))
    assert "proxy" in download._reason(of.ProxyError("x"))
    assert "certificate" in download._reason(of.SSLError("x"))
    assert "broke off" in download._reason(of.ChunkedEncodingError("x"))
    assert download._reason(of.TooManyRedirects("x")) == "failed (TooManyRedirects)"


def test_interrupted_download_leaves_nothing(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    def interrupted(self: object, url: str, temporary: str, _: object) -> None:
        Path(temporary).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download_mnist(tmp_path / "d", mirrors=[mirror.url("a")])
    assert os.listdir(tmp_path / "d") == []


def test_damaged_cache_is_fetched_anew(tmp_path: Path, mirror: Mirror) -> None:
    folder = download_mnist(tmp_path / "d", mirrors=[mirror.url("a")], progress=False)
    content = mirror.contents[FILES[2]]
    (folder / FILES[1]).write_bytes(b"")
    (folder / FILES[2]).write_bytes(content[:-1])
    mirror.requests.clear()
    download_mnist(folder, mirrors=[mirror.url("a")], progress=False)
    assert mirror.requests == [f"/a/{FILES[1]}", f"/a/{FILES[2]}"]
    assert whole(folder, mirror)


def test_broken_off_download_continues_with_the_next_file(tmp_path: Path, mirror: Mirror) -> None:
    mirror.answers["a"] = [good, good, status(500)]
    with pytest.raises(DownloadError, match=FILES[2]):
        download_mnist(tmp_path / "d", mirrors=[mirror.url("a")], progress=False)
    assert sorted(os.listdir(tmp_path / "d")) == sorted(FILES[:2])
    mirror.requests.clear()
    download_mnist(tmp_path / "d", mirrors=[mirror.url("b")], progress=False)
    assert mirror.requests == [f"/b/{FILES[2]}", f"/b/{FILES[3]}"]
    assert whole(tmp_path / "d", mirror)


def test_download_that_cannot_be_stored(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot be stored .* give a folder or set SCRATCHGEN_CACHE"):
        download_mnist(tmp_path / "file", mirrors=[mirror.url("a")], progress=False)
    (tmp_path / "d" / FILES[0]).mkdir(parents=True)
    with pytest.raises(DownloadError, match="cannot be stored"):
        download_mnist(tmp_path / "d", mirrors=[mirror.url("a")], progress=False)
    assert mirror.requests == []


@pytest.mark.parametrize("mirrors", ["http://127.0.0.1/", [], ()])
def test_mirrors_must_be_a_sequence(tmp_path: Path, mirrors: object) -> None:
    with pytest.raises(TypeError, match="mirrors must be a sequence of one or more addresses"):
        download_mnist(tmp_path, mirrors=mirrors)


def test_published_hashes_and_mirrors() -> None:
    assert tuple(mnist.SHA256) == FILES
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in mnist.SHA256.values())
    assert all(url.startswith("https://") and url.endswith("/mnist/") for url in mnist.MIRRORS)
    assert all(limit > 0 for limit in download.TIMEOUT)


@needs_originals
@pytest.mark.parametrize("name", FILES[1:])
def test_published_hash(name: str) -> None:
    """Not of the training images: a directory may hold them packed anew."""
    path = next(p / name for p in (Path(ORIGINALS), Path(ORIGINALS) / "mnist") if (p / name).is_file())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == mnist.SHA256[name]


def test_import_leaves_the_download_libraries_alone() -> None:
    code = "import sys, scratchgen.data; print(sorted({'pooch', 'requests', 'tqdm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------------- minibatches


def numbered(n: int) -> np.ndarray:
    """Images `(n, 2, 2, 1)` which hold their own index, exact in float32."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 2, 2, 1))


def indices(batches: Iterator[np.ndarray]) -> list[list[int]]:
    return [batch[:, 0, 0, 0].astype(int).tolist() for batch in batches]


@settings(deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 70), seed=st.integers(0, 2**64))
def test_an_epoch_holds_every_image_once(n: int, size: int, seed: int) -> None:
    epoch = indices(minibatches(numbered(n), size, np.random.default_rng(seed)))
    assert sorted(i for batch in epoch for i in batch) == list(range(n))
    assert [len(batch) for batch in epoch] == [size] * (n // size) + ([n % size] if n % size else [])


@settings(deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 2**64), data=st.data())
def test_resumed_epoch_continues_exactly(n: int, size: int, seed: int, data: st.DataObject) -> None:
    whole_epoch = indices(minibatches(numbered(n), size, np.random.default_rng(seed)))
    start = data.draw(st.integers(0, len(whole_epoch)))
    rng = np.random.default_rng(seed)
    assert indices(minibatches(numbered(n), size, rng, start=start)) == whole_epoch[start:]
    other = np.random.default_rng(seed)
    list(minibatches(numbered(n), size, other))
    assert rng.bit_generator.state == other.bit_generator.state  # the next epoch is the same, too


def test_order_is_the_seeds() -> None:
    def order(seed: int) -> list[list[int]]:
        return indices(minibatches(numbered(100), 7, np.random.default_rng(seed)))

    assert order(1) == order(1)
    assert order(1) != order(2)
    rng = np.random.default_rng(1)
    first, second = (indices(minibatches(numbered(100), 7, rng)) for _ in range(2))
    assert first == order(1)
    assert first != second  # a fresh permutation for each epoch


def test_order_is_drawn_at_the_call() -> None:
    rng = np.random.default_rng(1)
    batches = minibatches(numbered(50), 7, rng)
    rng.random(100)
    assert indices(batches) == indices(minibatches(numbered(50), 7, np.random.default_rng(1)))


def test_images_stay_as_they_are_and_batches_are_copies() -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    for batch in minibatches(data, 2, np.random.default_rng(0)):
        batch[:] = -1
    assert data.ravel().tolist() == list(range(12))


def test_drop_last() -> None:
    rng = np.random.default_rng
    epoch = indices(minibatches(numbered(10), 4, rng(3)))
    assert [len(batch) for batch in epoch] == [4, 4, 2]
    assert indices(minibatches(numbered(10), 4, rng(3), drop_last=True)) == epoch[:2]
    assert indices(minibatches(numbered(10), 4, rng(3), drop_last=True, start=1)) == epoch[1:2]
    assert indices(minibatches(numbered(10), 4, rng(3), start=3)) == []
    even = indices(minibatches(numbered(8), 4, rng(3)))
    assert indices(minibatches(numbered(8), 4, rng(3), drop_last=True)) == even


def test_to_float() -> None:
    scaled = to_float(np.arange(256, dtype=np.uint8))
    assert scaled.dtype == np.float32
    assert scaled[0] == 0
    assert scaled[255] == 1
    # The nearest float32 of every quotient.
    assert np.array_equal(scaled, (np.arange(256) / 255).astype(np.float32))
    for dtype in np.float32, np.float64:
        array = np.array([-3.5, 300], dtype)
        assert to_float(array) is array
    assert to_float(np.zeros((0, 28, 28, 1), np.uint8)).shape == (0, 28, 28, 1)


def test_scaling_takes_no_float64() -> None:
    array = np.zeros(1_000_000, np.uint8)
    tracemalloc.start()
    try:
        to_float(array)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000  # bytes; float64 alone takes 8 million
    finally:
        tracemalloc.stop()


def test_batch_types() -> None:
    pixels = np.array([[0], [51], [255]], np.uint8)
    (batch,) = minibatches(pixels, 3, np.random.default_rng(0))
    assert batch.dtype == np.float32
    assert sorted(batch.ravel().tolist()) == [0, np.float32(0.2), 1]
    for dtype in np.float32, np.float64:
        (batch,) = minibatches(pixels.astype(dtype), 3, np.random.default_rng(0))
        assert batch.dtype == dtype
        assert sorted(batch.ravel().tolist()) == [0, 51, 255]


def test_numpy_integers_will_do() -> None:
    batches = minibatches(numbered(5), np.int64(2), np.random.default_rng(0), start=np.uint8(1))
    assert [len(batch) for batch in indices(batches)] == [2, 1]


def test_epoch_rng() -> None:
    def draw(rng: np.random.Generator) -> int:
        return int(rng.integers(2**63))

    pairs = [(seed, epoch) for seed in range(20) for epoch in range(20)]
    draws = {pair: draw(epoch_rng(*pair)) for pair in pairs}
    assert draws == {pair: draw(epoch_rng(*pair)) for pair in reversed(pairs)}
    assert len(set(draws.values())) == len(pairs)
    # Neither the seed's own stream nor that of its children.
    own = [draw(np.random.default_rng(7))]
    own += [draw(np.random.default_rng(child)) for child in np.random.SeedSequence(7).spawn(20)]
    assert not set(own) & set(draws.values())
    assert draw(epoch_rng(7, 0)) == draw(epoch_rng(np.int64(7), np.int32(0)))


def test_epoch_order_is_pinned() -> None:
    """A checkpoint of today continues with the same data tomorrow."""
    assert epoch_rng(0, 0).permutation(10).tolist() == [0, 4, 1, 9, 7, 2, 6, 3, 5, 8]
    assert epoch_rng(1, 2).permutation(10).tolist() == [7, 9, 5, 1, 6, 4, 2, 8, 3, 0]


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    data = load_mnist()
    list(minibatches(data.test_images, 500, epoch_rng(0, 0)))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


# --- augmentation ---


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 32, 48, 3), np.uint8)


def views(images, *kinds, seed=0):
    before = images.copy()
    changed = augmented(images, kinds, np.random.default_rng(seed))
    assert np.array_equal(images, before)
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert not np.shares_memory(changed, images)
    return changed


def test_flipped_images_are_mirrored_or_as_they_were(pictures):
    mirrored = [np.array_equal(new, old[:, ::-1]) for old, new in zip(pictures, views(pictures, "flip"), strict=True)]
    same = [np.array_equal(new, old) for old, new in zip(pictures, views(pictures, "flip"), strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32


def test_shifted_images_are_moved_by_up_to_a_16th(pictures):
    seen = set()
    for old, new in zip(pictures, views(pictures, "shift"), strict=True):
        padded = np.pad(old, ((2, 2), (3, 3), (0, 0)), mode="edge")
        found = [(i, j) for i in range(5) for j in range(7) if np.array_equal(padded[i : i + 32, j : j + 48], new)]
        assert len(found) == 1
        seen |= {*found}
    assert {i for i, _ in seen} == set(range(5))
    assert {j for _, j in seen} == set(range(7))


def test_cropped_images_are_parts_that_are_enlarged():
    i, j = np.mgrid[:32, :48]
    ramp = np.stack((4 * i, 4 * j, 0 * i), axis=-1).astype(np.uint8)  # a pixel's value is where it was
    for new in views(ramp[None].repeat(30, axis=0), "crop").astype(float) / 4:
        rows, columns = new[:, 0, 0], new[0, :, 1]
        for where, size in ((rows, 32), (columns, 48)):
            steps = np.diff(where)[3:-3]
            assert 0.84 < steps.mean() < 1.01  # source pixels for one shown
            assert where[0] >= -0.01
            assert where[-1] <= size - 1
        assert np.diff(rows)[3:-3].mean() == pytest.approx(np.diff(columns)[3:-3].mean(), abs=0.03)


def test_augmentation_repeats_by_its_generator_and_knows_its_kinds(pictures):
    kinds = ("flip", "crop", "shift")
    assert np.array_equal(views(pictures, *kinds), views(pictures, *kinds))
    assert not np.array_equal(views(pictures, *kinds), views(pictures, *kinds, seed=1))
    assert np.array_equal(views(pictures), pictures)
    grey = pictures[..., :1]
    assert views(grey, *kinds).shape == grey.shape
    with pytest.raises(ValueError, match=r"^augmented: there is no 'turn', choose from flip, crop, shift$"):
        augmented(pictures, ["turn"], np.random.default_rng(0))


def test_minibatches_may_be_changed_before_they_become_float(pictures):
    seen = []

    def change(batch, index):
        seen.append((index, batch.dtype, len(batch)))
        return batch // 2

    rng = np.random.default_rng
    plain = list(minibatches(pictures, 16, rng(1)))
    changed = list(minibatches(pictures, 16, rng(1), change=change, start=1))
    assert seen == [(1, np.uint8, 16), (2, np.uint8, 8)]
    for a, b in zip(plain[1:], changed, strict=True):
        assert np.allclose(b, np.floor(a * 255 / 2) / 255, atol=1e-6)

"""Files that an accident has damaged, or that someone made on purpose, and limits for whoever reads them."""

import contextlib
import json
import random
import resource
import signal
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from scratchgen.safetensors_file import FORMAT, _digest

needs_limits = pytest.mark.skipif(
    not (hasattr(signal, "SIGALRM") and Path("/proc/self/statm").exists()), reason="needs Linux to set limits"
)


class Late(BaseException):
    """Nobody who reads a file catches this."""


@contextlib.contextmanager
def limits(memory: int = 1 << 30):
    """What takes more memory than that fails here with MemoryError, instead of the whole machine; so does, with
    Late, what takes longer than the caller's signal.alarm says."""

    def late(number, frame):
        raise Late("it hangs")

    before, most = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, most)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- any file: (rng, content) → content ---

SCRIPT = "<script>alert(1)</script>"
PICKLE = b"cos\nsystem\n(S'touch executed'\ntR."  # whoever unpickles it leaves a file


def bits_flipped(rng: random.Random, raw: bytes) -> bytes:
    flipped = bytearray(raw)
    for bit in rng.sample(range(8 * len(raw)), rng.randint(1, 3)):
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def cut(rng, raw):
    return raw[: rng.randrange(len(raw))]


def inserted(rng, raw):
    at = rng.randrange(len(raw) + 1)
    what = rng.choice(
        (b"\0", b"\x1b[2J\x07", b"9" * 400, b'"', b"\xff\xfe", rng.randbytes(rng.randint(1, 60)), PICKLE)
    )
    return raw[:at] + what + raw[at:]


def removed(rng, raw):
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.randint(1, max(1, len(raw) // 4)) :]


def repeated(rng, raw):
    start, end = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:end] + raw[start:end] * rng.randint(1, 3) + raw[end:]


def blank(rng, raw):
    """A part of it never came to the disk."""
    start, end = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:start] + bytes(end - start) + raw[end:]


def replaced(rng, raw):
    return rng.choice(
        (b"", b"\n", PICKLE, rng.randbytes(200), b"\x1f\x8b\x08" + raw[:50], b"<html><script>alert(1)</script>")
    )


def more_behind(rng, raw):
    return raw + rng.choice((b"\0", raw, PICKLE, rng.randbytes(99)))


ACCIDENTS = (bits_flipped, bits_flipped, cut, inserted, removed, repeated, blank, replaced, more_behind)


# --- JSON ---

MARKS = {"@NaN": "NaN", "@-Infinity": "-Infinity", "@1e999": "1e999", "@digits": "9" * 400, "@many": "9" * 5000}
NUMBERS = (0, -1, 1, 2, 0.5, 1e300, -1e-300, 10**12, 2**31, 2**63)
TEXTS = ("", "x", SCRIPT, "\x1b[31m\n\r\0", "ε\u202e", "/", "..", "\ud800", *MARKS)
ODD = (None, True, False, *NUMBERS, *TEXTS, [], [1], [[1, 2], [3]], [None], {}, {"a": 1})


def written(content) -> bytes:
    """As JSON, with what JSON has not where a mark stands for it."""
    text = json.dumps(content)
    for mark, what in MARKS.items():
        text = text.replace(f'"{mark}"', what)
    return text.encode()


def changed(rng: random.Random, content):
    """JSON content with one part of it changed: gone, renamed, of another type or size, or far too deep."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(list(content))
        how = rng.random()
        if how < 0.15:
            return {k: v for k, v in content.items() if k != key}
        if how < 0.25:
            return {(k + "x" if k == key else k): v for k, v in content.items()}
        if how < 0.3:
            return {**content, rng.choice(("more", SCRIPT, "", "\x1b[31m")): rng.choice(ODD)}
        return {**content, key: changed(rng, content[key])}
    if isinstance(content, list) and content and rng.random() < 0.7:
        at = rng.randrange(len(content))
        return [*content[:at], *([changed(rng, content[at])] if rng.random() < 0.7 else []), *content[at + 1 :]]
    if rng.random() < 0.03:
        for _ in range(rng.choice((20, 900))):
            content = [content]
        return content
    if isinstance(content, int | float) and rng.random() < 0.4:
        return rng.choice((-content, content + 1, content * 1000, content / 7, str(content)))
    return rng.choice(ODD)


def json_changed(rng, raw):
    return written(changed(rng, json.loads(raw)))


def key_twice(rng, raw):
    content = json.loads(raw)
    if not isinstance(content, dict) or not content:
        return raw
    key = rng.choice(list(content))
    return written(content)[:-1] + b", " + written({key: rng.choice((content[key], *ODD))})[1:]


def too_deep(rng, raw):
    return rng.choice((b"[", b'{"a":')) * rng.choice((100, 100_000))


def lines_changed(rng, raw):
    """One line of a file of JSON lines changed, or their order and number."""
    lines = raw.splitlines()
    at = rng.randrange(len(lines))
    how = rng.random()
    if how < 0.6:
        lines[at] = rng.choice((json_changed, key_twice, too_deep, *ACCIDENTS))(rng, lines[at])
    elif how < 0.7:
        del lines[at:]
    elif how < 0.8:
        del lines[at]
    elif how < 0.9:
        rng.shuffle(lines)
    else:
        lines.insert(at, rng.choice(lines))
    return b"\n".join(lines) + b"\n" * (rng.random() < 0.9)


# --- safetensors ---


def header_of(raw: bytes) -> tuple[dict, bytes]:
    """The header of a safetensors file as JSON has it, and the rest."""
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def with_header(header, rest: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + rest


def signed(arrays, says: str, **marks) -> bytes:
    """A file whose digest is right, whatever it says."""
    marks = {"format": FORMAT, "about": says, "sha256": _digest(arrays, says), **marks}
    return save(arrays, metadata={k: v for k, v in marks.items() if v is not None})


def forgeries(raw: bytes, arrays: dict, about: dict):
    """(what was done, bytes) of files that someone made on purpose."""
    header, rest = header_of(raw)
    names = [name for name in header if name != "__metadata__"]
    first, last = names[0], names[-1]
    for length in (0, 1, 7, 99_999_999, 2**31, 2**40, 2**62, 2**63, 2**64 - 1, len(raw), len(raw) - 8, len(raw) - 7):
        yield f"header length {length}", with_header(json.dumps(header).encode(), rest, length)

    def entry(name, **changes):
        return {**header, name: {**header[name], **changes}}

    for name in (first, last):
        for shape in ([2**31], [2**40, 2**40], [2**62, 4], [0], [-1], [1.5], ["4"], None, [], [0, 2**62], [1] * 70):
            yield f"{name} of shape {shape}", with_header(entry(name, shape=shape), rest)
        for offsets in (
            [0, 2**63],
            [2**62, 2**62 + 4],
            [4, 0],
            [-4, 0],
            [0, 0],
            [0],
            "0",
            None,
            [len(rest), len(rest)],
        ):
            yield f"{name} at {offsets}", with_header(entry(name, data_offsets=offsets), rest)
        for dtype in ("F64", "F16", "BF16", "I32", "U8", "BOOL", "F8_E4M3", "F4", "C64", "O", "object", "", None, 7):
            yield f"{name} of {dtype}", with_header(entry(name, dtype=dtype), rest)
        yield (
            f"{name} twice",
            with_header(
                json.dumps(header)[:-1].encode() + f', "{name}": {json.dumps(header[names[1]])}}}'.encode(), rest
            ),
        )
        yield f"{name} missing", with_header({k: v for k, v in header.items() if k != name}, rest)
        yield f"{name} renamed", with_header({k + "x" * (k == name): v for k, v in header.items()}, rest)
    yield "overlap", with_header(entry(first, data_offsets=header[last]["data_offsets"]), rest)
    for text in (
        b"\xff\xfe" * 20,
        b"{" * 9000,
        b"[" * 9000,
        b'{"a":' * 9000 + b"}" * 9000,
        b"null",
        b"[]",
        b"{}",
        b"",
    ):
        yield f"header {text[:4]}", with_header(text, rest)
    yield "not UTF-8", with_header(json.dumps(header).encode().replace(first[:3].encode(), b"\xc3\x28\xff"), rest)
    yield "more behind", raw + b"\0"
    yield "pickle", b"cos\nsystem\n(S'touch executed'\ntR."
    yield "pickle inside", with_header({"__metadata__": {"format": FORMAT, "about": "cos\nsystem\n"}}, b"")
    for marks in ({"format": "scratchgen 0"}, {"format": "scratchgen 2"}, {"format": None}, {"sha256": None}):
        yield f"{marks}", signed(arrays, json.dumps(about), **marks)
    for marks in ({"about": None}, {"sha256": "0" * 64}, {"about": "{}"}, {"format": ""}):
        yield f"{marks}", signed(arrays, json.dumps(about), **marks)
    for text in ('{"a": NaN}', '{"a": -Infinity}', "[]", "7", "null", '"x"', "", "{", "[" * 99_999, '{"a":' * 99_999):
        yield f"says {text[:9]}", signed(arrays, text)
    yield "says digits", signed(arrays, '{"epoch": ' + "9" * 5000 + "}")
    some = {k: v for k, v in arrays.items() if k != first}
    for label, changed in (
        ("lacks one", some),
        ("one more", {**arrays, "model/more": np.zeros(2, np.float32)}),
        ("of no part", {**arrays, "more": np.zeros(2, np.float32)}),
        ("of whole numbers", {k: v.astype(np.int32) for k, v in arrays.items()}),
        ("of half numbers", {k: v.astype(np.float16) for k, v in arrays.items()}),
        ("flat", {k: v.reshape(-1) for k, v in arrays.items()}),
        ("empty", {}),
    ):
        yield label, signed(changed, json.dumps(about))


def damages(raw: bytes, count: int, seed: int):
    """(what was done, bytes) of files that an accident made: truncated, or with 1 to 3 bits flipped."""
    rng = random.Random(seed)
    header_bits = 8 * (8 + struct.unpack("<Q", raw[:8])[0])
    for i in range(count):
        if i % 4 == 0:
            length = rng.randrange(len(raw))
            yield f"cut to {length}", raw[:length]
            continue
        bits = header_bits if i % 2 else 8 * len(raw)  # half of them where the names and the digest are
        flipped, chosen = bytearray(raw), rng.sample(range(bits), rng.randint(1, 3))
        for bit in chosen:
            flipped[bit // 8] ^= 1 << bit % 8
        yield f"bits {chosen} flipped", bytes(flipped)


def headers_changed(rng, raw):
    """The header of a safetensors file says something else."""
    header, rest = header_of(raw)
    return with_header(changed(rng, header) if rng.random() < 0.8 else written(changed(rng, header)), rest)


def resigned(rng, raw):
    """Something else in it, under a digest that is right."""
    header, _ = header_of(raw)
    arrays = load(raw)
    about = json.loads(header["__metadata__"]["about"])
    if rng.random() < 0.6:
        return signed(arrays, written(changed(rng, about)).decode())
    name = rng.choice(list(arrays))
    how = rng.randrange(6)
    a = arrays.pop(name)
    if how == 1:
        arrays[name + "x"] = a
    elif how == 2:
        arrays[name] = np.resize(a, [n + 1 for n in a.shape])
    elif how == 3:
        arrays[name] = a.astype(rng.choice((np.int32, np.float16, np.uint8, bool)))
    elif how == 4:
        arrays[name] = np.full_like(a, rng.choice((np.nan, np.inf, 1e38)) if a.dtype.kind == "f" else -1)
    elif how == 5:
        arrays[name] = a.reshape(-1)
    return signed(arrays, json.dumps(about))

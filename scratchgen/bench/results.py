"""The file that says what was found on which GPU, and with which kernels, so that a change of these shows.

    {"tests": {…}, "bench": {"float32": {…}, "tf32": {…}}, "profile": {…}}

Each entry names its device, date and versions, and the hash of the kernels that it is about.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratchgen import backend
from scratchgen.files import atomic_write
from scratchgen.version import __version__

KERNELS = Path(backend.__file__).parent / "cupy_ops"
ROUNDS = ("rounds", "round_ms")  # which a file to be kept does without


def source_hash(folder: Path = KERNELS) -> str:
    """SHA-256 over the names and texts of all that runs on a GPU alone, Python and CUDA, whatever their line ends."""
    total = hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), *(folder / "sources").iterdir(), folder.parent / "cupy_feed.py"]):
        if path.is_file():
            total.update(path.relative_to(folder.parent).as_posix().encode() + b"\0")
            total.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return total.hexdigest()


def read(path: Path) -> dict[str, Any]:
    """What the file holds, {} where there is none. ValueError where it is no such file."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a file of results: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise ValueError(f"{path} is not a file of results: needs objects by name")
    return found


def record(path: Path, kind: str, found: dict[str, Any], *, precision: str | None = None) -> None:
    """Put what was found on this GPU into the file, instead of what was there of its kind (and precision)."""
    entry = {
        **backend.load_kernels("cupy").about(),
        "scratchgen": __version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernels_sha256": source_hash(),
        **found,
    }
    results = read(path)
    results[kind] = entry if precision is None else {**results.get(kind, {}), precision: entry}
    with atomic_write(path) as file:
        file.write(json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n")


def summary(report: Any) -> Any:
    """A report of the benchmark without the figures of single rounds."""
    if isinstance(report, Mapping):
        return {k: summary(value) for k, value in report.items() if k not in ROUNDS or not isinstance(value, list)}
    return [summary(part) for part in report] if isinstance(report, list) else report


def verdict(path: Path) -> str:
    """One line: on which GPU the kernels were verified, and when, or a warning that they were not as they are."""
    try:
        tests = read(path).get("tests")
        if tests is None:
            return "warning: the GPU kernels have never been run on a GPU"
        where = f"{tests['device']}, {tests['date']}"
        if tests["kernels_sha256"] != source_hash():
            return f"warning: the GPU kernels have changed since they were verified on {where}"
    except (OSError, ValueError, KeyError) as error:
        return f"warning: {path} does not say on which GPU the kernels were verified: {error}"
    return f"GPU: verified on {where}"

"""Runs by their names: where RUN is looked for, and which there are."""

import os
from pathlib import Path

from scratchgen.files import printable
from scratchgen.training import RunFolder

RUNS = "runs"  # the folder in which `train` makes runs
LISTED = 5  # in a message


def find_run(given: Path) -> Path:
    """The folder of a run: the path as it is given, or where nothing has that name here, the run of it in ./runs."""
    there = RUNS / given
    plain = len(given.parts) == 1 and given.parts[0] not in (os.curdir, os.pardir)
    return there if plain and not os.path.lexists(given) and _is_run(there) else given


def newest_runs() -> list[Path]:
    """The runs in ./runs, the one that was trained last first."""
    try:
        found = [(_touched(folder), folder) for folder in Path(RUNS).iterdir() if _is_run(folder)]
    except OSError:
        return []
    return [folder for _, folder in sorted(found, key=lambda pair: (-pair[0], pair[1].name))]


def known_runs() -> str:
    """The end of a message that asks for a run: those that there are, or nothing."""
    runs = newest_runs()
    if not runs:
        return ""
    names = ", ".join(printable(folder.name) for folder in runs[:LISTED])
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    return f"; in {RUNS}/ there {'is' if len(runs) == 1 else 'are, newest first,'} {names}{more}"


def open_folder(given: Path) -> RunFolder:
    """The run at `find_run(given)`. FileNotFoundError, which says what there is, when it is none."""
    found = find_run(given)
    try:
        return RunFolder.open(found)
    except FileNotFoundError as error:
        same = RUNS / given
        if len(given.parts) == 1 and _is_run(same):  # and something else here has that name
            raise FileNotFoundError(f"{error}; did you mean {same}?") from None
        raise FileNotFoundError(f"{error}{known_runs()}") from None


def name_of(folder: RunFolder) -> str:
    """The run's own name, for files that are made of it."""
    return folder.path.resolve().name or "run"


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _touched(folder: Path) -> float:
    """When something was last trained in it."""
    return max(os.stat(file).st_mtime for file in (folder / "config.json", folder / "metrics.jsonl") if file.exists())

"""What a path means, the same in every option of the command line and every function of the library."""

import os
from pathlib import Path
from types import ModuleType


def as_path(value: str | os.PathLike[str]) -> Path:
    """The path with `~` and `~name` as a shell has them, home folders; a relative one is of the working folder.

    TypeError for what is not a path, bytes among it; ValueError for an empty text, a zero byte, and the home folder
    of a user that this machine does not know. What is really called ~ is "./~".
    """
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"{value!r} is not a path, needs text or a pathlib.Path")
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a path: it is empty or has a zero byte")
    if text.startswith("~"):
        expanded = os.path.expanduser(text)
        if expanded == text:
            user = text[1:].partition("/")[0]
            why = f"there is no user {user}" if user else "the home folder is unknown, HOME is not set"
            raise ValueError(f"{text} is not a path: {why}; a file of that name here is ./{text}")
        return Path(expanded)
    path = Path(text)  # which takes ./~ for ~
    return path.absolute() if path.parts and path.parts[0].startswith("~") else path


def cache_folder(name: str) -> Path:
    """`name` in the folder SCRATCHGEN_CACHE if that variable is set, else in the user's cache directory."""
    return _given(name) or Path(_platformdirs().user_cache_dir("scratchgen")) / name


def user_data_folder(name: str) -> Path:
    """The same for what is not made again when it is lost: in SCRATCHGEN_CACHE, or in the user's data directory."""
    return _given(name) or Path(_platformdirs().user_data_dir("scratchgen")) / name


def _given(name: str) -> Path | None:
    given = os.environ.get("SCRATCHGEN_CACHE")
    return as_path(given).resolve() / name if given else None


def _platformdirs() -> ModuleType:
    import platformdirs  # only where it is needed: it is slow to load

    return platformdirs

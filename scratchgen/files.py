"""Files that outlive a crash: whole or not at all, on the disk when they are said to be, by one writer at a time."""

import errno
import json
import os
import platform
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NoReturn

from scratchgen.paths import as_path

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # not on Windows
msvcrt: Any = import_module("msvcrt") if find_spec("msvcrt") else None  # on Windows alone

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)  # what file systems say to it
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM)
LARGEST, DEEPEST = 1 << 24, 32  # bytes of a JSON file that is read, and lists in lists of it
BEYOND = 1 << 30  # on Windows a locked byte cannot be read: one that no lock file has


class InUse(BlockingIOError):
    """Another process holds what is asked for; the message says who."""


# --- writing ---


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file to write in, which takes the name `path` once it is whole; then file and name are on the disk.

    A crash at any moment leaves the old file or the new one, never half of one.
    """
    path = as_path(path)
    # Not the whole name, which may be as long as the system has them.
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.tmp")
    try:
        with naming(path, temporary):
            with open(temporary, "xb") as file:
                _lock(file.fileno())  # its writer lives: `clear` leaves it alone
                yield file
                file.flush()
                _flush(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, *others: Path) -> Iterator[None]:
    """An error of the system's that names no file, as writing raises it, or one of the others, names this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or Path(error.filename) in others):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def clear(folder: Path) -> None:
    """Remove what `atomic_write` left in a folder when it was killed."""
    for leftover in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # it has got its name since
            with open(leftover, "rb+") as file:
                abandoned = _lock(file.fileno()) is not False
            if abandoned:
                leftover.unlink()


def sync(path: Path) -> None:
    """Have a file that was appended to on the disk, and its name; a file that is not there has nothing to lose."""
    with suppress(FileNotFoundError):
        with open(path, "rb+") as file:
            _flush(file.fileno())
        _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """A folder, and those above it, with their names on the disk."""
    if not path.is_dir():
        if path.parent != path:
            make_folder(path.parent)
        try:
            path.mkdir()
        except FileExistsError:  # another process was faster, or there is something else of that name
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can open a folder, and its file system can do that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _flush(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    """From the system's memory to the disk, and on macOS from the disk's own memory too, where fsync stops before."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        with suppress(OSError):  # a file system that lacks it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


# --- one at a time ---


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path`; it is gone afterwards. InUse while another holds it, even in this process.

    The operating system's own lock: it ends with the process, however that ends, so a file that a crash has left
    stops nobody. False where the file system has no locks, and nothing is held.
    """
    how = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link in somebody's run may lead anywhere
    while True:
        descriptor = os.open(path, how, 0o666)
        try:
            held = _lock(descriptor)
            if held is False:
                raise InUse(_holder(descriptor))
            if held is None or _names(path, descriptor):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has removed it since it was opened
    with suppress(OSError):  # a disk that is full: the lock holds, and is nobody's by name
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.write(descriptor, f"process {os.getpid()} on {platform.node()} since {since}\n".encode())
    try:
        yield held is True
    finally:
        try:
            if os.name != "nt":
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        if os.name == "nt":  # where no file that is open can be removed, and the next one may have it open already
            with suppress(OSError):
                path.unlink()


def _lock(descriptor: int) -> bool | None:
    """Take the lock of an open file: whether it is ours now, or None where there are no locks."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, BEYOND, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, place, os.SEEK_SET)
        else:
            return None
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _names(path: Path, descriptor: int) -> bool:
    """Whether the path is still that of the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    """Who holds a lock, by what is written in its file."""
    text = os.read(descriptor, 200).decode(errors="replace").strip()
    return printable(text) if text.startswith("process ") else "another process"


# --- reading what may have been damaged ---


def read_json(path: Path) -> Any:
    """What a JSON file says. FileNotFoundError; ValueError naming the file for all that `from_json` refuses."""
    with open(path, "rb") as file:
        text = file.read(LARGEST + 1)
    try:
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def from_json(text: str | bytes) -> Any:
    """What a JSON text says. ValueError for all that is not strict JSON, a key that stands twice, too much depth."""
    try:
        content = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
        level = [content]
        for _ in range(DEEPEST):
            level = [v for part in level for v in _parts(part)]
        if level:
            raise RecursionError
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"it has {constant}, which is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has {shown(key)} twice")
        found[key] = value
    return found


def shown(value: object, most: int = 60) -> str:
    """A value that somebody else wrote, for a message: on one line, without control characters, not too long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, lists in lists in lists …
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    """Text that somebody else wrote, with its control characters written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

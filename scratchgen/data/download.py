"""Downloads that end with the published file or with none: mirrors in turn, hashes checked, the name given last."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scratchgen.paths import as_path, cache_folder

if TYPE_CHECKING:  # slow to import, as pooch is, and needed for downloads only
    from scratchgen.progress import tqdm

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two packets
ROUNDS = 2
PAUSE = 1.0  # seconds between two rounds


class DownloadError(OSError):
    """No mirror gave the file, or it could not be stored; the message says why and what else to do."""


def data_folder(folder: str | os.PathLike[str] | None, name: str) -> Path:
    """`folder`; for None, `name` in SCRATCHGEN_CACHE if that variable is set, else in the user's cache directory."""
    return (cache_folder(name) if folder is None else as_path(folder)).resolve()


def download_files(
    hashes: Mapping[str, str], folder: Path, mirrors: Sequence[str], *, advice: str, progress: bool
) -> Path:
    """Have the files named in `hashes` (name to SHA-256) in `folder`; those already there and right stay.

    A file takes its name only once it is whole and its hash is right; a damaged one is fetched anew. Each file
    is tried on every mirror in turn, twice. `advice` ends the message of a download that failed.

    Raises DownloadError, which lists every mirror with its reason, TypeError for mirrors that are no sequence.
    """
    import pooch

    if isinstance(mirrors, str) or not mirrors:
        raise TypeError(f"mirrors must be a sequence of one or more addresses, not {mirrors!r}.")
    with _quiet(pooch.get_logger()):
        for name, sha256 in hashes.items():
            _download(name, sha256, folder, mirrors, advice, progress)
    return folder


def _download(name: str, sha256: str, folder: Path, mirrors: Sequence[str], advice: str, progress: bool) -> None:
    """Have one file in `folder`, from the first mirror that gives it."""
    import pooch
    from requests import RequestException

    def downloader(url: str, temporary: str, _: object) -> None:
        bar = _Bar(name) if progress else None
        try:
            pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)(url, temporary, None)
        finally:
            if bar is not None:
                bar.close()

    reasons: dict[str, str] = {}
    for attempt in range(ROUNDS):
        if attempt:
            time.sleep(PAUSE)
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}"
            try:
                # Downloads under a temporary name, checks the hash, then moves; removes it if anything fails.
                pooch.retrieve(url, known_hash=sha256, fname=name, path=folder, downloader=downloader)
                return
            except (RequestException, ValueError) as error:
                reasons[url] = _reason(error)
            except OSError as error:
                raise DownloadError(
                    f"{folder / name}: cannot be stored ({error}); give a folder or set SCRATCHGEN_CACHE."
                ) from error
    listed = "".join(f"\n  {url}: {reason}." for url, reason in reasons.items())
    raise DownloadError(f"{name}: it could not be downloaded from any mirror:{listed}\n{advice}")


def _reason(error: Exception) -> str:
    """Why a mirror did not give the file, in a few words; those of the libraries below are for programmers."""
    from requests import exceptions as of

    answer = getattr(error, "response", None)
    match error:
        case of.HTTPError() if answer is not None:
            return f"answered {answer.status_code} {answer.reason or ''}".rstrip()
        case of.ConnectTimeout():
            return f"cannot be reached: no answer in {TIMEOUT[0]:g} seconds"
        case of.ReadTimeout():
            return f"stopped sending: nothing for {TIMEOUT[1]:g} seconds"
        case of.ProxyError():
            return "cannot be reached through the proxy that the environment names"
        case of.SSLError():
            return "has a certificate that is not trusted here"
        case of.ConnectionError():
            return f"cannot be reached: {_cause(error)}"
        case of.MissingSchema() | of.InvalidSchema() | of.InvalidURL():
            return "is not a web address"
        case of.ChunkedEncodingError() | of.ContentDecodingError():
            return "broke off in the middle of the file"
        case of.RequestException():
            return f"failed ({type(error).__name__})"
    return "gave another file than the published one (its hash differs)"


def _cause(error: BaseException | None) -> str:
    """What the system says at the bottom of a failed connection."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, socket.gaierror):
            return "no network, or no such host"
        if isinstance(error, OSError) and isinstance(error.strerror, str):
            return error.strerror.lower()
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        error = inner or next((a for a in error.args if isinstance(a, BaseException)), None)
    return "the connection failed"


class _Bar:
    """A progress bar that appears with the first bytes: a mirror that gives none leaves nothing on the terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: tqdm | None = None
        self.total = 0  # pooch sets it to the size that the server states

    def update(self, count: int) -> None:
        """That many bytes more."""
        if self.bar is None:
            from scratchgen.progress import tqdm

            self.bar = tqdm(desc=self.name, total=self.total or None, unit="B", unit_scale=True)
        self.bar.update(count)

    def reset(self) -> None:
        """Back to none, before pooch puts it to the whole."""
        if self.bar is not None:
            self.bar.reset()

    def close(self) -> None:
        """Leave it as it is."""
        if self.bar is not None:
            self.bar.close()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from announcing each file; warnings still pass."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)

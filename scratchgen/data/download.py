"""Downloads that end with the published file or with none: mirrors in turn, hashes checked, the name given last."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two packets
ROUNDS = 2
PAUSE = 1.0  # seconds between two rounds


class DownloadError(OSError):
    """No mirror gave the file, or it could not be stored; the message says why and what else to do."""


def data_folder(folder: str | os.PathLike[str] | None, name: str) -> Path:
    """`folder`; for None, `name` in SCRATCHGEN_CACHE if that variable is set, else in the user's cache directory."""
    if folder is None:
        import pooch  # slow to import, and needed for downloads only

        folder = Path(os.environ.get("SCRATCHGEN_CACHE") or pooch.os_cache("scratchgen")) / name
    return Path(folder).expanduser().resolve()


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

    from scratchgen.progress import tqdm

    def downloader(url: str, temporary: str, _: object) -> None:
        if not progress:
            pooch.HTTPDownloader(timeout=TIMEOUT)(url, temporary, None)
            return
        # pooch replaces the total by the size that the server states; without one, tqdm has no truth value.
        with tqdm(desc=name, total=1, unit="B", unit_scale=True) as bar:
            pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)(url, temporary, None)

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
            except (RequestException, ValueError) as error:  # ValueError: the hash is another
                reasons[url] = str(error)
            except OSError as error:
                raise DownloadError(
                    f"{folder / name}: cannot be stored ({error}); give a folder or set SCRATCHGEN_CACHE."
                ) from error
    listed = "".join(f"\n  {url}: {reason}" for url, reason in reasons.items())
    raise DownloadError(f"{name}: no mirror gave it:{listed}\n{advice}")


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from announcing each file; warnings still pass."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)

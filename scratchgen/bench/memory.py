"""How much memory this process holds and has held, from what the system says of it; None where it says nothing."""

import sys
from contextlib import suppress
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20


def resident() -> float | None:
    """Memory held now, in MiB; where only the peak is known, that."""
    return _status("VmRSS") or _peak_usage()


def peak() -> float | None:
    """The most memory held so far, in MiB: of this program alone, or since `forget_peak`."""
    return _status("VmHWM") or _peak_usage()


def forget_peak() -> None:
    """Let the peak start from what is held now, where the system can."""
    with suppress(OSError):  # the peak then counts from the start of the program, as `peak` says
        CLEAR.write_text("5")


def _status(field: str) -> float | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(kilobytes[0]) * 1024 / MIB if kilobytes else None


def _peak_usage() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage * (1 if sys.platform == "darwin" else 1024) / MIB  # macOS counts bytes, others kilobytes

"""The machine in words, and how much memory this process holds and has held, from what the system says of it.

PyTorch's process asks, too: nothing of the library is imported before it is needed.
"""

import platform
import sys
from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def machine() -> dict[str, str | int]:
    """What the figures depend on beside the program."""
    from scratchgen.backend.threads import cores

    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor()) or "unknown"


# --- memory, in MiB; None where the system says nothing ---

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20


def resident() -> float | None:
    """Memory held now; where only the peak is known, that."""
    return _status("VmRSS") or _peak_usage()


def peak() -> float | None:
    """The most memory held so far: of this program alone, or since `forget_peak`."""
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

"""Somebody's own file in a process of its own, which may end as it likes.

The file's code may call sys.exit or os._exit, crash the interpreter, run for ever or print without end. The process
that it runs in reports through a pipe of its own, a line of JSON for each thing found, each with a word that only the
two processes know; what the code prints goes elsewhere. Nothing but a report that has come to its end is taken for
one.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scratchgen.gradcheck import guard
from scratchgen.gradcheck.confine import confine, spare

LINES, CHARACTERS = 40, 8_000  # so much of what the code prints is shown
REPORT = 1 << 24  # bytes of a report: more is none
LAST_WORDS = 1.0  # seconds for what is still in the pipes when the process has ended
CLOSED = 97  # exit status where the pipe of the report is closed
START = "import sys; sys.path[:] = {path!r}; from scratchgen.gradcheck import apart; apart.child()"
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "SCRATCHGEN_THREADS")


@dataclass(frozen=True)
class Limits:
    """What a process may take altogether: seconds; bytes of memory beside those of the library; bytes printed."""

    seconds: float
    memory: int
    printed: int = 10_000_000


@dataclass
class Ended:
    """What a process has told, what the beginning of its output was, and how it ended: `why` is "" when it came to
    its end, and `kind` is a word for it: "exit", "crash", "killed", "time", "output", "breach" or "stopped"."""

    messages: list[dict]
    kind: str
    why: str
    printed: str
    seconds: float


@dataclass
class Outcome:
    """What the check of a file came to: texts and verdicts, by what the inputs were; for each reason why a check
    could not be made, the inputs; and why there is no more, which is "" when it has come to its end."""

    reports: dict[str, dict] = field(default_factory=dict)
    cannot: dict[str, list[str]] = field(default_factory=dict)
    why: str = ""


def check_apart(request: dict, timeout: float, *, objective: bool = False) -> Outcome:
    """The outcome of `student.check_file(**request)`, or of `check_objective`, run in a process of its own, in which
    no call of the file's code may take longer than `timeout` seconds. Ctrl-C ends both."""
    file = request["spec"].partition(".py:")[0] + ".py"
    job = "check_objective" if objective else "check_file"
    ended = run(f"scratchgen.gradcheck.student:{job}", request, file, timeout=timeout, show=_show)
    outcome = Outcome(why=ended.why)
    for message in ended.messages:
        match message:
            case {"report": which}:
                outcome.reports[which] = message
            case {"cannot": which, "why": why}:
                outcome.cannot.setdefault(why, []).append(which)
    return outcome


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def run(
    job: str,
    request: dict,
    file: str,
    *,
    timeout: float | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
    show: Callable[[str], object] = lambda text: None,
    stop: threading.Event | None = None,
) -> Ended:
    """Call the function `job`, "module:name", in a process of its own, with what is in the request, and emit=, which
    sends its keyword arguments here as a message; `file` is whose code runs there.

    No call of the file's code may take longer than `timeout` seconds. With `limits` the process has those, works in
    `folder`, and may neither write elsewhere nor start processes, see `confine`. `show` gets the beginning of what
    the code prints, as it comes. Ctrl-C, and `stop`, end the process and all that it has started.
    """
    token = secrets.token_hex(16)
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-c", START.format(path=_own_path() if limits else sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=_environment(folder) if limits else {**os.environ, **TEXT},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends that one and all it has started
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    report, printed = _Read(), _Read(show)
    readers = [
        threading.Thread(target=report.all_of, args=(child.stdout,), daemon=True),
        threading.Thread(target=printed.all_of, args=(child.stderr,), daemon=True),
    ]
    try:
        for reader in readers:
            reader.start()
        asked = {"job": job, "request": request, "file": file, "timeout": timeout, "token": token}
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(json.dumps({**asked, "limits": asdict(limits) if limits else None}).encode())
        kind = _watch(child, start, limits, (report, printed), stop)
        for reader in readers if child.returncode is not None else ():
            reader.join(LAST_WORDS)
    finally:
        if child.returncode is None or limits or any(reader.is_alive() for reader in readers):
            _end(child)  # or what it has started, which may hold the pipes
        for reader, pipe in zip(readers, (child.stdout, child.stderr), strict=True):
            reader.join(LAST_WORDS)
            if not reader.is_alive():  # a process that has left the group may hold the pipe for good
                pipe.close()
    ended = _ended(bytes(report.kept), token, kind, child.returncode, limits.seconds if limits else timeout, file)
    ended.seconds, ended.printed = time.monotonic() - start, printed.shown
    return ended


def _own_path() -> list[str]:
    """Where modules are found, but for the folder worked in, in which submissions may lie; the library stays."""
    here, home = os.getcwd(), str(Path(guard.PACKAGE).parent)
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    return [entry for entry in path if entry != here or entry == home] + ([home] if home not in path else [])


TEXT = {"PYTHONIOENCODING": "utf-8:backslashreplace", "PYTHONUNBUFFERED": "1"}


def _environment(folder: Path | None) -> dict[str, str]:
    """That of a process with limits: one thread, and no other home than its folder."""
    places = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "PWD", "SCRATCHGEN_CACHE"), str(folder))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_") and name != "OLDPWD"}
    return {**kept, **TEXT, **dict.fromkeys(ONE_THREAD, "1"), **places, "SCRATCHGEN_FAST": "0"}


def _watch(
    child: subprocess.Popen, start: float, limits: Limits | None, read: tuple, stop: threading.Event | None
) -> str:
    """Wait for the end of a process, or of what it may take; in which case, the word for it."""
    report, printed = read
    while True:
        try:
            child.wait(None if limits is None else 0.05)
            return ""
        except subprocess.TimeoutExpired:
            assert limits is not None
            if stop is not None and stop.is_set():
                return "stopped"
            if printed.bytes > limits.printed or report.bytes > REPORT:
                return "output"
            if time.monotonic() - start > limits.seconds:
                if os.name == "posix":
                    child.send_signal(signal.SIGABRT)  # faulthandler says where it is
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(LAST_WORDS)
                return "time"


def _end(child: subprocess.Popen) -> None:
    """End a process, and those that it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # none is left, or on macOS a zombie
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


class _Read:
    """What comes out of a pipe: all up to the length of a report is kept, or the beginning shown; all is counted."""

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        self.show, self.kept, self.shown, self.bytes, self.lines = show, bytearray(), "", 0, 0

    def all_of(self, pipe: Any) -> None:
        while part := pipe.read1(65536):
            self.bytes += len(part)
            if self.show is not None:
                self._shown(part, self.show)
            elif self.bytes <= REPORT:
                self.kept += part

    def _shown(self, part: bytes, show: Callable[[str], object]) -> None:
        if self.lines < LINES and len(self.shown) < CHARACTERS:
            text = part[: CHARACTERS - len(self.shown)].decode("utf-8", "replace")
            first = "".join(text.splitlines(keepends=True)[: LINES - self.lines])
            if self.lines + part.count(b"\n") >= LINES or len(self.shown + first) >= CHARACTERS:
                first += "\n… what the file prints further is not shown\n"
                self.lines = LINES
            self.shown += first
            show(first)
        self.lines += part.count(b"\n")


def _ended(report: bytes, token: str, kind: str, status: int, most: float | None, file: str) -> Ended:
    """What the lines of a report say, and how it ended: `kind` where that is known, else by the exit status."""
    messages: list[dict] = []
    phase, last_words, breach = "the start", "", ""
    for line in report.splitlines(keepends=True):
        try:
            message = json.loads(line)
            known = message.pop("token", None) == token
        except (ValueError, AttributeError, RecursionError):
            known = False
        if not known:  # faulthandler's lines
            last_words += line.decode("utf-8", "replace") if len(last_words) < REPORT >> 8 else ""
            continue
        match message:
            case {"finished": True}:
                return Ended(messages, "", "", "", 0.0)
            case {"phase": str(phase)}:
                pass
            case {"breach": str(breach)}:
                kind = "breach"
            case _:
                messages.append(message)
    kind, why = (kind, breach) if breach else _why(kind, phase, last_words, status, most, file)
    return Ended(messages, kind, why, "", 0.0)


def _why(kind: str, phase: str, last_words: str, status: int, most: float | None, file: str) -> tuple[str, str]:
    """How the process ended, as a word and as a sentence that says where."""
    frames = re.findall(r'File "(.*)", line (\d+)', last_words)
    file = os.path.realpath(file)
    at = next((f for f in frames if os.path.realpath(f[0]) == file), frames[0] if frames else None)
    where = f" ({at[0]}, line {at[1]})" if at else ""
    if kind == "stopped":
        return kind, "the check was stopped"
    if kind == "output":
        return kind, f"{phase} prints without end: take that out"
    if kind == "time" or last_words.startswith("Timeout"):
        mend = "an endless loop?"
        if phase == "loading":
            mend = "what the file does beside defining its layers belongs under `if __name__ == '__main__':`"
        took = f"it took longer than {most:g} s altogether, the last of it in {phase}"
        took = took if kind == "time" else f"{phase} took longer than {most:g} s"
        if phase == "the start":
            return (
                "time",
                f"{took.partition(',')[0]} before any code of the file has run: --timeout gives it more time",
            )
        return "time", f"{took}{where}: {mend} --timeout gives it more time"
    if status == CLOSED:
        return "exit", f"{phase} closed files that it has not opened, the check's own among them: take that out"
    if status == -signal.SIGTERM or (os.name == "posix" and status == -signal.SIGKILL):
        return "killed", f"the process was killed during {phase}{where}, as it is where memory runs out"
    if status < 0 or frames:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"
        return "crash", f"{phase} crashed the interpreter, {name}{where}"
    return "exit", f"{phase} ended the process, with exit status {status}, as os._exit does: take that out"


# --- in the process apart ---


def child() -> None:
    """The process that `run` starts."""
    asked = json.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    channel = open(os.dup(1), "w", buffering=1, encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    os.dup2(2, 1)
    faulthandler.enable(channel, all_threads=False)
    token, timeout, limits = asked.pop("token"), asked["timeout"], asked["limits"]
    sys.argv[:] = [asked["file"]]
    parent, phase, armed = os.getppid(), "", 0.0

    def emit(**message: Any) -> None:
        if os.getppid() != parent:  # it has ended; or this is a fork, which came out of the code as well
            os._exit(1)
        try:
            channel.write(json.dumps({"token": token, **message}) + "\n")
        except (OSError, ValueError):
            os._exit(CLOSED)

    def on_call(new: str) -> None:
        """Start the clock anew for a call, or let it run if it was started just now."""
        nonlocal phase, armed
        if os.getppid() != parent:
            os._exit(1)
        if new != phase:
            phase = new
            emit(phase=phase)
        if timeout and time.monotonic() - armed > timeout / 10:
            armed = time.monotonic()
            faulthandler.dump_traceback_later(1.1 * timeout, exit=True, file=channel)

    def breach(what: str) -> None:
        emit(breach=what)
        os._exit(1)

    guard.on_call, guard.apart = on_call, True
    on_call("the start")
    try:
        module, _, name = asked["job"].partition(":")
        job = getattr(importlib.import_module(module), name)
        if limits:
            # Where nobody is left to end it. A thread, so before there may be none.
            faulthandler.dump_traceback_later(2 * limits["seconds"] + 10, exit=True, file=channel)
            confine(limits["memory"], limits["seconds"], asked["file"], breach)
        job(**asked["request"], emit=emit)
    except BaseException as error:
        spare()
        emit(cannot="", why=guard.described(error))
    emit(finished=True)
    os._exit(0)  # whatever threads and exit handlers the code has left

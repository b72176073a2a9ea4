"""The check of somebody's own file in a process of its own, which may end as it likes.

The file's code may call sys.exit or os._exit, crash the interpreter, run for ever or print without end. The process
that it runs in reports through a pipe of its own, a line of JSON for each thing found; what the code prints goes
elsewhere. Nothing but a report that has come to its end is taken for one.
"""

import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from scratchgen.gradcheck import guard

LINES, CHARACTERS = 40, 8_000  # so much of what the code prints is shown
LAST_WORDS = 1.0  # seconds for what is still in the pipes when the process has ended
START = "import sys; sys.path[:] = {path!r}; from scratchgen.gradcheck import apart; apart.child()"


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
    arguments = {"timeout": timeout, "request": request, "objective": objective}
    child = subprocess.Popen(
        [sys.executable, "-c", START.format(path=sys.path), json.dumps(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends that one and all it has started
    )
    assert child.stdout is not None
    assert child.stderr is not None
    found: list[bytes] = []
    readers = [
        threading.Thread(target=found.extend, args=(child.stdout,), daemon=True),
        threading.Thread(target=_pass_on, args=(child.stderr,), daemon=True),
    ]
    try:
        for reader in readers:
            reader.start()
        child.wait()
        for reader in readers:
            reader.join(LAST_WORDS)
    finally:
        if child.returncode is None or any(reader.is_alive() for reader in readers):
            _end(child)  # or what it has started, which holds the pipes
        for reader, pipe in zip(readers, (child.stdout, child.stderr), strict=True):
            reader.join(LAST_WORDS)
            if not reader.is_alive():  # a process that has left the group may hold the pipe for good
                pipe.close()
    return _outcome(found, child.returncode, timeout, request["spec"])


def _end(child: subprocess.Popen) -> None:
    """End a process, and those that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _pass_on(pipe: Any) -> None:
    """Show the beginning of what the code prints, as it comes, on stderr."""
    lines = shown = 0
    while part := pipe.read1(65536):
        if lines < LINES and shown < CHARACTERS:
            text = part[: CHARACTERS - shown].decode("utf-8", "replace")
            first = "".join(text.splitlines(keepends=True)[: LINES - lines])
            sys.stderr.write(first)
            sys.stderr.flush()
            shown += len(first)
            if lines + part.count(b"\n") >= LINES or shown >= CHARACTERS:
                sys.stderr.write("\n… what the file prints further is not shown\n")
        lines += part.count(b"\n")


def _outcome(lines: list[bytes], status: int, timeout: float, spec: str) -> Outcome:
    outcome, phase, last_words = Outcome(), "the start", []
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:  # faulthandler's lines
            last_words.append(line.decode("utf-8", "replace"))
            continue
        match message:
            case {"finished": True}:
                return outcome
            case {"phase": str(phase)}:
                pass
            case {"report": which}:
                outcome.reports[which] = message
            case {"cannot": which, "why": why}:
                outcome.cannot.setdefault(why, []).append(which)
    outcome.why = _why(phase, "".join(last_words), status, timeout, spec)
    return outcome


def _why(phase: str, last_words: str, status: int, timeout: float, spec: str) -> str:
    """How the process ended, and where."""
    frames = re.findall(r'File "(.*)", line (\d+)', last_words)
    file = os.path.realpath(spec.partition(".py:")[0] + ".py")
    at = next((f for f in frames if os.path.realpath(f[0]) == file), frames[0] if frames else None)
    where = f" ({at[0]}, line {at[1]})" if at else ""
    if last_words.startswith("Timeout"):
        mend = "an endless loop?"
        if phase == "loading":
            mend = "what the file does beside defining its layers belongs under `if __name__ == '__main__':`"
        return f"{phase} took longer than {timeout:g} s{where}: {mend} --timeout gives it more time"
    if status == -signal.SIGTERM or (os.name == "posix" and status == -signal.SIGKILL):
        return f"the process was killed during {phase}{where}, as it is where memory runs out"
    if status < 0 or frames:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"
        return f"{phase} crashed the interpreter, {name}{where}"
    return f"{phase} ended the process, with exit status {status}, as os._exit does: take that out"


# --- in the process apart ---


def child() -> None:
    """The process that `check_apart` starts."""
    channel = open(os.dup(1), "w", buffering=1, encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    os.dup2(2, 1)
    faulthandler.enable(channel, all_threads=False)
    arguments = json.loads(sys.argv[1])
    request, timeout = arguments["request"], arguments["timeout"]
    sys.argv[:] = [request["spec"].partition(".py:")[0] + ".py"]
    parent, phase, armed = os.getppid(), "", 0.0

    def emit(**message: Any) -> None:
        if os.getppid() != parent:  # it has ended; or this is a fork, which came out of the code as well
            os._exit(1)
        channel.write(json.dumps(message) + "\n")

    def on_call(new: str) -> None:
        """Start the clock anew for a call, or let it run if it was started just now."""
        nonlocal phase, armed
        if os.getppid() != parent:
            os._exit(1)
        if new != phase:
            phase = new
            emit(phase=phase)
        if time.monotonic() - armed > timeout / 10:
            armed = time.monotonic()
            faulthandler.dump_traceback_later(1.1 * timeout, exit=True, file=channel)

    guard.on_call, guard.apart = on_call, True
    on_call("the start")
    try:
        from scratchgen.gradcheck.student import check_file, check_objective

        (check_objective if arguments["objective"] else check_file)(**request, emit=emit)
    except BaseException as error:
        emit(cannot="", why=guard.described(error))
    emit(finished=True)
    os._exit(0)  # whatever threads and exit handlers the code has left

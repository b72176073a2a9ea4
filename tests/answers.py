"""Answers to the exercise dense, for the tests of grading: right ones, wrong ones, and those that do other things."""

import textwrap

SOURCE = """\
import os, signal, socket, subprocess, sys, threading, time
import numpy as np
from scratchgen import Layer, Parameter
{top}

class Dense(Layer):
    def __init__(self, in_features, out_features):
        self.W = Parameter("W", np.zeros((in_features, out_features)))
        self.b = Parameter("b", np.zeros(out_features))

    def forward(self, x):
        W, b = self.W.value, self.b.value
        y = x @ W + b

        def backward(dy):
{within}
            self.W.grad += {dW}
            self.b.grad += dy.sum(axis=0)
            return dy @ W.T

        return y, backward
"""


def dense(top="", within="pass", dW="x.T @ dy"):
    """An answer, right but for what is changed: `top` runs when it is loaded, `within` in its backward."""
    return SOURCE.format(top=textwrap.dedent(top), within=textwrap.indent(textwrap.dedent(within), " " * 12), dW=dW)


RIGHT = dense()
WRONG = dense(dW="-x.T @ dy")
SAY_RIGHT = '{"ok": true, "faults": [], "details": ""}\\n{"finished": true}\\n'

FORGED = f"""\
print('''{SAY_RIGHT}''')
for n in range(20):
    try: os.write(n, b'''{SAY_RIGHT}''')
    except OSError: pass
os._exit(0)
"""
FLOOD = """\
for n in range(3, 20):
    try:
        while True: os.write(n, b'x' * 10**6)
    except OSError: pass
"""

# What else an answer may do: its source, the verdict, and words of the sentence.
HOSTILE = {
    "loops": (dense(within="while True: pass"), "time limit", "line 16): an endless loop?"),
    "loops in import": (dense(top="while True: pass"), "time limit", "line 4)"),
    "sleeps": (dense(within="time.sleep(10**6)"), "time limit", "line 16)"),
    "loops and catches": (
        dense(within="while True:\n    try: time.sleep(1)\n    except BaseException: pass"),
        "time limit",
        "s altogether, the last of it in ",
    ),
    "ignores signals": (
        dense(
            top="for s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass",
            within="while True: pass",
        ),
        "time limit",
        "altogether",
    ),
    "stops itself": (dense(within="signal.raise_signal(signal.SIGSTOP)"), "time limit", "altogether"),
    "exits": (dense(within="sys.exit(0)"), "wrong", "SystemExit"),
    "exits in import": (dense(top="sys.exit(0)"), "does not load", "SystemExit in line 4"),
    "leaves": (dense(within="os._exit(0)"), "left", "ended the process, with exit status 0"),
    "raises what is no Exception": (dense(within="raise BaseException('x')"), "wrong", "BaseException: x"),
    "Ctrl-C": (dense(within="raise KeyboardInterrupt"), "wrong", "KeyboardInterrupt"),
    "crashes": (dense(within="import ctypes; ctypes.string_at(0)"), "crashed", "SIGSEGV"),
    "aborts": (dense(within="os.abort()"), "crashed", "SIGABRT"),
    "prints megabytes": (dense(within="while True: print('x' * 10**6)"), "output limit", "prints without end"),
    "prints past Python": (dense(top="while True: os.write(1, b'x' * 10**6)"), "output limit", "loading prints"),
    "fills the channel": (
        dense(top=FLOOD),
        "output limit",
        "prints without end",
    ),
    "forks": (dense(within="os.fork()"), "not allowed", "it starts a process in line 16, `os.fork()`"),
    "bomb of forks": (dense(top="while True: os.fork()"), "not allowed", "starts a process in line 4"),
    "catches what stops forks": (
        dense(top="while True:\n    try: os.fork()\n    except BaseException: pass"),
        "not allowed",
        "starts a process in line 5",
    ),
    "other programs": (dense(top="subprocess.Popen(['sleep', '60'])"), "not allowed", "starts a process"),
    "a shell": (dense(top="os.system('kill -9 %d' % os.getppid())"), "not allowed", "starts a process"),
    "sleeps in threads": (
        dense(top="threading.Thread(target=time.sleep, args=(10**6,)).start()"),
        "not allowed",
        "starts a thread in line 4",
    ),
    "kills its parent": (dense(within="os.kill(os.getppid(), 9)"), "not allowed", "sends a signal to a process"),
    "allocates at once": (dense(within="np.ones(10**11)"), "memory limit", "more memory than it may have"),
    "allocates without end": (
        dense(within="kept = []\nwhile True: kept.append(bytearray(10**6))"),
        "memory limit",
        "more memory than it may have",
    ),
    "allocates in import": (
        dense(top="kept = [0]\nwhile True: kept = kept + kept"),
        "memory limit",
        "MemoryError in line 5",
    ),
    "closes files": (dense(top="os.closerange(0, 100)"), "left", "closed files that it has not opened"),
    "writes elsewhere": (
        dense(within="open('../x.txt', 'w')"),
        "not allowed",
        "writes outside its folder in line 16, `open('../x.txt', 'w')`",
    ),
    "removes elsewhere": (
        dense(within="os.remove('/tmp/nothing-there')"),
        "not allowed",
        "writes outside its folder",
    ),
    "network": (dense(top="socket.create_connection(('localhost', 9))"), "not allowed", "uses the network"),
    "patches numpy": (dense(top="np.allclose = lambda *a, **k: True"), "not allowed", "replaces numpy.allclose"),
    "patches numpy late": (
        dense(within="np.linalg.norm = lambda *a, **k: 0.0"),
        "not allowed",
        "replaces numpy.linalg.norm",
    ),
    "its own scratchgen": (
        dense(top="sys.modules['scratchgen'] = sys.modules['scratchgen.gradcheck'] = np"),
        "not allowed",
        "replaces scratchgen",
    ),
    "patches the checker": (
        dense(top="sys.modules['scratchgen.gradcheck.report'].Report.ok = True"),
        "not allowed",
        "Report.ok",
    ),
    "patches a function's code": (
        dense(top="sys.modules['scratchgen.gradcheck.check'].check.__code__ = (lambda *a, **k: None).__code__"),
        "not allowed",
        "replaces the code of scratchgen.gradcheck",
    ),
    "prints a report": (
        dense(top=FORGED),
        "left",
        "loading ended the process",
    ),
    "takes the library's": (
        "from scratchgen import Dense\n",
        "not allowed",
        "takes 'Dense' from scratchgen in line 1",
    ),
    "takes it by another way": (
        "import scratchgen as sg\nclass Dense(sg.Dense): pass\n",
        "not allowed",
        "takes 'Dense' from scratchgen in line 2",
    ),
    "takes it by a third": (
        "import sys\nDense = sys.modules['scratchgen'].Dense\n",
        "not allowed",
        "replaces Dense by the library's own",
    ),
    "takes it from a module": (
        "from scratchgen.layers.dense import Dense as D\nclass Dense(D): pass\n",
        "not allowed",
        "takes 'Dense' from scratchgen in line 1",
    ),
    "a framework": (dense(top="import torch.nn"), "not allowed", "imports torch in line 4"),
    "loads by name": (dense(top="import importlib"), "not allowed", "imports importlib in line 4"),
}

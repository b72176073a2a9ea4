"""Memory that is used again: aligned, never while anybody looks at it, given back when it lies idle; and who else holds
an array."""

import copy
import ctypes
import gc
import pickle
import queue
import sys
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from drawn import kernel_modules

from scratchgen import dcgan, dcgan_optimizers, dense_gan
from scratchgen.backend import numpy_ops, reference
from scratchgen.backend.numpy_ops import memory
from scratchgen.backend.numpy_ops.memory import empty, workspace

N = 1000  # numbers in most arrays here
counts = pytest.mark.skipif(not memory._counts_references, reason="this Python does not count references")


@pytest.fixture(autouse=True)
def everything_is_kept(monkeypatch):
    """Small arrays too, and nothing of other tests."""
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory, "_pieces", {})


def address(array) -> int:
    return array.__array_interface__["data"][0]


def kept() -> list[int]:
    """The sizes of all pieces."""
    return [piece.size for pieces in memory._pieces.values() for piece in pieces]


# --- arrays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [1, 1 << 40], ids=["kept", "not kept"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4, 5), (64, 64), (), (0, 3)], ids=str)
def test_arrays_start_on_a_cache_line(shape, dtype, large, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", large)
    arrays = [empty(shape, dtype) for _ in range(5)]
    for i, a in enumerate(arrays):
        assert (a.shape, a.dtype) == (shape, dtype)
        assert address(a) % 64 == 0 or a.size == 0
        assert a.flags.c_contiguous
        assert a.flags.writeable
        a[...] = i
    for i, a in enumerate(arrays):
        assert (a == i).all()


def test_only_large_arrays_are_kept(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 4 * N)
    empty((N - 1,), np.float32)
    assert kept() == []
    if memory._counts_references:
        empty((N,), np.float32)
        assert len(kept()) == 1


def test_a_buffer_is_one_for_each_role_and_dtype():
    a = workspace("one", (3, 4), np.float32)
    assert (a.shape, a.dtype) == ((3, 4), np.float32)
    assert address(a) % 64 == 0
    assert np.shares_memory(a, workspace("one", (12,), np.float32))
    assert np.shares_memory(a, workspace("one", (2, 2), np.float32))
    larger = workspace("one", (50,), np.float32)
    assert larger.shape == (50,)
    assert np.shares_memory(larger, workspace("one", (3, 4), np.float32))
    for other in (workspace("two", (50,), np.float32), workspace("one", (50,), np.float64), a):
        assert not np.shares_memory(larger, other)


def test_a_buffer_is_of_one_thread():
    mine, theirs = workspace("mine", (N,), np.float32), []
    threads = [threading.Thread(target=lambda: theirs.append(workspace("mine", (N,), np.float32))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    buffers = [mine, *theirs]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(buffers) for b in buffers[:i])


# --- memory is used again -------------------------------------------------------------------------------------------


@counts
def test_memory_is_used_again_once_all_who_looked_are_gone():
    a = empty((N,), np.float32)
    where = address(a)
    del a
    for _ in range(5):
        b = empty((10, N // 10), np.float32)
        assert address(b) == where
        del b
    assert len(kept()) == 1
    first, second = empty((N,), np.float32), empty((N,), np.float32)
    assert address(first) != address(second)
    assert len(kept()) == 2


class Holder:
    """Something of another library that tells where its numbers are, and keeps the array that they are in."""

    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


def _buffer_of_c(a):
    return (ctypes.c_char * a.nbytes).from_buffer(a)


class Subclass(np.ndarray):
    pass


def _closure(a):
    return lambda: a


def _generator(a):
    def generate():
        yield a

    made = generate()
    return made, next(made)


def _cycle(a):
    ring = [a]
    ring.append(ring)
    return ring


def _structured(a):
    return a.view([("first", a.dtype), ("second", a.dtype)])["second"]


HOLDERS = {  # what somebody may keep of an array; each reads the numbers through it afterwards
    "itself": lambda a: a,
    "a view": lambda a: a[:],
    "a view of a view of a view": lambda a: a[1:][1:][1:],
    "one number's view": lambda a: a[3:4],
    "a reshaped transpose": lambda a: a.reshape(20, -1).T,
    "a diagonal": lambda a: a[:900].reshape(30, 30).diagonal(),
    "a flat iterator": lambda a: a.flat,
    "another dtype": lambda a: a.view(np.uint16),
    "the real part": lambda a: a.view(np.complex64).real,
    "a field": _structured,
    "a subclass": lambda a: a.view(Subclass),
    "a matrix": lambda a: np.asmatrix(a.reshape(20, -1)),
    "a masked array": lambda a: np.ma.array(a, copy=False),
    "a broadcast": lambda a: np.broadcast_to(a, (2, len(a))),
    "strides": lambda a: np.lib.stride_tricks.sliding_window_view(a, 5),
    "its base": lambda a: a.base,
    "a split": lambda a: np.split(a, 4)[2],
    "rows": lambda a: list(a.reshape(20, -1)),
    "a memoryview": memoryview,
    "a memoryview of a view": lambda a: memoryview(a[5:])[5:],
    "a cast memoryview": lambda a: memoryview(a).cast("B"),
    "frombuffer": lambda a: np.frombuffer(a, np.float32),
    "frombuffer of a memoryview": lambda a: np.frombuffer(memoryview(a)[8:], np.float32),
    "asarray of a memoryview": lambda a: np.asarray(memoryview(a)),
    "ndarray over it": lambda a: np.ndarray((5,), np.float32, buffer=a, offset=40),
    "the array interface": lambda a: np.asarray(Holder(a)),
    "dlpack": np.from_dlpack,
    "ctypes": lambda a: a.ctypes,
    "ctypes pointer": lambda a: a.ctypes.data_as(ctypes.c_void_p),
    "ctypes buffer": _buffer_of_c,
    "nditer": lambda a: np.nditer(a),
    "a list": lambda a: [a],
    "a dict": lambda a: {"a": a},
    "an attribute": lambda a: SimpleNamespace(a=a),
    "an object array": lambda a: np.array([a[:7], None], object),
    "a closure": _closure,
    "a generator": _generator,
    "a cycle": _cycle,
    "a bound method": lambda a: a.sum,
    "pickle's buffer": lambda a: pickle.PickleBuffer(a),
    "a shallow copy of a list": lambda a: copy.copy([a]),
}


@counts
@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_is_not_given_away_while_anybody_looks_at_it(holder):
    a = empty((N,), np.float32)
    a[...] = 7
    where = range(address(a), address(a) + a.nbytes)
    witness = (ctypes.c_float * N).from_address(address(a))
    held = HOLDERS[holder](a)
    del a
    others = []
    for _ in range(3):
        other = empty((N,), np.float32)
        assert address(other) not in where
        other[...] = 8
        others.append(other)
        other = empty((N // 2,), np.float64)
        assert address(other) not in where
        other[...] = 8
        others.append(other)
    assert all(value == 7 for value in witness)
    del held
    gc.collect()
    assert address(empty((N,), np.float32)) in where, "and then it is used again"


@counts
def test_memory_that_another_thread_looks_at_is_not_given_away():
    """It is in nobody's hands on this one, not even in a name."""
    box, gone, done = queue.Queue(), threading.Event(), threading.Event()
    sees = []

    def look():
        mine = box.get()[1:]
        assert gone.wait(20)
        sees.append(float(mine.min()))
        del mine
        done.set()

    thread = threading.Thread(target=look)
    thread.start()
    a = empty((N,), np.float32)
    a[...] = 7
    where = address(a)
    box.put(a)
    del a
    while not box.empty() or thread.is_alive() is False:
        pass
    for _ in range(3):
        other = empty((N,), np.float32)
        assert address(other) != where
        other[...] = 8
    gone.set()
    assert done.wait(20)
    thread.join()
    assert sees == [7.0]


@counts
def test_memory_that_a_torch_tensor_looks_at_is_not_given_away():
    torch = pytest.importorskip("torch")
    a = empty((N,), np.float32)
    a[...] = 7
    where, tensor = address(a), torch.from_numpy(a).view(20, -1)
    del a
    other = empty((N,), np.float32)
    other[...] = 8
    assert address(other) != where
    assert (tensor == 7).all()


@counts
def test_threads_that_ask_at_once_never_share():
    """Each writes its name into what it gets, and finds it there afterwards."""
    wrong, before = [], sys.getswitchinterval()

    def ask(name):
        held = []
        for turn in range(400):
            a = empty((50,), np.float32)
            a[...] = name + turn % 3
            held.append((a[1:] if turn % 2 else a.reshape(5, 10), name + turn % 3))
            del a
            if len(held) > turn % 4:
                view, wanted = held.pop(0)
                if not (view == wanted).all():
                    wrong.append(name)

    threads = [threading.Thread(target=ask, args=(10.0 * i,)) for i in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    assert len(kept()) <= 4 * 5


@counts
def test_idle_memory_is_given_back_when_other_sizes_are_asked_for(monkeypatch):
    monkeypatch.setattr(memory, "IDLE", 50_000)
    most = 0
    for n in range(100, 400):
        a = empty((n,), np.float32)
        most = max(most, sum(kept()))
        del a
    assert 10_000 < most <= 50_000 + 2 * (400 * 4 + 64)


@counts
def test_idle_memory_may_be_as_much_as_is_in_use(monkeypatch):
    """A step asks for the same again, so a large one keeps more; what is in use is never let go."""
    monkeypatch.setattr(memory, "IDLE", 0)
    held = [empty((N,), np.float32) for _ in range(10)]
    for i, a in enumerate(held):
        a[...] = i
    idle = [empty((N + 1,), np.float32) for _ in range(9)]
    where = {address(a) for a in idle}
    del idle, a
    empty((3,), np.float32)
    assert address(empty((N + 1,), np.float32)) in where, "9 idle, 10 in use"
    idle = [empty((N + 1,), np.float32) for _ in range(12)]
    assert len(kept()) == 23
    del idle
    gone = [weakref.ref(piece) for pieces in memory._pieces.values() for piece in pieces]
    assert sum(piece() is not None for piece in gone) == 23
    last = empty((5,), np.float32)
    assert sum(piece() is not None for piece in gone) == 10
    assert len(kept()) == 11
    assert all((a == i).all() for i, a in enumerate(held))
    del last


@counts
def test_without_counts_of_references_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(memory, "_counts_references", False)
    a = empty((N,), np.float32)
    assert address(a) % 64 == 0
    assert kept() == []
    assert not ask(np.empty(3))


# --- who else holds an array ----------------------------------------------------------------------------------------


def ask(array) -> bool:
    """`unshared` of what the caller gives away: this function's name for it is the only one."""
    return memory.unshared(array)


def fresh(kind):
    """An array that nobody holds: of NumPy's own memory, a view, small or kept."""
    return {
        "new": lambda: np.zeros((4, 5), np.float32),
        "computed": lambda: np.ones((4, 5), np.float32) + 1,
        "a view of what nobody holds": lambda: np.zeros((5, 4), np.float32).T,
        "a part of what nobody holds": lambda: np.zeros((9, 9), np.float32)[2:6, 1:6],
        "kept": lambda: empty((4, 5), np.float32),
        "a view of kept": lambda: empty((5, 4), np.float32).T,
    }[kind]()


KINDS = ["new", "computed", "a view of what nobody holds", "a part of what nobody holds", "kept", "a view of kept"]


@counts
@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_else_holds_is_unshared(kind):
    assert ask(fresh(kind))
    for _ in range(3):  # also memory that was in use before
        assert ask(fresh(kind))


@counts
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_holds_is_shared(kind, holder):
    """By a name, in a list, as a view, a buffer, from another library."""
    a = fresh(kind)
    assert not ask(a), "a second name"
    if holder in ("a diagonal", "a masked array"):
        held = {"a diagonal": lambda a: a.diagonal(), "a masked array": HOLDERS[holder]}[holder](a)
    else:
        try:
            held = HOLDERS[holder](a if a.flags.c_contiguous and a.size == 1000 else _flat(a))
        except (ValueError, BufferError, AttributeError):
            pytest.skip("cannot be had of an array that lies so")
    box = [a]
    del a
    assert not _shared_with(box, held)


def _flat(a):
    return a.reshape(-1) if a.flags.c_contiguous else a


def _shared_with(box, held) -> bool:
    return memory.unshared(box.pop())

"""Memory that is used again: aligned, never while anybody looks at it, given back when idle."""

import ctypes
import gc
import queue
import sys
import threading
import weakref

import numpy as np
import pytest
from drawn import kernel_modules
from holders import HOLDERS, N

from scratchgen import dcgan, dcgan_optimizers, dense_gan
from scratchgen.backend.numpy_ops import memory
from scratchgen.backend.numpy_ops.memory import empty, workspace


@pytest.fixture(autouse=True)
def everything_is_kept(monkeypatch):
    """Small arrays too, and nothing of other tests."""
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory, "_idle", {})
    monkeypatch.setattr(memory, "_waiting", {})
    monkeypatch.setattr(memory, "_made", 0)


def address(array) -> int:
    return array.__array_interface__["data"][0]


def idle() -> list[int]:
    """The sizes of the pieces that no array looks at."""
    return [end.memory.size for ends in memory._idle.values() for end in ends]


# --- arrays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [0, memory.SMALL], ids=["all", "but small ones"])
@pytest.mark.parametrize("large", [1, 1 << 40], ids=["kept", "not kept"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4, 5), (64, 65), (), (0, 3)], ids=str)
def test_arrays_start_on_a_cache_line(shape, dtype, large, small, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", small)
    monkeypatch.setattr(memory, "LARGE", large)
    arrays = [empty(shape, dtype) for _ in range(5)]
    for i, a in enumerate(arrays):
        assert (a.shape, a.dtype) == (shape, dtype)
        assert address(a) % 64 == 0 or a.nbytes <= small
        assert a.flags.c_contiguous
        assert a.flags.writeable
        a[...] = i
    for i, a in enumerate(arrays):
        assert (a == i).all()


def test_only_large_arrays_are_kept(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 4 * N)
    empty((N - 1,), np.float32)
    assert memory._made == 0
    empty((N,), np.float32)
    assert [memory._made] == idle() == [4 * N + 64]


def test_a_buffer_is_one_for_each_role_and_dtype():
    a = workspace("one", (3, 4), np.float32)
    assert (a.shape, a.dtype) == ((3, 4), np.float32)
    assert address(a) % 64 == 0
    assert np.shares_memory(a, workspace("one", (12,), np.float32))
    assert np.shares_memory(a, workspace("one", (2, 2), np.float32))
    assert address(workspace("one", (2, 2), np.float32)) == address(a)
    larger = workspace("one", (50,), np.float32)
    assert address(larger) % 64 == 0
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


def test_memory_is_used_again_once_all_who_looked_are_gone():
    a = empty((N,), np.float32)
    where = address(a)
    del a
    for _ in range(5):
        b = empty((10, N // 10), np.float32)
        assert address(b) == where
        del b
    assert [memory._made] == idle() == [4 * N + 64]
    first, second = empty((N,), np.float32), empty((N,), np.float32)
    assert address(first) != address(second)
    assert memory._made == 2 * (4 * N + 64)
    assert idle() == []


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


def side_by_side(work, names) -> None:
    """work(name) on a thread each, which take turns as often as Python lets them."""
    threads, before = [threading.Thread(target=work, args=(name,)) for name in names], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)


def test_threads_that_ask_at_once_never_share():
    """Each writes its name into what it gets, and finds it there afterwards."""
    wrong = []

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

    side_by_side(ask, [10.0 * i for i in range(4)])
    assert not wrong
    assert memory._made <= 4 * 5 * (4 * 50 + 64)


def test_threads_that_find_the_same_memory_idle_at_once():
    """A piece goes to one of them, at whatever moment the others look."""
    wrong, at_once = [], threading.Barrier(3, timeout=20)

    def get(name):
        for _ in range(200):
            at_once.wait()
            a = empty((N,), np.float32)
            a[...] = name
            at_once.wait()
            if not (a == name).all():
                wrong.append(name)
            del a

    side_by_side(get, range(3))
    assert not wrong
    assert memory._made <= 3 * (4 * N + 64)


def test_memory_stays_as_long_as_an_array_looks_at_it_even_if_nobody_waits_for_its_end():
    a = empty((N,), np.float32)
    made = weakref.ref(a.base.base.memory)
    memory._waiting.clear()
    gc.collect()
    assert made() is not None
    del a
    assert made() is None
    assert idle() == []


def test_no_python_runs_when_memory_becomes_idle():
    """Wherever an array happens to die: a Ctrl-C in such a line would be printed and forgotten."""
    box = [empty((N,), np.float32), empty((N,), np.float32)[3:]]
    lines = []
    sys.setprofile(lambda frame, event, arg: lines.append((event, frame.f_code.co_qualname)))
    box.clear()
    sys.setprofile(None)
    assert [event for event, _ in lines if event == "call"] == [], lines
    assert len(idle()) == 2


def test_memory_that_dies_while_other_is_made(monkeypatch):
    """The collector may end an array anywhere: in the middle of the lock's own lines, too."""
    ring = [empty((N,), np.float32)]
    ring.append(ring)
    del ring
    let_go = memory._let_go

    def collect():
        gc.collect()
        let_go()

    monkeypatch.setattr(memory, "_let_go", collect)
    done = []
    thread = threading.Thread(target=lambda: done.append(empty((N + 1,), np.float32)), daemon=True)
    thread.start()
    thread.join(20)
    assert len(done) == 1, "it waits for itself"
    assert idle() == [4 * N + 64]


def test_idle_memory_is_given_back_when_other_sizes_are_asked_for(monkeypatch):
    monkeypatch.setattr(memory, "IDLE", 50_000)
    most = 0
    for n in range(100, 400):
        a = empty((n,), np.float32)
        most = max(most, memory._made)
        del a
    assert 10_000 < most <= 50_000 + 2 * (400 * 4 + 64)


def test_idle_memory_may_be_as_much_as_is_in_use(monkeypatch):
    """A step asks for the same again, so a large one keeps more; what is in use is never let go."""
    monkeypatch.setattr(memory, "IDLE", 0)
    held = [empty((N,), np.float32) for _ in range(10)]
    for i, a in enumerate(held):
        a[...] = i
    unused = [empty((N + 1,), np.float32) for _ in range(9)]
    where = {address(a) for a in unused}
    del unused, a
    assert address(empty((N + 1,), np.float32)) in where, "9 idle, 10 in use"
    unused = [empty((N + 1,), np.float32) for _ in range(12)]
    assert memory._made == sum(a.nbytes + 64 for a in held + unused)
    gone = [weakref.ref(end.memory) for end in memory._waiting.values()]
    del unused
    assert sum(piece() is not None for piece in gone) == 22
    last = empty((5,), np.float32)
    assert sum(piece() is not None for piece in gone) == 10
    assert memory._made == sum(a.nbytes + 64 for a in [*held, last])
    assert all((a == i).all() for i, a in enumerate(held))
    del last


# --- a training run -------------------------------------------------------------------------------------------------


def _poisoned_empty(shape, dtype):
    return np.full(shape, np.nan, dtype)


def _weights(make, steps, seed=3):
    """Every weight and statistic after some steps, and all losses."""
    rng = np.random.default_rng(seed)
    model = make(rng)
    d, g = dcgan_optimizers(model)
    shape = model.generate(model.noise(2, rng)).shape[1:]
    losses = []
    for turn in range(steps):
        real = rng.uniform(-1, 1, (12 + turn % 2, *shape)).astype(np.float32)  # the last batch is often smaller
        losses.append(model.train_step(real, model.noise(len(real), rng), d, g))
    return [np.array(losses), *(a.copy() for a in model.state().values())]


RUNS = {
    "gan": lambda rng: dense_gan((7, 7, 1), latent=5, rng=rng),
    "dcgan": lambda rng: dcgan((16, 16, 3), latent=4, width=4, smallest=4, rng=rng),
}


@pytest.mark.parametrize("model", RUNS)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("large", [1, 3000])
def test_a_run_with_memory_kept_is_the_run_without(model, n, large, monkeypatch, use_threads):
    """Bit for bit, with plain arrays that hold NaN until they are filled."""
    use_threads(n)
    monkeypatch.setattr(memory, "LARGE", large)
    monkeypatch.setattr(memory, "IDLE", 100_000)
    found = _weights(RUNS[model], 3)
    assert len(idle()) > 1
    for module in kernel_modules():
        if hasattr(module, "empty"):
            monkeypatch.setattr(module, "empty", _poisoned_empty)
    plain = _weights(RUNS[model], 3)
    assert len(found) == len(plain)
    for a, b in zip(found, plain, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_a_run_takes_the_memory_of_the_step_before(use_threads, monkeypatch):
    """After the first steps hardly any more is asked of the system."""
    use_threads(1)
    monkeypatch.setattr(memory, "LARGE", 1000)
    rng = np.random.default_rng(0)
    model = RUNS["dcgan"](rng)
    d, g = dcgan_optimizers(model)
    real = rng.uniform(-1, 1, (12, 16, 16, 3)).astype(np.float32)
    sizes = []
    for _ in range(8):
        model.train_step(real, model.noise(12, rng), d, g)
        sizes.append(memory._made)
    assert sizes[-1] == sizes[4]


def test_python_that_runs_while_memory_is_made_may_ask_for_some(monkeypatch):
    """A finaliser that the collector calls, or a signal's handler, on the thread that holds the lock."""
    let_go, asked = memory._let_go, []

    def ask_once():
        if not asked:
            asked.append(None)
            asked.append(empty((N + 2,), np.float32))
        let_go()

    monkeypatch.setattr(memory, "_let_go", ask_once)
    done = []
    thread = threading.Thread(target=lambda: done.append(empty((N + 1,), np.float32)), daemon=True)
    thread.start()
    thread.join(20)
    assert len(done) == 1, "it waits for itself"
    assert not np.shares_memory(done[0], asked[1])

"""Memory that is used again: aligned, never while anybody looks at it, given back when idle; who else holds an array.

`ask` is never called inside an assert: pytest keeps every part of an assert's expression, so it would be one more
holder.
"""

import ctypes
import gc
import os
import queue
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawn import kernel_modules
from holders import FOREIGN, HOLDERS, N

from scratchgen import dcgan, dcgan_optimizers, dense_gan
from scratchgen.backend import numpy_ops, reference
from scratchgen.backend.numpy_ops import memory
from scratchgen.backend.numpy_ops.memory import empty, workspace

counts = pytest.mark.skipif(not memory._counts_references, reason="this Python does not count references")


@pytest.fixture(autouse=True)
def everything_is_kept(monkeypatch):
    """Small arrays too, and nothing of other tests."""
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


@pytest.mark.skipif(
    sys.implementation.name != "cpython"
    or sys.version_info >= (3, 14)
    or not getattr(sys, "_is_gil_enabled", lambda: True)()
    or sys.gettrace() is not None,
    reason="counts may be otherwise",
)
def test_this_python_counts_references():
    """So that the tests which need it are not all passed over."""
    assert memory._counts_references


@pytest.mark.parametrize(
    "otherwise",
    [
        "sys.version_info = (3, 14, 0, 'final', 0)",
        "sys._is_gil_enabled = lambda: False",
        "sys.getrefcount = lambda thing: 2",
        "count = sys.getrefcount; sys.getrefcount = lambda thing: count(thing) + 7",
    ],
)
def test_a_python_that_counts_otherwise(otherwise):
    """A name that does not count, as in CPython 3.14, must not pass for none: nothing is taken over then."""
    script = f"""
import sys, numpy, threadpoolctl, tqdm
{otherwise}
from scratchgen.backend.numpy_ops import memory
assert not memory._counts_references
memory.LARGE = 1
a = memory.empty((9,), "f4")
assert not memory.unshared(a)
from scratchgen import Parameter
p, mine = Parameter("p", numpy.zeros(3, "f4")), numpy.ones(3, "f4")
p.add_grad(mine)
p.add_grad(mine)
assert p.grad.tolist() == [2, 2, 2] and mine.tolist() == [1, 1, 1]
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@counts
def test_without_counts_of_references_nothing_is_taken_over(monkeypatch):
    monkeypatch.setattr(memory, "_counts_references", False)
    alone = ask(np.empty(3))
    assert not alone


# --- who else holds an array ----------------------------------------------------------------------------------------


def ask(array) -> bool:
    """`unshared` of what the caller gives away: this function's name for it is the only one."""
    return memory.unshared(array)


KINDS = {  # an array that nobody holds: of NumPy's own memory or kept, all of it or a part
    "new": lambda: np.zeros(N, np.float32),
    "computed": lambda: np.ones(N, np.float32) + 1,
    "a part of what nobody holds": lambda: np.zeros(2 * N, np.float32)[7 : N + 7],
    "a view of a view": lambda: np.zeros((2, N), np.float32).reshape(-1)[:N][:],
    "kept": lambda: empty((N,), np.float32),
    "a part of kept": lambda: empty((2, N), np.float32).reshape(-1)[7 : N + 7],
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@counts
@every_kind
def test_what_nobody_else_holds_is_unshared(kind):
    box = [KINDS[kind]()]
    alone = [ask(KINDS[kind]()), ask(KINDS[kind]()), ask(box.pop())]  # the second is of memory that was in use before
    assert alone == [True, True, True]


@counts
@every_kind
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_somebody_holds_is_shared(kind, holder):
    box = [KINDS[kind]()]
    held = HOLDERS[holder](box[0])
    alone = ask(box.pop())
    assert alone == (held is None)  # the base of an array that is none's view


@counts
@every_kind
def test_what_has_a_second_name_is_shared(kind):
    a = KINDS[kind]()
    thing, box = SimpleNamespace(a=KINDS[kind]()), [KINDS[kind]()]
    alone = [ask(a), ask(thing.a), ask(box[0]), ask(box[-1])]
    assert not any(alone)


@counts
@every_kind
def test_a_view_of_what_somebody_holds_is_shared(kind):
    a = KINDS[kind]()
    alone = [ask(a[:]), ask(a[1:][1:]), ask(a.reshape(20, -1).T), ask(a.view(np.uint16))]
    view = a[2:]
    del a
    alone += [ask(view[2:]), ask(view), memory.unshared(view[2:])]
    assert not any(alone)
    assert memory.unshared(view), "asked by the one name that there is"


@counts
@pytest.mark.parametrize("kind", FOREIGN)
def test_memory_that_is_not_numpys_is_shared_for_all_we_know(kind):
    make, look = FOREIGN[kind]
    held = make()
    alone = [ask(look(held)), ask(look(held)[1:])]
    assert alone == [False, False]
    del held


@counts
def test_a_mapped_file_is_shared(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(N, np.float32))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="c")
    alone = [ask(mapped), ask(mapped[1:]), ask(np.asarray(np.load(tmp_path / "a.npy", mmap_mode="c")))]
    assert not any(alone)


def test_the_reference_is_never_sure():
    assert not reference.unshared(np.zeros(3))


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
    monkeypatch.setattr(memory, "_counts_references", False)
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
    assert numpy_ops.unshared is memory.unshared


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

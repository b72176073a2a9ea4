"""The kernels' worker threads: order, errors, nesting, forks, BLAS's own threads, and the same numbers always."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep

import numpy as np
import pytest
from drawn import MAPS, Problem, constants
from threadpoolctl import threadpool_limits

from scratchgen.backend import compiled, formula, numpy_ops, threads
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns, winograd

ROOT = Path(__file__).parents[1]
on_threads = pytest.mark.parametrize("n", [1, 2, 3, 5], ids="{} threads".format)
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def python(script, **environment):
    """The output of a Python of its own; its errors and warnings are this test's."""
    names = {name: value for name, value in os.environ.items() if name not in threads._SETTINGS}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script],
        env={**names, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def blas_threads() -> list[int]:
    return [library.get_num_threads() for library in threads.numpys_blas()]


needs_blas_threads = pytest.mark.skipif(not blas_threads(), reason="threadpoolctl knows no BLAS here")


def in_time(f, seconds=30):
    """f() on a thread of its own, so that a deadlock fails the test and does not hang it."""
    outcome = []

    def call():
        try:
            outcome.append((True, f()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "it hangs"
    good, value = outcome[0]
    if not good:
        raise value
    return value


# --- run ------------------------------------------------------------------------------------------------------------


@on_threads
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_results_come_in_the_order_of_the_shares(n, count, use_threads):
    """Though the first shares take longest."""
    use_threads(n)

    def share(i):
        sleep((count - i) * 2e-4)
        return i * i

    assert in_time(lambda: threads.run([lambda i=i: share(i) for i in range(count)])) == [i * i for i in range(count)]


@on_threads
def test_every_share_runs_once(n, use_threads):
    use_threads(n)
    for _ in range(50):
        seen = []
        in_time(lambda seen=seen: threads.run([lambda i=i: seen.append(i) for i in range(9)]))
        assert sorted(seen) == list(range(9))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_shares_run_side_by_side_and_the_caller_is_one_of_the_workers(n, use_threads):
    """n shares that wait for each other end only if n threads are there; and there are no more than n."""
    use_threads(n)
    meeting, names = threading.Barrier(n, timeout=20), []

    def share():
        meeting.wait()
        names.append(threading.current_thread())

    def call():
        threads.run([share] * n)
        return threading.current_thread()

    caller = in_time(call)
    assert caller in names
    assert len(set(names)) == n

    most, now, lock = [0], [0], threading.Lock()

    def count():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        sleep(2e-3)
        with lock:
            now[0] -= 1

    in_time(lambda: threads.run([count] * (4 * n)))
    assert most[0] <= n


def test_one_thread_means_the_callers(use_threads):
    use_threads(1)
    assert threads.run([threading.get_ident] * 5) == [threading.get_ident()] * 5


def test_fewer_threads_than_were_there_before(use_threads):
    """Threads once started stay, but no more than n of them work."""
    use_threads(5)
    threads.run([lambda: sleep(1e-3)] * 10)
    use_threads(2)
    idents = threads.run([lambda: (sleep(2e-3), threading.get_ident())[1] for _ in range(12)])
    assert len(set(idents)) <= 2


class Trouble(Exception):
    pass


@on_threads
@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt, SystemExit])
def test_the_first_error_in_order_reaches_the_caller(n, error, use_threads):
    """Not the first in time; and threads work afterwards as before."""
    use_threads(n)
    ended = []

    def share(i):
        if i in (2, 5):
            sleep(0.02 if i == 2 else 0)
            raise error(i)
        sleep(1e-3)
        ended.append(i)
        return i

    for _ in range(3):
        ended.clear()
        with pytest.raises(error) as raised:
            in_time(lambda: threads.run([lambda i=i: share(i) for i in range(8)]))
        assert raised.value.args == (2,)
        if n > 1 and error is not KeyboardInterrupt:
            assert sorted(ended) == [0, 1, 3, 4, 6, 7]  # all of them, before the caller goes on
        assert in_time(lambda: threads.run([lambda i=i: i for i in range(6)])) == list(range(6))


@on_threads
def test_a_share_may_have_shares_of_its_own(n, use_threads):
    """It does them itself, one after the other: no thread waits for one that waits for it."""
    use_threads(n)

    def inner(i):
        def share(j):
            sleep(1e-3)
            return 10 * i + j, threading.get_ident()

        results = threads.run([lambda j=j: share(j) for j in range(4)])
        assert {ident for _, ident in results} == {threading.get_ident()}
        return [value for value, _ in results]

    for count in (2, 6):  # fewer than there are threads, and more
        found = in_time(lambda count=count: threads.run([lambda i=i: inner(i) for i in range(count)]))
        assert found == [[10 * i + j for j in range(4)] for i in range(count)]


def test_after_an_inner_run_the_caller_has_its_workers_again(use_threads):
    use_threads(2)
    in_time(lambda: threads.run([lambda: threads.run([int, int])] * 2))
    meeting = threading.Barrier(2, timeout=20)
    in_time(lambda: threads.run([meeting.wait] * 2))


@on_threads
def test_an_error_keeps_no_results(n, use_threads):
    """When it has been dealt with, the arrays of the other shares are gone, without the garbage collector."""
    use_threads(n)

    class Thing:
        pass

    made = []

    def share(i):
        if i == 1:
            raise Trouble
        thing = Thing()
        made.append(weakref.ref(thing))
        return thing

    gc.disable()
    try:
        with suppress(Trouble):
            threads.run([lambda i=i: share(i) for i in range(4)])
        until = monotonic() + 5
        while any(thing() is not None for thing in made) and monotonic() < until:
            sleep(1e-3)
        assert all(thing() is None for thing in made)
    finally:
        gc.enable()


@on_threads
def test_several_users_at_once(n, use_threads):
    """Each gets its own results, also while another one's shares fail."""
    use_threads(n)
    wrong = []

    def user(name):
        for turn in range(30):
            if name == 3 and turn % 3 == 0:
                try:
                    threads.run([lambda: 1 / 0] * 3)
                except ZeroDivisionError:
                    continue
                wrong.append(name)
            elif threads.run([lambda i=i: (name, i) for i in range(7)]) != [(name, i) for i in range(7)]:
                wrong.append(name)

    def all_of_them():
        users = [threading.Thread(target=user, args=(name,)) for name in range(5)]
        for thread in users:
            thread.start()
        for thread in users:
            thread.join()

    in_time(all_of_them)
    assert not wrong


@on_threads
def test_shares_compute_under_the_callers_error_state(n, use_threads):
    """np.errstate is of the thread that says it; and the next caller has his own."""
    use_threads(n)
    one = np.ones(3, np.float32)

    def share():
        sleep(1e-3)
        return one / 0

    with np.errstate(divide="ignore"):
        found = threads.run([share] * 6)
    assert np.isinf(found).all()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        threads.run([share] * 6)
    with np.errstate(divide="ignore"):
        threads.run([share] * 6)


def test_without_more_threads_of_the_system_the_caller_does_the_work(use_threads, monkeypatch):
    use_threads(4)
    monkeypatch.setattr(threads, "_started", 0)
    monkeypatch.setattr(threads, "_queue", SimpleQueue())

    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert threads.run([lambda i=i: i for i in range(9)]) == list(range(9))


def test_no_share_goes_on_after_the_caller_has_its_error(use_threads):
    """Nothing is written into the arrays of a call that is over."""
    use_threads(3)
    at_work = []

    def share(i):
        if i == 0:
            raise Trouble
        at_work.append(i)
        sleep(0.02)
        at_work.remove(i)

    for _ in range(3):
        with pytest.raises(Trouble):
            threads.run([lambda i=i: share(i) for i in range(3)])
        assert at_work == []


def test_workers_do_not_hold_what_their_last_share_made(use_threads):
    use_threads(3)

    class Thing:
        pass

    made = in_time(lambda: [weakref.ref(thing) for thing in threads.run([Thing] * 6)])
    until = monotonic() + 5
    while any(thing() is not None for thing in made) and monotonic() < until:
        sleep(1e-3)
    assert all(thing() is None for thing in made)


# --- how work is cut ------------------------------------------------------------------------------------------------


@on_threads
def test_parts_cover_a_range_exactly(n, use_threads):
    use_threads(n)
    for size in range(60):
        for least in (1, 2, 3, 7, 16, 59):
            parts = threads.parts(size, least)
            assert parts[0].start == 0
            assert parts[-1].stop == size
            assert all(a.stop == b.start for a, b in pairwise(parts))
            assert len(parts) == max(1, min(n, size // least))
            lengths = [part.stop - part.start for part in parts]
            assert max(lengths) - min(lengths) <= 1
            assert len(parts) == 1 or min(lengths) >= least


def test_work_is_cut_only_where_that_pays(use_threads, monkeypatch):
    """Each part has WORTH_WAKING multiply-adds or more."""
    use_threads(4)
    monkeypatch.setattr(threads, "WORTH_WAKING", 100)
    for work, parts in ((1, 1), (100, 1), (190, 1), (200, 2), (285, 2), (300, 3), (401, 4), (10_000, 4)):
        assert len(threads.over(lambda part: part, 40, work)) == parts, work
    assert [threads.worth_sharing(work) for work in (0, 100, 199, 200, 1e9)] == [False, False, False, True, True]
    assert threads.over(lambda part: part, 40, 200) == [slice(0, 20), slice(20, 40)]
    assert threads.over(lambda part: part, 1, 10_000) == [slice(0, 1)]
    assert threads.over(lambda part: part, 3, 0) == [slice(0, 3)]
    use_threads(1)
    assert not threads.worth_sharing(1e9)


# --- settings -------------------------------------------------------------------------------------------------------


def test_set_threads(use_threads):
    for n in (1, 3, 17):
        threads.set_threads(n)
        assert threads.get_threads() == n


@pytest.mark.parametrize(
    ("n", "error", "sentence"),
    [
        (0, ValueError, "set_threads: n is 0, needs at least 1"),
        (-2, ValueError, "set_threads: n is -2, needs at least 1"),
        (2.0, TypeError, "set_threads: n is 2.0, needs an integer"),
        ("2", TypeError, "set_threads: n is '2', needs an integer"),
        (4097, ValueError, "set_threads: n is above 4,096, needs at most that many"),
        (10**20, ValueError, "set_threads: n is above 4,096, needs at most that many"),
        (True, TypeError, "set_threads: n is True, needs an integer"),
        (None, TypeError, "set_threads: n is None, needs an integer"),
    ],
)
def test_set_threads_says_what_it_needs(n, error, sentence, use_threads):
    use_threads(3)
    before = blas_threads()
    with pytest.raises(error) as raised:
        threads.set_threads(n)
    assert str(raised.value) == sentence
    assert threads.get_threads() == 3
    assert blas_threads() == before


def test_limited_is_for_a_while(use_threads):
    """Threads and BLAS's threads are afterwards what they were, after an error too; None changes nothing."""
    use_threads(3)
    threadpool_limits(2)
    before = blas_threads()
    with threads.limited(1):
        assert threads.get_threads() == 1
        assert set(blas_threads()) <= {1}
        with threads.limited(5):
            assert threads.get_threads() == 5
            assert set(blas_threads()) <= {5}
            assert threads.run([threads.get_threads] * 3) == [5] * 3
        assert threads.get_threads() == 1
        assert set(blas_threads()) <= {1}
    assert (threads.get_threads(), blas_threads()) == (3, before)
    with pytest.raises(Trouble), threads.limited(4):
        raise Trouble
    assert (threads.get_threads(), blas_threads()) == (3, before)
    with threads.limited(None):
        assert (threads.get_threads(), blas_threads()) == (3, before)
    with pytest.raises(ValueError, match="set_threads: n is 0, needs at least 1"), threads.limited(0):
        pass
    assert (threads.get_threads(), blas_threads()) == (3, before)


ENVIRONMENTS = [  # variables, and how many threads there are then on a machine of 8 cores
    ({}, 8),
    ({"SCRATCHGEN_THREADS": "3"}, 3),
    ({"OMP_NUM_THREADS": "2"}, 2),
    ({"OPENBLAS_NUM_THREADS": "2"}, 2),
    ({"MKL_NUM_THREADS": "1"}, 1),
    ({"SCRATCHGEN_THREADS": "5", "OMP_NUM_THREADS": "2"}, 5),
    ({"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "1"}, 4),
    ({"OMP_NUM_THREADS": "4,2"}, 4),
    ({"OMP_NUM_THREADS": " 6 "}, 6),
    ({"SCRATCHGEN_THREADS": "100"}, 8),
    ({"SCRATCHGEN_THREADS": ""}, 8),
    ({"SCRATCHGEN_THREADS": "0"}, 8),
    ({"SCRATCHGEN_THREADS": "-3"}, 8),
    ({"SCRATCHGEN_THREADS": "all"}, 8),
    ({"SCRATCHGEN_THREADS": "2.5"}, 8),
    ({"SCRATCHGEN_THREADS": "none", "OMP_NUM_THREADS": "2"}, 2),
]


@pytest.mark.parametrize(("environment", "n"), ENVIRONMENTS)
def test_the_environment_says_how_many_threads(environment, n, monkeypatch):
    for name in threads._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "cores", lambda: 8)
    assert threads._first_setting() == n


@pytest.mark.parametrize("name", ["SCRATCHGEN_THREADS", "OMP_NUM_THREADS"])
def test_the_environment_is_read_when_the_package_is_imported(name):
    script = "from scratchgen.backend import threads; print(threads.get_threads(), threads.cores())"
    one, cores = map(int, python(script, **{name: "1"}).split())
    assert (one, cores) == (1, threads.cores())


@needs_blas_threads
@pytest.mark.parametrize("n", ["1", "2"])
def test_scratchgen_threads_speaks_for_blas_too(n):
    script = """
from scratchgen.backend import threads
from threadpoolctl import threadpool_info
threads.run([int])
print(threads.get_threads(), *{b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"})
"""
    if int(n) <= threads.cores():
        assert python(script, SCRATCHGEN_THREADS=n).split() == [n, n]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_cores_are_those_that_the_process_may_use():
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from scratchgen.backend import threads
print(threads.get_threads(), threads.cores())
"""
    assert python(script).split() == ["1", "1"]


# --- BLAS has threads of its own ------------------------------------------------------------------------------------


@needs_blas_threads
@on_threads
@pytest.mark.parametrize("shares", [1, 4])
@pytest.mark.parametrize("call", [lambda f: f(), in_time], ids=["main thread", "another thread"])
def test_blas_has_one_thread_while_shares_run_and_its_own_again_afterwards(call, shares, n, use_threads):
    use_threads(n)
    threadpool_limits(3)
    before = blas_threads()
    assert before == [3] * len(before)
    inside = call(lambda: threads.run([blas_threads] * shares))
    assert inside == [[1] * len(before)] * shares
    assert blas_threads() == before

    def fail():
        raise Trouble

    with pytest.raises(Trouble):
        call(lambda: threads.run([fail] * shares))
    assert blas_threads() == before


@needs_blas_threads
def test_users_may_limit_blas_on_any_thread_afterwards(use_threads):
    """threadpoolctl lets one thread at a time set BLAS's threads: the library does not keep that right."""
    use_threads(2)
    threads.run([int, int])

    def limit():
        with threadpool_limits(1):
            return blas_threads()

    assert set(in_time(limit)) == {1}


@needs_blas_threads
def test_set_threads_sets_those_of_blas_too(use_threads):
    for n in (2, 1, 3):
        threads.set_threads(n)
        assert set(blas_threads()) == {n}


@needs_blas_threads
def test_set_threads_while_shares_run(use_threads):
    """BLAS keeps its one thread, and has the new number when they have ended."""
    use_threads(2)

    def share():
        threads.set_threads(3)
        return blas_threads()

    for found in threads.run([share, share]):
        assert set(found) == {1}
    assert set(blas_threads()) == {3}
    assert threads.get_threads() == 3


@needs_blas_threads
def test_limited_while_shares_run(use_threads):
    """What it puts back is what BLAS has when nobody computes, not the one thread of that moment."""
    use_threads(2)
    threadpool_limits(3)

    def share():
        with threads.limited(2):
            return blas_threads()

    assert set(threads.run([share])[0]) == {1}
    assert set(blas_threads()) == {3}


@needs_blas_threads
def test_blas_is_held_until_the_last_user_is_done(use_threads):
    """A run of another thread begins within ours and ends after it: BLAS's threads come back at its end."""
    use_threads(2)
    inside, go_on = threading.Event(), threading.Event()

    def other():
        def share():
            inside.set()
            assert go_on.wait(20)
            return blas_threads()

        found.extend(threads.run([share]))

    found = []
    user = threading.Thread(target=other)

    def share():
        user.start()
        assert inside.wait(20)
        return blas_threads()

    assert set(threads.run([share])[0]) == {1}
    assert set(blas_threads()) == {1}
    go_on.set()
    user.join(20)
    assert set(found[0]) == {1}
    assert set(blas_threads()) == {2}


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_process_ends_while_its_workers_wait():
    script = """
from scratchgen.backend import threads
threads.set_threads(4)
print(threads.run([lambda i=i: i for i in range(8)]))
"""
    start = monotonic()
    assert python(script) == "[0, 1, 2, 3, 4, 5, 6, 7]\n"
    assert monotonic() - start < 20


def test_a_process_ends_while_its_workers_work():
    """As with Ctrl-C: nobody waits for daemons."""
    script = """
import threading, time
from scratchgen.backend import threads
threads.set_threads(3)
def call():
    threads.run([lambda: time.sleep(30)] * 3)
threading.Thread(target=call, daemon=True).start()
time.sleep(0.2)
"""
    start = monotonic()
    python(script)
    assert monotonic() - start < 20


FORK = """
import os, sys, threading
import numpy as np
from scratchgen.backend import numpy_ops, threads
from threadpoolctl import threadpool_info, threadpool_limits
threads.WORTH_WAKING = 0
threads.set_threads(3)
threadpool_limits(2)
x = np.arange(600, dtype=np.float32).reshape(200, 3)
numpy_ops.rows.FEW, numpy_ops.rows.BLOCK = 0, 30

def work():
    meeting = threading.Barrier(3, timeout=20)
    threads.run([meeting.wait] * 3)  # three threads are really there
    return numpy_ops.channel_sum(x).tolist(), [b["num_threads"] for b in threadpool_info() if b["user_api"] == "blas"]

def in_a_child(check):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            watchdog = threading.Timer(20, os._exit, (3,))
            watchdog.daemon = True
            watchdog.start()
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

right = work()
"""


@posix
def test_a_forked_child_has_workers_of_its_own():
    script = FORK + "print(in_a_child(lambda: work() == right and in_a_child(lambda: work() == right) == 0))\n"
    assert python(script + "print(work() == right)") == "0\nTrue\n"


@posix
def test_a_child_forked_by_a_share():
    """It has workers, though its parent was busy."""
    script = FORK + "print(threads.run([lambda: in_a_child(lambda: work() == right), int]))\n"
    assert python(script) == "[0, 0]\n"


@posix
def test_a_child_forked_while_another_thread_runs_shares():
    """What that thread was about to do it will never do in the child: no lock of its stays shut there, and BLAS gets
    its threads back."""
    script = (
        FORK
        + """
inside, go_on = threading.Event(), threading.Event()
def share():
    inside.set()
    go_on.wait(20)
user = threading.Thread(target=lambda: threads.run([share, share]))
user.start()
inside.wait(20)
print(in_a_child(lambda: work()[0] == right[0]))
print(in_a_child(lambda: work() == right))
go_on.set()
user.join()
print(work() == right)
"""
    )
    assert python(script) == "0\n0\nTrue\n"


@posix
def test_a_child_forked_while_another_thread_holds_every_lock():
    script = (
        FORK
        + """
from scratchgen.backend.numpy_ops import memory
memory.LARGE = 1
locks = [threads._starting, threads.one_blas_thread.lock, memory._lock]
for lock in locks:
    lock.acquire()
print(in_a_child(lambda: work() == right and memory.empty((9,), np.float32).shape == (9,)))
for lock in locks:
    lock.release()
print(work() == right)
"""
    )
    assert python(script) == "0\nTrue\n"


# --- the same numbers always ----------------------------------------------------------------------------------------


@pytest.fixture
def load():
    """Threads that take the cores, and Python's lock, away from ours."""
    stop = threading.Event()

    def burn():
        a = np.ones((40, 40))
        while not stop.is_set():
            a = a @ a * 1e-3
            sum(range(200))

    burners = [threading.Thread(target=burn, daemon=True) for _ in range(2)]
    for thread in burners:
        thread.start()
    yield
    stop.set()
    for thread in burners:
        thread.join()


def _kernels():
    """One call of each, on numbers whose sums round."""

    def normal(rng, *shape):
        return rng.standard_normal(shape).astype(np.float32)

    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (10, 8), (5, 4))
    calls = Problem(0, 7, 5, 4, g, ("C",) * 3).calls(normal)
    rng = np.random.default_rng(1)
    x, y = normal(rng, 331, 3), normal(rng, 331, 3)
    for form in (columns, winograd):
        for name in MAPS:
            yield getattr(form, name), calls[name]
    for ops in (numpy_ops, compiled):
        yield ops.matmul, (x, y.T)
        yield ops.channel_sum, (x,)
        yield (lambda ops=ops: np.stack(ops.channel_sums(PRODUCTS, x, y))), ()
        yield (lambda ops=ops: np.append(*ops.sum_with_map(PRODUCTS, x, y))), ()
        yield (lambda ops=ops: np.stack(ops.mean_and_variance(x))), ()


PRODUCTS = formula(lambda a, b: (a, a * b))
SMALL = {
    "rows__FEW": 0,
    "rows__BLOCK": 20,
    "compiled_rows__FEW": 0,
    "compiled_rows__PIECE": 20,
    "compiled_rows__LEAST": 20,
    "compiled_rows__WIDE": 6,
    "columns__BLOCK_BYTES": 3000,
    "winograd__TILES": 4,
}


@on_threads
def test_the_same_numbers_twenty_times_under_load(n, use_threads, load):
    use_threads(n)
    with constants(**SMALL):
        first = [f(*args) for f, args in _kernels()]
        for _ in range(20):
            for (f, args), wanted in zip(_kernels(), first, strict=True):
                np.testing.assert_array_equal(f(*args), wanted)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_same_numbers_whichever_thread_ends_first(n, use_threads, monkeypatch):
    """Shares are held up by turns, so that each is last once."""
    use_threads(n)
    run, late = threads.run, [0]

    def held_up(shares):
        def slow(i, share):
            sleep(2e-3 if i == late[0] % len(shares) else 0)
            value = share()
            sleep(2e-3 if i == (late[0] + 1) % len(shares) else 0)
            return value

        return run([lambda i=i, share=share: slow(i, share) for i, share in enumerate(shares)])

    with constants(**SMALL):
        first = [f(*args) for f, args in _kernels()]
        monkeypatch.setattr(threads, "run", held_up)
        for late[0] in range(n):
            for (f, args), wanted in zip(_kernels(), first, strict=True):
                np.testing.assert_array_equal(f(*args), wanted)


# --- matrix products on the threads of BLAS ---

PRODUCTS_ON_THREADS = """
import scratchgen  # before NumPy, so that BLAS is as the command line has it
import numpy as np
from scratchgen.backend.numpy_ops import dense
from scratchgen.models import dense_autoencoder
from scratchgen.optim import Adam

rng = np.random.default_rng(0)
shapes = [(128, 784, 512), (64, 784, 512), (128, 512, 784), (256, 1000, 300), (64, 8192, 1), (1, 900, 700)]
shapes += [tuple(int(2 ** rng.uniform(0, 10.5)) for _ in range(3)) for _ in range(120)]
wrong = []
for dtype in (np.float32, np.float64):
    for M, K, N in shapes:
        a, b = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
        turned = np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T).T
        for x, y in ((a, b), (turned[0], b), (a, turned[1])):
            found = []
            for n in (1, 2, 3, 8):
                scratchgen.set_threads(n)
                dense.crowd.alone = 0
                found.append(dense.matmul(x, y).tobytes())
            if len(set(found)) > 1:
                wrong.append((M, K, N, dtype.__name__))
weights = set()
for n in (1, 2, 3, 8):
    scratchgen.set_threads(n)
    rng = np.random.default_rng(1)
    model = dense_autoencoder(rng=rng)
    optimizer = Adam(model.parameters())
    for _ in range(3):
        model.train_step(rng.random((128, 28, 28, 1), np.float32), optimizer)
    weights.add(b"".join(a.tobytes() for a in model.state().values()))
print(dense.BLAS_THREADS, len(weights), wrong)
"""


def test_products_are_the_same_bits_on_any_number_of_blas_threads():
    """As the command line runs them: with BLAS's own threads on the processors whose kernels allow it."""
    threads_of_blas, weights, wrong = python(PRODUCTS_ON_THREADS, SCRATCHGEN_FAST="0").split(maxsplit=2)
    assert wrong.strip() == "[]", threads_of_blas
    assert weights == "1"

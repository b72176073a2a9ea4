"""The stand-in for CuPy is strict: each fault that it is there to find is planted here, and found."""

import copy
import inspect
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin
from standin import signatures
from standin.functions import FUNCTIONS, WRITTEN_OUT
from standin.modules import MODULES
from standin.signatures import needs_cupy

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="kernels on the CPU need g++")


@pytest.fixture
def cp():
    with standin.installed():
        import cupy

        yield cupy


@pytest.fixture
def x(cp):
    return standin.array(np.arange(6, dtype=np.float32).reshape(2, 3))


def counted(work):
    """What the work asks of the device."""
    before = standin.counts()
    work()
    return standin.counts() - before


# --- it is there, and then it is not --------------------------------------------------------------------------------


def test_it_takes_the_place_of_cupy_and_gives_it_back():
    from scratchgen import backend

    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("cupy", "cupyx")}
    with standin.installed(), standin.installed():
        import cupy
        import cupyx  # noqa: F401

        assert cupy is MODULES["cupy"]
        ops = backend.load_kernels("cupy")
        assert ops.xp is cupy
        assert backend.backend_of(cupy.ones(1)) == "cupy"
    after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("cupy", "cupyx")}
    assert after == before
    assert not any(name.startswith("scratchgen.backend.cupy_") for name in vars(backend))
    assert backend.arrays._imported.cache_info().currsize == 0
    with standin.installed():
        assert backend.load_kernels("cupy") is ops  # and is not imported again


def test_what_was_raised_inside_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError), standin.installed():
        1 / 0  # noqa: B018
    assert sys.modules.get("cupy") is not MODULES["cupy"]


# --- the host's arrays and the device's do not mix ------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert", [np.asarray, np.array, lambda x: np.zeros((2, 3)).__setitem__(..., x), list, memoryview]
)
def test_no_implicit_conversion(x, convert):
    if convert is list:
        assert all(type(row) is type(x) for row in convert(x))  # not numbers
    else:
        with pytest.raises(
            TypeError, match=r"Implicit conversion|bytes-like|only .* arrays can be converted|explicit"
        ):
            convert(x)


HOST = np.ones((2, 3), np.float32)
MIXED = {
    "array + numpy": lambda cp, x: x + HOST,
    "numpy + array": lambda cp, x: HOST + x,
    "array += numpy": lambda cp, x: x.__iadd__(HOST),
    "numpy += array": lambda cp, x: HOST.copy().__iadd__(x),
    "array == numpy": lambda cp, x: x == HOST,
    "numpy < array": lambda cp, x: HOST < x,  # noqa: SIM300
    "array @ numpy": lambda cp, x: x @ HOST.T,
    "numpy @ array": lambda cp, x: HOST.T @ x,
    "cp.maximum": lambda cp, x: cp.maximum(x, HOST),
    "cp.add, out": lambda cp, x: cp.add(x, x, out=HOST.copy()),
    "cp.where": lambda cp, x: cp.where(x > 1, x, HOST),
    "cp.concatenate": lambda cp, x: cp.concatenate([x, HOST]),
    "cp.sum": lambda cp, x: cp.sum(HOST),
    "cp.dot": lambda cp, x: cp.dot(x, HOST.T),
    "cp.matmul": lambda cp, x: cp.matmul(HOST.T, x),
    "cp.zeros_like": lambda cp, x: cp.zeros_like(HOST),
    "numpy as an index": lambda cp, x: x[np.array([0, 1])],
    "numpy as a mask": lambda cp, x: x[HOST > 0],
    "numpy as a value": lambda cp, x: x.__setitem__(0, HOST[0]),
    "np.sin": lambda cp, x: np.sin(x),
    "np.add": lambda cp, x: np.add(x, x),
    "np.add, out": lambda cp, x: np.add(HOST, HOST, out=x),
    "np.add.reduce": lambda cp, x: np.add.reduce(x),
    "np.sum": lambda cp, x: np.sum(x),
    "np.where": lambda cp, x: np.where(x > 1, x, x),
    "np.concatenate": lambda cp, x: np.concatenate([x, x]),
    "np.zeros_like": lambda cp, x: np.zeros_like(x),
    "a list": lambda cp, x: cp.sum([1.0, 2.0]),
    "a list as an operand": lambda cp, x: x + [1.0, 2.0, 3.0],  # noqa: RUF005
    "None": lambda cp, x: x * None,
    "str": lambda cp, x: cp.maximum(x, "1"),
    "a device array as a size": lambda cp, x: cp.zeros(x.sum().astype(int)),
    "a device array as a shape": lambda cp, x: x.reshape(cp.asarray(3), 2),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_mixing_is_refused(cp, x, mix):
    with pytest.raises(
        TypeError, match=r"Unsupported type|was called with a cupy|ArrayType|interpreted as an integer"
    ):
        mix(cp, x)


@pytest.mark.parametrize("scalar", [2, 2.5, True, np.float32(2), np.float64(2), np.int64(3), np.bool_(True)])
def test_scalars_mix_and_promote_as_in_numpy(x, scalar):
    host = x.get()
    for work in (
        lambda a: a + scalar,
        lambda a: scalar * a,
        lambda a: scalar - a,
        lambda a: a < scalar,
        lambda a: scalar > a,
    ):
        expected, result = work(host), work(x)
        assert type(result) is type(x)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.get(), expected)


# --- only what CuPy has ---------------------------------------------------------------------------------------------


@needs_cupy
def test_a_name_that_cupy_lacks_is_missing(cp, x):
    for name in ("errstate", "nditer", "block", "insert", "vecdot"):
        with pytest.raises(AttributeError, match=f"module 'cupy' has no attribute '{name}'"):
            getattr(cp, name)
    for name in ("setflags", "__index__", "ctypes", "newbyteorder", "__array_interface__"):
        assert not hasattr(x, name)
    with pytest.raises(AttributeError):
        x.note = 1  # no attributes of one's own, either
    with pytest.raises(TypeError):
        range(x.sum())


LACKING = {
    "maximum(where=)": lambda cp, x: cp.maximum(x, 0, where=x > 0),
    "add(order=)": lambda cp, x: cp.add(x, x, order="F"),
    "sum(initial=)": lambda cp, x: cp.sum(x, initial=0),
    "sum(where=)": lambda cp, x: x.sum(where=x > 0),
    "max(initial=)": lambda cp, x: x.max(initial=0),
    "mean(where=)": lambda cp, x: cp.mean(x, where=x > 0),
    "var(mean=)": lambda cp, x: cp.var(x, mean=x.mean(), axis=0),
    "std(correction=)": lambda cp, x: x.std(correction=1),
    "clip(min=)": lambda cp, x: cp.clip(x, min=0, max=1),
    "einsum(out=)": lambda cp, x: cp.einsum("ij->j", x, out=cp.zeros(3, "f")),
    "take(mode=)": lambda cp, x: cp.take(x, 0, mode="clip"),
    "sort(stable=)": lambda cp, x: cp.sort(x, stable=True),
    "argsort(stable=)": lambda cp, x: cp.argsort(x, stable=True),
    "allclose(5 positional)": lambda cp, x: cp.sum(x, 0, None, None, False, 0),
    "zeros(like=)": lambda cp, x: cp.zeros(3, like=x),
    "astype(dtype, device=)": lambda cp, x: x.astype("d", device=0),
    "reshape(shape=)": lambda cp, x: cp.reshape(x, shape=(3, 2)),
}


@needs_cupy
@pytest.mark.parametrize("call", LACKING.values(), ids=LACKING)
def test_a_keyword_that_cupy_lacks_is_refused(cp, x, call):
    with pytest.raises(TypeError, match=r"unexpected keyword|Wrong arguments|did not|Did not|positional argument"):
        call(cp, x)


@needs_cupy
def test_every_name_and_parameter_is_in_cupy():
    known = signatures.table()
    names = {*known["functions"], *known["ufuncs"], *known["others"], "is_available"}
    assert {name for name in vars(MODULES["cupy"]) if not name.startswith("_")} <= names
    for function in WRITTEN_OUT:
        mine = signatures.parameters_of(function)
        assert mine == known["functions"][function.__name__], function.__name__
    for kind, module in (("ndarray", "cupy"), ("Stream", "cupy.cuda"), ("Event", "cupy.cuda")):
        theirs = known["classes"][kind]
        for name, member in vars(getattr(MODULES[module], kind)).items():
            if name.startswith("_"):
                continue
            assert name in theirs or name in ("seen", "ptr", "timed", "device_id"), f"{kind}.{name}"
            if (
                inspect.isfunction(member)
                and (parameters := theirs.get(name)) is not None
                and "*args" not in str(inspect.signature(member))
            ):
                assert signatures.parameters_of(member, bound=True) == parameters, f"{kind}.{name}"
    for module, theirs in known["modules"].items():
        mine = {name for name in vars(MODULES[module]) if not name.startswith("_")}
        assert mine - {"runtime", "compiler"} <= theirs, module


SAME = {  # functions that NumPy has, too: called alike, with the same result
    "sum": lambda xp, a: xp.sum(a, 1, keepdims=True),
    "mean": lambda xp, a: xp.mean(a, axis=(0, 1)),
    "var": lambda xp, a: a.var(axis=0, ddof=1),
    "argmax": lambda xp, a: a.argmax(axis=1),
    "concatenate": lambda xp, a: xp.concatenate((a, a), axis=1),
    "stack": lambda xp, a: xp.stack([a, a], -1),
    "pad": lambda xp, a: xp.pad(a, ((1, 0), (0, 2)), mode="constant", constant_values=7),
    "einsum": lambda xp, a: xp.einsum("ij,kj->ik", a, a),
    "tensordot": lambda xp, a: xp.tensordot(a, a, axes=((1,), (1,))),
    "broadcast_to": lambda xp, a: xp.broadcast_to(a[0], (4, 3)) + a[1],
    "split": lambda xp, a: xp.split(a, 3, axis=1)[1],
    "moveaxis": lambda xp, a: xp.moveaxis(a, 0, 1),
    "roll": lambda xp, a: xp.roll(a, 1, axis=1),
    "cumsum": lambda xp, a: xp.cumsum(a, axis=1),
    "sort": lambda xp, a: xp.sort(-a, axis=1),
    "divmod": lambda xp, a: divmod(a, 4)[1],
    "power": lambda xp, a: a**2 + 2**a,
    "where": lambda xp, a: xp.where(a > 2, a, 0.5),
    "meshgrid": lambda xp, a: xp.meshgrid(a[0], a[1], indexing="ij")[1],
    "tile": lambda xp, a: xp.tile(a, (2, 1)),
    "linspace": lambda xp, a: xp.linspace(0, 1, 5),
    "full_like": lambda xp, a: xp.full_like(a, 3),
    "logical": lambda xp, a: xp.logical_and(a > 1, ~(a > 4)),
    "abs": lambda xp, a: abs(-a) + xp.abs(-a),
    "casts": lambda xp, a: (a * 1.5).astype("int32") % 2,
    "allclose": lambda xp, a: xp.allclose(a, a + 1e-9),
    "divide by zero": lambda xp, a: xp.log(a - a) + 1 / (a - a),
    "slices": lambda xp, a: a[:, ::-2][..., None, 0],
    "norm": lambda xp, a: xp.linalg.norm(a, axis=1),
}


@pytest.mark.parametrize("work", SAME.values(), ids=SAME)
def test_what_both_libraries_have_gives_the_same(cp, x, work):
    with np.errstate(all="ignore"):
        expected = work(np, x.get())
    result = work(cp, x)
    assert type(result) is cp.ndarray
    assert result.dtype == np.asarray(expected).dtype
    assert result.shape == np.shape(expected)
    np.testing.assert_array_equal(result.get(), expected)


def test_only_numbers_are_on_the_device(cp):
    for make in (lambda: cp.zeros(2, object), lambda: cp.asarray(["a"]), lambda: cp.ones(2, np.longdouble)):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            make()


# --- synchronisation, copies, launches ------------------------------------------------------------------------------

WAITS = {
    "float()": lambda cp, x: float(x.sum()),
    "int()": lambda cp, x: int(x[0, 0]),
    "bool()": lambda cp, x: bool((x > 7).any()),
    "if": lambda cp, x: 1 if x[0, 0] else 2,
    "item": lambda cp, x: x.sum().item(),
    "get": lambda cp, x: x.get(),
    "tolist": lambda cp, x: x.tolist(),
    "asnumpy": lambda cp, x: cp.asnumpy(x),
    "str": lambda cp, x: str(x),
    "repr": lambda cp, x: repr(x),
    "format": lambda cp, x: f"{x.sum():.3f}",
    "pickle": lambda cp, x: pickle.dumps(x.sum()),
    "mask": lambda cp, x: x[x > 1],
    "mask, written": lambda cp, x: x.__setitem__(x > 1, cp.zeros(4, "f")),
    "nonzero": lambda cp, x: cp.nonzero(x),
    "where": lambda cp, x: cp.where(x),
    "unique": lambda cp, x: cp.unique(x),
    "in": lambda cp, x: 9 in x[0, :1],
    "max of Python's": lambda cp, x: max(x[0, :2]),
    "Stream": lambda cp, x: cp.cuda.get_current_stream().synchronize(),
    "Event": lambda cp, x: cp.cuda.get_current_stream().record().synchronize(),
    "Device": lambda cp, x: cp.cuda.Device().synchronize(),
    "runtime": lambda cp, x: cp.cuda.runtime.deviceSynchronize(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_waiting_for_the_device_is_counted_and_can_be_forbidden(cp, x, wait):
    with standin.no_sync(), pytest.raises(AssertionError, match="waits for the device"):
        wait(cp, x)
    assert counted(lambda: wait(cp, x)).syncs == 1


def test_what_does_not_wait(cp, x):
    with standin.no_sync():
        y = cp.exp(x @ x.T).sum(axis=0) * cp.asarray(HOST[0, :2])
        y[0] += 1
        y[cp.asarray([1, 0])] *= 2
        y[y > 0] = 0
        assert [row.shape for row in x] == [(3,), (3,)]
        assert len(x) == 2
        assert copy.deepcopy(x).shape == x.shape


def test_reductions_and_single_elements_stay_on_the_device(cp, x):
    for part in (x.sum(), cp.max(x), x.mean(), x[1, 2], cp.dot(x[0], x[1]), cp.array_equal(x, x), x.all()):
        assert type(part) is cp.ndarray
        assert part.shape == ()
    x[1][2] = 9  # through a view of one element's row
    assert x[1, 2].item() == 9


def test_launches_allocations_and_copies_are_counted(cp, x):
    assert counted(lambda: x + 1) == (1, 0, 1, 0, 0)
    assert counted(lambda: cp.add(x, 1, out=x)) == (1, 0, 0, 0, 0)
    assert counted(lambda: x[1:].T.reshape(-1)) == (0, 0, 0, 0, 0)
    assert counted(lambda: x.T.reshape(-1)) == (1, 0, 1, 0, 0)
    assert counted(lambda: cp.asarray(HOST)) == (0, 0, 1, 1, 0)
    assert counted(lambda: x.set(HOST)) == (0, 0, 0, 1, 0)
    assert counted(lambda: x.get()) == (0, 1, 0, 0, 1)
    assert counted(lambda: x.sum().item()) == (1, 1, 1, 0, 1)
    assert counted(lambda: x[0].__iadd__(1)) == (1, 0, 0, 0, 0)

    def add_to_a_part():
        x[0] += 1  # assigns the part to itself, too, which is no kernel

    assert counted(add_to_a_part) == (1, 0, 0, 0, 0)
    pool, before = cp.get_default_memory_pool(), cp.get_default_memory_pool().used_bytes()
    held = cp.zeros(100, "f")
    view = held[:3]
    del held
    assert pool.used_bytes() - before == 400
    del view
    assert pool.used_bytes() == before


# --- memory ---------------------------------------------------------------------------------------------------------


def test_what_was_not_written_is_wild(cp, x):
    for empty in (cp.empty((3, 2), "f"), cp.empty_like(x), cp.ndarray((4,))):
        assert np.isnan(empty.get()).all()
    for dtype in ("int32", "uint8", "int64"):
        assert abs(int(cp.empty(3, dtype)[1])) > 100


def test_every_array_has_memory_of_its_own(cp, x):
    for y in (x + 1, x.copy(), x[0].copy(), cp.concatenate([x, x])[:2].copy(), x.T.reshape(-1), cp.empty(5), x.sum()):
        assert y.base is None
        assert y._host.flags.owndata
        assert y._memory.nbytes == y.nbytes
    view = x[1:][:, :2]
    assert view.base is x
    assert view.data.ptr == x.data.ptr + 12
    assert view.data.mem is x.data.mem
    view += 1
    assert x[1, 0].item() == 4


def test_results_are_c_ordered(cp, x):
    f = x.T
    assert not f.flags.c_contiguous
    for y in (f + f, f * 2, -f, cp.exp(f), cp.where(f > 0, f, f), f > 0, cp.concatenate([f, f]), f @ x, f.copy()):
        assert y.flags.c_contiguous
    assert f.astype("d").flags.f_contiguous  # K is CuPy's default here, as it is NumPy's
    assert cp.empty_like(f).flags.f_contiguous


def test_integer_arrays_as_indices_wrap_round_and_integers_do_not(cp, x):
    i = cp.asarray([1, 2, -1, 5])
    np.testing.assert_array_equal(x[i, 0].get(), [3, 0, 3, 3])
    np.testing.assert_array_equal(cp.take(x, i, axis=0)[:, 0].get(), [3, 0, 3, 3])
    with pytest.raises(IndexError):
        x[2]


def test_writing_to_what_was_broadcast_is_refused(cp, x):
    y = cp.broadcast_to(x[0], (4, 3))
    for write in (lambda: y.fill(0), lambda: y.__setitem__(0, 1), lambda: y.__iadd__(1), lambda: cp.add(y, 1, out=y)):
        with pytest.raises(ValueError, match="read-only"):
            write()


# --- copies that are under way --------------------------------------------------------------------------------------


@pytest.fixture
def under_way(cp):
    """A page-locked buffer, an array on the device, and a stream for copies that waited for what came before."""
    import cupyx

    host, device, copies = (
        cupyx.empty_pinned(4, np.float32),
        cp.empty(4, np.float32),
        cp.cuda.Stream(non_blocking=True),
    )
    copies.wait_event(cp.cuda.get_current_stream().record())
    host[:] = range(4)
    return host, device, copies


def test_a_copy_is_there_when_it_was_waited_for(cp, under_way):
    host, device, copies = under_way
    with standin.no_sync():
        device.set(host, stream=copies)
        cp.cuda.Stream.null.wait_event(copies.record())
        result = device * 2
    np.testing.assert_array_equal(result.get(), [0, 2, 4, 6])


def test_a_copy_that_was_not_waited_for_is_not_there(cp, under_way):
    host, device, copies = under_way
    early = copies.record()
    device.set(host, stream=copies)
    with pytest.raises(AssertionError, match="used before its copy was waited for"):
        device * 2
    with pytest.raises(AssertionError, match="used before its copy was waited for"):
        device[1:3].sum()
    cp.cuda.Stream.null.wait_event(early)  # an event from before the copy
    with pytest.raises(AssertionError, match="used before its copy was waited for"):
        device.get()
    assert np.isnan(device._host).all()


@pytest.mark.parametrize("wait", ["stream", "event", "device", "done"])
def test_the_host_may_wait_for_a_copy(cp, under_way, wait):
    host, device, copies = under_way
    device.set(host, stream=copies)
    event = copies.record()
    if wait == "done":
        assert not event.done  # it is not at once
        assert event.done
    else:
        {"stream": copies, "event": event, "device": cp.cuda.Device()}[wait].synchronize()
    host[:] = 9  # and may write to the buffer then
    np.testing.assert_array_equal((device + 0).get(), range(4))


def test_overwriting_what_may_still_be_read_is_found(cp, under_way):
    host, device, copies = under_way
    compute = cp.cuda.get_current_stream()
    device.set(host, stream=copies)
    compute.wait_event(copies.record())
    early = compute.record()
    device * 2
    copies.wait_event(early)  # an event from before the use
    copies.synchronize()
    with pytest.raises(AssertionError, match="overwritten while the other stream may still read it"):
        device.set(host, stream=copies)
    copies.wait_event(compute.record())
    device.set(host, stream=copies)


def test_overwriting_memory_that_was_another_array_s_is_found(cp):
    device, copies = cp.empty(4), cp.cuda.Stream(non_blocking=True)
    cp.ones(3)
    with pytest.raises(AssertionError, match="overwritten while"):
        device.set(np.zeros(4), stream=copies)


def test_rewriting_the_host_s_buffer_too_early_is_found(cp, under_way):
    host, device, copies = under_way
    device.set(host, stream=copies)
    host[:] = 9
    with pytest.raises(AssertionError, match="a host buffer was rewritten"):
        cp.cuda.Stream.null.wait_event(copies.record())
    device.set(host, stream=copies)
    cp.cuda.Stream.null.wait_event(copies.record())  # on the device; the host knows nothing of it
    host[:] = 10
    with pytest.raises(AssertionError, match="a host buffer was rewritten"):
        device.set(host, stream=copies)
    device.set(host, stream=copies)
    copies.synchronize()


def test_page_locked_memory_is_read_after_asarray_returns(cp, under_way):
    host, _, _ = under_way
    device = cp.asarray(host)
    host[:] = 9
    with pytest.raises(AssertionError, match="a host buffer was rewritten"):
        device.get()


def test_what_is_fetched_without_blocking_is_there_later(cp, x):
    before = standin.counts()
    host = x.get(blocking=False)
    assert (standin.counts() - before).syncs == 0
    assert np.isnan(host).all()
    x += 1  # queued after the copy
    cp.cuda.get_current_stream().synchronize()
    np.testing.assert_array_equal(host, np.arange(6).reshape(2, 3))


def test_time_between_events(cp):
    start, end = cp.cuda.Event(), cp.cuda.Event()
    start.record()
    cp.ones(3)
    end.record()
    with pytest.raises(RuntimeError, match="cudaErrorNotReady"):
        cp.cuda.get_elapsed_time(start, end)
    end.synchronize()
    assert cp.cuda.get_elapsed_time(start, end) >= 0


# --- kernels --------------------------------------------------------------------------------------------------------

KERNELS = r"""
struct Pair { int n; float scale; };

template <class T> __device__ __forceinline__ T block_sum(T x, T *shared) {
    shared[threadIdx.x] = x;
    __syncthreads();
    for (int k = blockDim.x / 2; k > 0; k /= 2) {
        if (threadIdx.x < k) shared[threadIdx.x] += shared[threadIdx.x + k];
        __syncthreads();
    }
    return shared[0];
}

extern "C" __global__ void sums(const float *__restrict__ x, float *y, int n) {
    __shared__ float shared[64];
    float a = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) a += x[blockIdx.x * n + i];
    float total = block_sum(a, shared);
    if (threadIdx.x == 0) y[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(64) dynamic_sum(const double *x, double *y) {
    extern __shared__ double shared[];
    double total = block_sum(x[threadIdx.x], shared);
    y[threadIdx.x] = total;
}

extern "C" __global__ void scale(const float *x, float *y, Pair p) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.n) y[i] = p.scale * max(x[i], 0.0f);
}

extern "C" __global__ void cells(const float4 *x, unsigned char *y) { y[threadIdx.x] = x[threadIdx.x].w > 0; }

extern "C" __global__ void divergent(float *y) {
    if (threadIdx.x < 7) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers(float *y) {
    if (threadIdx.x < 7) __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}

extern "C" __global__ void unwritten(float *y) {
    __shared__ float shared[32];
    if (threadIdx.x % 2) shared[threadIdx.x] = 1;
    __syncthreads();
    y[blockIdx.x * blockDim.x + threadIdx.x] = shared[threadIdx.x];
}

extern "C" __global__ void racing(float *y) { y[0] = blockIdx.x * blockDim.x + threadIdx.x; }

extern "C" __global__ void where_am_i(int *y) {
    int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    y[b * blockDim.x * blockDim.y * blockDim.z + t] += 1;
}
"""


@pytest.fixture
def kernel(cp):
    """kernel(name): one of KERNELS."""
    module = cp.RawModule(code=KERNELS, options=("--std=c++17", "--fmad=false", "-DUNUSED=1"))
    return module.get_function


@needs_compiler
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_kernels_with_barriers_shared_memory_and_structs(cp, kernel, monkeypatch, order):
    monkeypatch.setenv("SCRATCHGEN_SHIM_ORDER", order)
    x = cp.arange(300, dtype="f").reshape(3, 100)
    y = cp.empty(3, "f")
    assert counted(lambda: kernel("sums")((3,), (64,), (x, y, np.int32(100)))) == (1, 0, 0, 0, 0)
    np.testing.assert_array_equal(y.get(), x.get().sum(axis=1))

    z = cp.empty(32)
    kernel("dynamic_sum")((1,), (32, 1), (cp.arange(32.0), z), shared_mem=256)
    np.testing.assert_array_equal(z.get(), np.full(32, 496.0))

    pair = np.array((5, 2.0), np.dtype([("n", "i4"), ("scale", "f4")]))
    u = cp.empty(8, "f")
    kernel("scale")((2,), (4,), (cp.arange(8, dtype="f") - 2, u, pair))
    np.testing.assert_array_equal(u.get(), [0, 0, 0, 2, 4, np.nan, np.nan, np.nan])

    seen = cp.zeros(2 * 3 * 2 * 4 * 2 * 3, "int32")
    kernel("where_am_i")((2, 3, 2), (4, 2, 3), (seen,))
    assert (seen.get() == 1).all()


@needs_compiler
def test_the_order_of_threads_can_be_turned_round(cp, kernel, monkeypatch):
    y = cp.zeros(1, "f")
    kernel("racing")((3,), (5,), (y,))
    assert y.item() == 14
    monkeypatch.setenv("SCRATCHGEN_SHIM_ORDER", "reverse")
    kernel("racing")((3,), (5,), (y,))
    assert y.item() == 0


@needs_compiler
def test_a_barrier_that_not_all_threads_reach_is_an_error(cp, kernel):
    y = cp.zeros(32, "f")
    for name, words in (
        ("divergent", "25 threads wait .* 7 have returned"),
        ("two_barriers", "wait in line .* and in"),
    ):
        with pytest.raises(RuntimeError, match=f"__syncthreads in divergent code: .*{words}"):
            kernel(name)((1,), (32,), (y,))
    kernel("divergent")((1,), (4,), (y,))  # nobody waits: that is none


@needs_compiler
def test_shared_memory_is_nan_at_the_start_of_every_block(cp, kernel):
    y = cp.zeros(64, "f")
    kernel("unwritten")((2,), (32,), (y,))
    np.testing.assert_array_equal(y.get(), [np.nan, 1] * 32)


X, Y, N = "x", "y", np.int32(4)
WRONG_ARGUMENTS = {
    "too few": ((X, Y), TypeError, "2 arguments, has 3"),
    "too many": ((X, Y, N, N), TypeError, "4 arguments, has 3"),
    "a Python int": ((X, Y, 4), TypeError, "is a int, needs a device array or np.int32"),
    "8 bytes for 4": ((X, Y, np.int64(4)), TypeError, r"8 bytes \(int64\), the parameter has 4"),
    "float for int": ((X, Y, np.float32(4)), TypeError, "is a float32, the parameter's type code is 'i'"),
    "a number for a pointer": ((np.uint64(0), Y, N), TypeError, "the parameter is a pointer"),
    "a pointer for a number": ((X, Y, X), TypeError, "is a device array, the parameter is no pointer"),
    "a NumPy array": ((HOST, Y, N), TypeError, "only size one is passed by value"),
    "float64 for float32": (("double", Y, N), TypeError, "dtype float64, the parameter points to 'f'"),
    "int32 for float32": (("int", Y, N), TypeError, "dtype int32, the parameter points to 'f'"),
    "not contiguous": (("strided", Y, N), AssertionError, "argument 0 is not C-contiguous"),
    "transposed": (("transposed", Y, N), AssertionError, "argument 0 is not C-contiguous"),
    "broadcast, written": ((X, "broadcast", N), ValueError, "argument 1 was broadcast"),
}


@needs_compiler
@pytest.mark.parametrize(("args", "error", "words"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused(cp, kernel, args, error, words):
    arrays = {
        "x": cp.zeros(4, "f"),
        "y": cp.zeros(1, "f"),
        "double": cp.zeros(4),
        "int": cp.zeros(4, "int32"),
        "strided": cp.zeros(8, "f")[::2],
        "transposed": cp.zeros((2, 3), "f").T,
        "broadcast": cp.broadcast_to(cp.zeros((1, 1), "f"), (1, 1, 1)),
    }
    with pytest.raises(error, match=words):
        kernel("sums")((1,), (4,), tuple(arrays[arg] if isinstance(arg, str) else arg for arg in args))


@needs_compiler
def test_wrong_launches_are_refused(cp, kernel):
    y, racing = cp.zeros(4096, "f"), kernel("racing")
    for grid, block in (
        ((1,), (1025,)),
        ((1,), (512, 4)),
        ((1,), (1, 1, 65)),
        ((1, 65536), (1,)),
        ((0,), (1,)),
        ((2**31,), (1,)),
    ):
        with pytest.raises(ValueError, match="CUDA_ERROR_INVALID_VALUE"):
            racing(grid, block, (y,))
    with pytest.raises(ValueError, match="shared memory"):
        racing((1,), (1,), (y,), shared_mem=(48 << 10) + 1)
    for grid, block in ((1, (1,)), ([1], (1,)), ((1.0,), (1,))):
        with pytest.raises(TypeError, match="grid"):
            racing(grid, block, (y,))
    with pytest.raises(TypeError):
        racing((1,), (1,), (y,), shared=1)
    with pytest.raises(AssertionError, match="not aligned to 16 bytes"):
        kernel("cells")((1,), (1,), (y[1:9], cp.zeros(2, "uint8")))
    kernel("cells")((1,), (2,), (y[4:12], cp.zeros(2, bool)))  # a bool is a byte


@needs_compiler
def test_kernels_wait_for_copies_too(cp, kernel, under_way):
    host, device, copies = under_way
    device.set(host, stream=copies)
    with pytest.raises(AssertionError, match="used before its copy was waited for"):
        kernel("sums")((1,), (4,), (device, cp.zeros(1, "f"), N))
    copies.synchronize()


@needs_compiler
def test_sources_that_are_wrong(cp):
    def compiled(code, *options):
        return cp.RawModule(code=code, options=options).get_function("f")

    with pytest.raises(cp.cuda.compiler.CompileException, match="atomicAdd"):
        compiled('extern "C" __global__ void f(float *y) { atomicAdd(y, 1.0f); }')
    with pytest.raises(cp.cuda.compiler.CompileException, match=r"kernel.cu:2:.*missing"):
        compiled('\nextern "C" __global__ void f(float *y) { y[0] = missing; }')
    with pytest.raises(RuntimeError, match="named symbol not found: f"):
        compiled('extern "C" __global__ void g(float *y) {}')
    with pytest.raises(ValueError, match="unrecognized option '-O3'"):
        compiled('extern "C" __global__ void f(float *y) {}', "-O3")
    with pytest.raises(TypeError, match="expected tuple"):
        cp.RawModule(code="", options=["--std=c++17"])


SANITIZED = """
import sys
import numpy as np, standin
from test_standin import KERNELS
with standin.installed():
    import cupy as cp
    rows, n, shared = map(int, sys.argv[1:])
    code = KERNELS.replace("shared[64]", f"shared[{shared}]")
    sums = cp.RawModule(code=code).get_function("sums")
    x, y = cp.ones((2, 32), "f"), cp.empty(2, "f")
    sums((rows,), (32,), (x, y, np.int32(n)))
    print("sums", y.get())
"""


def _runtime(name: str) -> str | None:
    """The path of one of the compiler's libraries, where it has it."""
    if shutil.which("g++") is None:
        return None
    path = subprocess.run(
        ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return path if os.path.isabs(path) else None


@needs_compiler
@pytest.mark.skipif(_runtime("libasan.so") is None, reason="g++ has no address sanitizer here")
@pytest.mark.parametrize(
    ("arguments", "sanitizers", "found"),
    [
        ((2, 32, 64), "address,undefined", None),
        ((2, 33, 64), "address,undefined", "heap-buffer-overflow"),
        ((3, 32, 64), "address,undefined", "heap-buffer-overflow"),
        ((2, 32, 31), "address", "global-buffer-overflow"),
    ],
    ids=["right", "a column too many", "a row too many", "shared memory"],
)
def test_kernels_run_under_the_sanitizers(arguments, sanitizers, found):
    tests = Path(__file__).parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
        "LD_PRELOAD": _runtime("libasan.so"),
        "ASAN_OPTIONS": "detect_leaks=0",
        "SCRATCHGEN_SHIM_FLAGS": f"-fsanitize={sanitizers} -fno-sanitize-recover=all",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", SANITIZED, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found is None:
        assert done.returncode == 0, done.stderr
        assert re.search(r"sums \[32\. +32\.\]", done.stdout)
    else:
        assert done.returncode != 0
        assert found in done.stderr


# --- the rest of cupy.cuda ------------------------------------------------------------------------------------------


def test_the_device_and_its_precision(cp):
    assert cp.cuda.is_available()
    assert cp.cuda.runtime.getDeviceCount() == 1
    assert cp.cuda.runtime.getDeviceProperties(0)["name"] == b"Stand-in for a GPU"
    assert cp.cuda.Device().id == 0
    from cupy._core import get_compute_type, set_compute_type

    before = get_compute_type(np.float32)
    set_compute_type(np.float32, 7)
    assert get_compute_type("f") == 7
    set_compute_type(np.float32, before)
    with pytest.raises(ValueError, match="Unknown compute type"):
        set_compute_type(np.float32, 8)


def test_nothing_of_the_stand_in_is_left_out_unnoticed():
    """Whatever CuPy has can at least be called: it is there, or says that the stand-in lacks it."""
    for name in signatures.table()["functions"]:
        assert callable(FUNCTIONS[name])
    with pytest.raises(NotImplementedError, match=r"the stand-in has no cupy\.fuse"):
        MODULES["cupy"].fuse(lambda x: x)

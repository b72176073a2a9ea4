"""A stand-in for CuPy that runs on the CPU and is stricter than the real one: `with standin.installed(): …`.

    with standin.installed():            import cupy, and scratchgen's backend "cupy", are the stand-in
        x = standin.array(numpy_array)
        before = standin.counts()
        with standin.no_sync():          whatever makes the host wait for the device raises AssertionError
            step(x)
        (standin.counts() - before).launches

Modules: ledger.py (what is counted), streams.py (order, and copies that are not done yet), memory.py, arrays.py
(ndarray), signatures.py (what the installed CuPy has), ufuncs.py, functions.py (the rest, by name), device.py
(cupy.cuda), kernels.py and shim.h (CUDA sources on the CPU), modules.py (what is imported).

What it refuses, and CuPy would take in silence or at another price: NumPy's functions on a device array; a NumPy
array as an index; writing to what was broadcast; a kernel's argument of the wrong size, kind or layout; a barrier
that not all threads reach; an array that is used before its copy was waited for, is overwritten while it may still
be read, or is copied from a host buffer that was rewritten meanwhile. What is uninitialised is NaN, shared memory
too.

What it cannot show, and only a GPU can:
- that threads really run at once: races that do not depend on the order they are run in, barriers that are met in
  different rounds of one loop, warps and their divergence, the memory model;
- asynchrony beyond the copies between host and device: a kernel is done when it is launched, so a missing order
  between kernels of two streams, memory that the pool gives to another stream too early, and arrays that a kernel
  reaches through addresses in a table go unnoticed;
- the GPU's own exp, log and tanh, its fused multiply-adds, its order of summation; cuBLAS, TF32. CuPy's functions are
  NumPy's here: where CuPy computes otherwise and functions.py does not write it out, that is not seen;
- what NVRTC refuses and g++ takes; registers, occupancy, the limits of one device; the driver's failures, memory that
  runs out; speed.
"""

from standin.functions import array
from standin.ledger import Counts, counts, no_sync
from standin.modules import installed
from standin.streams import Copy

__all__ = ["Copy", "Counts", "array", "counts", "installed", "no_sync"]

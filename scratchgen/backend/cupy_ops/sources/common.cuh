// What all kernels share. `real` is float or double, `Index` unsigned or unsigned long long, and a block has THREADS
// threads: see launch.py.

// The larger and the smaller as NumPy has them: NaN if one is.
__device__ inline real larger(const real a, const real b) { return a >= b || a != a ? a : b; }
__device__ inline real smaller(const real a, const real b) { return a <= b || a != a ? a : b; }

// The sum over the threads of a block, in an order that never changes: halves are added until one value is left.
__device__ inline real block_sum(const real mine, real* shared) {
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}

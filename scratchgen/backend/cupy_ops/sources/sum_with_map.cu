// The sum over all elements of a formula's first term, and its other terms as they are, in one pass. Each block leaves
// its sum in sums (gridDim.x,), over `over` where it is the only one. RESULTS are the arrays of the other terms,
// STORE(i) writes them at index i.

extern "C" __global__ void sum_with_map(
    real* __restrict__ sums, const Index n, const Index channels, const real over RESULTS ARRAYS) {
    __shared__ real shared[THREADS];
    const Index stride = gridDim.x * blockDim.x;
    Index i = blockIdx.x * blockDim.x + threadIdx.x;
    real mine = 0;
    for (; i + 3 * stride < n; i += 4 * stride) {  // four elements under way at a time
        real several[4][TERMS];
        for (int k = 0; k < 4; ++k) formula(AT(i + k * stride, (i + k * stride) % channels), several[k]);
        for (int k = 0; k < 4; ++k) {
            const real* out = several[k];
            mine += out[0];
            STORE(i + k * stride)
        }
    }
    for (; i < n; i += stride) {
        real out[TERMS];
        formula(AT(i, i % channels), out);
        mine += out[0];
        STORE(i)
    }
    const real sum = block_sum(mine, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = gridDim.x == 1 ? sum / over : sum;
}

// The sum of all numbers of a formula's first term, and its other terms as they are, in one pass. Each block leaves
// its sum in sums (gridDim.x,); RESULTS are the arrays of the other terms, STORE(i) writes them at index i.

extern "C" __global__ void total(real* __restrict__ sums, const Index n, const Index channels RESULTS ARRAYS) {
    __shared__ real shared[THREADS];
    const Index stride = gridDim.x * blockDim.x;
    real mine = 0;
    for (Index i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        real out[TERMS];
        formula(AT(i, i % channels), out);
        mine += out[0];
        STORE(i)
    }
    const real sum = block_sum(mine, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// y = formula(a0, a1, ...), number by number. Before this text stand the formula, and how its arguments are found:
// ARRAYS, the arrays and numbers among the parameters, and AT(i, c), the arguments at index i in channel c.

extern "C" __global__ void rowwise(real* __restrict__ y, const Index n, const Index channels ARRAYS) {
    const Index stride = gridDim.x * blockDim.x;
    for (Index i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        y[i] = formula(AT(i, i % channels));
    }
}

// y = formula(a0, a1, ...), element by element. Before this text stand the formula, and how its arguments are found:
// ARRAYS, the arrays and plain numbers among the parameters, and AT(i, c), the arguments at index i in channel c.
// A thread has several elements under way at a time, so that it waits for all of their memory at once.

extern "C" __global__ void elementwise(real* __restrict__ y, const Index n, const Index channels ARRAYS) {
    const Index stride = gridDim.x * blockDim.x;
    Index i = blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * stride < n; i += 4 * stride) {
        real results[4];
        for (int k = 0; k < 4; ++k) results[k] = formula(AT(i + k * stride, (i + k * stride) % channels));
        for (int k = 0; k < 4; ++k) y[i + k * stride] = results[k];
    }
    for (; i < n; i += stride) y[i] = formula(AT(i, i % channels));
}

// The sums over rows of every term of a formula (TERMS of them, written to out[]), for each channel.
//
// A block has blockDim.x channels side by side, so that neighbours read neighbours, and blockDim.y rows at a time; the
// blocks of one column of the grid share its rows. Each block leaves one row of sums, TERMS * channels long: where
// there are several the kernel runs once more over them. The order of additions depends on the shape alone.

extern "C" __global__ void channel_sums(real* __restrict__ sums, const Index rows, const Index channels ARRAYS) {
    __shared__ real shared[THREADS];
    const Index c = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned me = threadIdx.y * blockDim.x + threadIdx.x;
    real sum[TERMS] = {};
    if (c < channels) {
        const Index stride = gridDim.y * blockDim.y;
        Index row = blockIdx.y * blockDim.y + threadIdx.y;
        for (; row + 3 * stride < rows; row += 4 * stride) {  // four rows under way at a time
            real out[4][TERMS];
            for (int k = 0; k < 4; ++k) formula(AT((row + k * stride) * channels + c, c), out[k]);
            for (int k = 0; k < 4; ++k) {
                for (int t = 0; t < TERMS; ++t) sum[t] += out[k][t];
            }
        }
        for (; row < rows; row += stride) {
            real out[TERMS];
            formula(AT(row * channels + c, c), out);
            for (int t = 0; t < TERMS; ++t) sum[t] += out[t];
        }
    }
#pragma unroll  // so that sum stays in registers
    for (int t = 0; t < TERMS; ++t) {  // one after the other: any number of terms fits in shared memory
        shared[me] = sum[t];
        __syncthreads();
        for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
            if (threadIdx.y < half) shared[me] += shared[me + half * blockDim.x];
            __syncthreads();
        }
        if (threadIdx.y == 0 && c < channels) sums[(blockIdx.y * TERMS + t) * channels + c] = shared[me];
    }
}

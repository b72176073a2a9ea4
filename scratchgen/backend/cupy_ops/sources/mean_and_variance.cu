// Mean and variance of each channel over the rows, in one pass.
//
// Every thread has its own pivot, the first element it sees, and sums x - pivot and (x - pivot)^2: no cancellation
// where the mean is far from zero. Then counts, means and sums of squares around them are merged two by two:
//     n = n1 + n2,   mean = mean1 + d * n2 / n,   squares = squares1 + squares2 + d^2 * n1 * n2 / n,   d = mean2 - mean1
// (Chan, Golub & LeVeque 1983.) Blocks are laid out as in channel_sums.cu.

struct Moments {
    real count, mean, squares;
};

__device__ inline Moments merged(const Moments a, const Moments b) {
    const real n = a.count + b.count;
    if (n == 0) return a;
    const real d = b.mean - a.mean, share = b.count / n;
    return {n, a.mean + d * share, a.squares + b.squares + d * d * a.count * share};
}

// The moments of the threads that share a channel, merged into those of the first.
__device__ inline Moments merged_in_block(const Moments mine, Moments* shared) {
    const unsigned me = threadIdx.y * blockDim.x + threadIdx.x;
    shared[me] = mine;
    __syncthreads();
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) shared[me] = merged(shared[me], shared[me + half * blockDim.x]);
        __syncthreads();
    }
    return shared[me];
}

// parts (gridDim.y, channels, 3): count, mean and sum of squares of each block's rows.
extern "C" __global__ void of_rows(
    real* __restrict__ parts, const Index rows, const Index channels, const real* __restrict__ x) {
    __shared__ real memory[3 * THREADS];
    const Index c = blockIdx.x * blockDim.x + threadIdx.x;
    const Index first = blockIdx.y * blockDim.y + threadIdx.y;
    Moments mine = {0, 0, 0};
    if (c < channels && first < rows) {
        const real pivot = x[first * channels + c];
        const Index stride = gridDim.y * blockDim.y;
        real count = 0, sum = 0, squares = 0;
        Index row = first;
        for (; row + 3 * stride < rows; row += 4 * stride) {  // four rows under way at a time
            real d[4];
            for (int k = 0; k < 4; ++k) d[k] = x[(row + k * stride) * channels + c] - pivot;
            for (int k = 0; k < 4; ++k) sum += d[k];
            for (int k = 0; k < 4; ++k) squares += d[k] * d[k];
            count += 4;
        }
        for (; row < rows; row += stride) {
            const real d = x[row * channels + c] - pivot;
            count += 1;
            sum += d;
            squares += d * d;
        }
        mine = {count, pivot + sum / count, larger(squares - sum * sum / count, 0)};
    }
    mine = merged_in_block(mine, (Moments*)memory);
    if (threadIdx.y == 0 && c < channels) {
        real* part = parts + (blockIdx.y * channels + c) * 3;
        part[0] = mine.count;
        part[1] = mine.mean;
        part[2] = mine.squares;
    }
}

// moments (2, channels): mean and biased variance, of so many parts.
extern "C" __global__ void of_parts(
    real* __restrict__ moments, const Index count, const Index channels, const real* __restrict__ parts) {
    __shared__ real memory[3 * THREADS];
    const Index c = blockIdx.x * blockDim.x + threadIdx.x;
    Moments mine = {0, 0, 0};
    if (c < channels) {
        for (Index i = threadIdx.y; i < count; i += blockDim.y) {
            const real* part = parts + (i * channels + c) * 3;
            mine = merged(mine, {part[0], part[1], part[2]});
        }
    }
    mine = merged_in_block(mine, (Moments*)memory);
    if (threadIdx.y == 0 && c < channels) {
        moments[c] = mine.mean;
        moments[channels + c] = mine.squares / mine.count;
    }
}

// sums (gridDim.x,): of each row of parts (gridDim.x, count), over `over`.
extern "C" __global__ void sums_of_parts(
    real* __restrict__ sums, const Index count, const real over, const real* __restrict__ parts) {
    __shared__ real shared[THREADS];
    real mine = 0;
    for (Index i = threadIdx.x; i < count; i += blockDim.x) mine += parts[blockIdx.x * count + i];
    const real sum = block_sum(mine, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum / over;
}

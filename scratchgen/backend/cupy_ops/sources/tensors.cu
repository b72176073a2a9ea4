// Work on many tensors of any sizes in one launch: they come as a table, by value. blockIdx.y is the tensor.

struct Tensors {
    struct {
        const real* value;
        const real* grad;
        real* m;
        real* v;
        real* result;
        unsigned long long size;
    } at[TENSORS];
};

// Adam's step: see backend/reference.py. scale1 = 1 - beta1^t, scale2 = 1 - beta2^t.
extern "C" __global__ void adam(
    const Tensors tensors, const real lr, const real beta1, const real rest1, const real beta2, const real rest2,
    const real eps, const real scale1, const real scale2) {
    const auto& a = tensors.at[blockIdx.y];
    const unsigned long long stride = gridDim.x * blockDim.x;
    for (unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x; i < a.size; i += stride) {
        const real g = a.grad[i], value = a.value[i];
        const real m = beta1 * a.m[i] + rest1 * g;
        const real v = beta2 * a.v[i] + rest2 * g * g;
        a.m[i] = m;
        a.v[i] = v;
        a.result[i] = value - lr * (m / scale1) / (sqrt(v / scale2) + eps);
    }
}

// sums (tensors, gridDim.x): of the squares of grad, by each block of a tensor. All blocks have THREADS threads.
extern "C" __global__ void squares(real* __restrict__ sums, const Tensors tensors) {
    __shared__ real shared[THREADS];
    const auto& a = tensors.at[blockIdx.y];
    const unsigned long long stride = gridDim.x * blockDim.x;
    unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x;
    real mine = 0;
    for (; i + 3 * stride < a.size; i += 4 * stride) {  // four elements under way at a time
        real g[4];
        for (int k = 0; k < 4; ++k) g[k] = a.grad[i + k * stride];
        for (int k = 0; k < 4; ++k) mine += g[k] * g[k];
    }
    for (; i < a.size; i += stride) mine += a.grad[i] * a.grad[i];
    const real sum = block_sum(mine, shared);
    if (threadIdx.x == 0) sums[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

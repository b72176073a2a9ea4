// Patches as columns, and their adjoint. Both gather: every thread writes elements of its own, in an order that never
// changes, so that results repeat bit for bit. A Pack is as many channels as are read at once.

struct Geometry {  // see backend/geometry.py
    int kernel[2], stride[2], padding[2], dilation[2], large[2], small[2];
};

struct alignas(sizeof(real) * PACK) Pack {
    real of[PACK];
};

// Where the geometry is known when this is compiled, divisions by its sizes become multiplications.
#ifdef GEOMETRY
#define KNOWN(given, given_channels) \
    constexpr Geometry g = {GEOMETRY}; \
    constexpr int channels = CHANNELS;
#else
#define KNOWN(given, given_channels) \
    const Geometry& g = given; \
    const int channels = given_channels;
#endif

// cols (N, OH, OW, kh, kw, C): the pixel under each tap of the window at each small pixel, zero outside.
// A run is what one row of the window reads: kw pixels of C packs. blockDim.x threads share a run.
extern "C" __global__ void im2col(
    Pack* __restrict__ cols, const Pack* __restrict__ x, const Geometry sizes, const int packs, const int runs) {
    KNOWN(sizes, packs)
    const int run = blockIdx.x * blockDim.y + threadIdx.y;
    if (run >= runs) return;
    const int i = run % g.kernel[0];
    const int c = run / g.kernel[0] % g.small[1];
    const int r = run / g.kernel[0] / g.small[1] % g.small[0];
    const int n = run / g.kernel[0] / g.small[1] / g.small[0];
    const int row = r * g.stride[0] + i * g.dilation[0] - g.padding[0];
    const int left = c * g.stride[1] - g.padding[1];
    const bool inside = row >= 0 && row < g.large[0];
    const long long from = ((long long)n * g.large[0] + row) * g.large[1];
    Pack* to = cols + (long long)run * g.kernel[1] * channels;
    for (int e = threadIdx.x; e < g.kernel[1] * channels; e += blockDim.x) {
        const int column = left + e / channels * g.dilation[1];
        Pack pixel = {};
        if (inside && column >= 0 && column < g.large[1]) pixel = x[(from + column) * channels + e % channels];
        to[e] = pixel;
    }
}

// x (N, H, W, C): the sum of all that im2col copied each pixel to. Tap (i, j) read it at small pixel (r, c) where
// r * stride + i * dilation - padding is its row, if there is such an r; columns alike.
extern "C" __global__ void col2im(
    Pack* __restrict__ x, const Pack* __restrict__ cols, const Geometry sizes, const int packs, const int pixels) {
    KNOWN(sizes, packs)
    const int pixel = blockIdx.x * blockDim.y + threadIdx.y;
    if (pixel >= pixels) return;
    const int column = pixel % g.large[1] + g.padding[1];
    const int row = pixel / g.large[1] % g.large[0] + g.padding[0];
    const int n = pixel / g.large[1] / g.large[0];
    for (int e = threadIdx.x; e < channels; e += blockDim.x) {
        Pack sum = {};
        for (int i = 0; i < g.kernel[0]; ++i) {
            const int down = row - i * g.dilation[0], r = down / g.stride[0];
            if (down < 0 || down % g.stride[0] != 0 || r >= g.small[0]) continue;
            for (int j = 0; j < g.kernel[1]; ++j) {
                const int right = column - j * g.dilation[1], c = right / g.stride[1];
                if (right < 0 || right % g.stride[1] != 0 || c >= g.small[1]) continue;
                const long long patch = ((long long)n * g.small[0] + r) * g.small[1] + c;
                const Pack term = cols[((patch * g.kernel[0] + i) * g.kernel[1] + j) * channels + e];
                for (int k = 0; k < PACK; ++k) sum.of[k] += term.of[k];
            }
        }
        x[(long long)pixel * channels + e] = sum;
    }
}

# cause: wrong (place|block|pixel)|halves|order|interleav|rearrang|\bplace
from scratchgen import Layer


class Upsample(Layer):
    def forward(self, x):
        N, H, W, C = x.shape
        y = x.repeat(2, axis=1).repeat(2, axis=2)

        def backward(dy):
            return dy.reshape(N, 2, H, 2, W, C).sum(axis=(1, 3))

        return y, backward

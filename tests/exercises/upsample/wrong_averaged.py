# cause: 0\.25 times|averag|mean|divided by
from scratchgen import Layer


class Upsample(Layer):
    def forward(self, x):
        N, H, W, C = x.shape
        y = x.repeat(2, axis=1).repeat(2, axis=2)

        def backward(dy):
            return dy.reshape(N, H, 2, W, 2, C).mean(axis=(2, 4))

        return y, backward

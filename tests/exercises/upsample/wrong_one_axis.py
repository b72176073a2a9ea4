# cause: axis 2|width|one axis|(three quarters|one of|half|[Ss]um|Σ|dropped)
from scratchgen import Layer


class Upsample(Layer):
    def forward(self, x):
        N, H, W, C = x.shape
        y = x.repeat(2, axis=1).repeat(2, axis=2)

        def backward(dy):
            return dy.reshape(N, H, 2, W, 2, C)[:, :, :, :, 0].sum(axis=2)

        return y, backward

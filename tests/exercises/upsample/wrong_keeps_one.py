# cause: (three quarters|one of (the )?(four|4)|[Ss]um|Σ|block|dropped)
from scratchgen import Layer


class Upsample(Layer):
    def forward(self, x):
        N, H, W, C = x.shape
        y = x.repeat(2, axis=1).repeat(2, axis=2)

        def backward(dy):
            return dy[:, ::2, ::2].copy()

        return y, backward

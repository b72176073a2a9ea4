"""Models as students write them, from scratch: right ones in many styles, and wrong ones.

Nothing here comes from the library. A model keeps the methods of the contract, and little else is alike.
"""

import numpy as np


def sigmoid(s):
    return 0.5 * (1 + np.tanh(0.5 * s))


def softplus(s):
    return np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s)))


class Linear:
    """Keeps its input and its gradients on itself."""

    def __init__(self, n_in, n_out, rng):
        self.W, self.b = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), 0.1 * rng.standard_normal(n_out)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW += self.x.T @ dy
        self.db += dy.sum(axis=0)
        return dy @ self.W.T


class Net:
    """Two layers and a tanh, called: net(x), then net.backward(dy)."""

    def __init__(self, n_in, hidden, n_out, rng, last=None):
        self.layers, self.last = [Linear(n_in, hidden, rng), Linear(hidden, n_out, rng)], last

    def __call__(self, x):
        self.a = np.tanh(self.layers[0].forward(x.reshape(len(x), -1)))
        y = self.layers[1].forward(self.a)
        if self.last == "sigmoid":
            self.y = y = sigmoid(y)
        return y

    def backward(self, dy):
        if self.last == "sigmoid":
            dy = dy * self.y * (1 - self.y)
        return self.layers[0].backward(self.layers[1].backward(dy) * (1 - self.a**2))


class Pullbacks:
    """forward(x) returns y and a function; several forwards may come before the backwards."""

    def __init__(self, n_in, hidden, n_out, rng):
        self.first, self.second = Linear(n_in, hidden, rng), Linear(hidden, n_out, rng)

    def forward(self, x):
        first, second, flat = self.first, self.second, x.reshape(len(x), -1)
        a = np.tanh(flat @ first.W + first.b)

        def backward(dy, learn=True):
            da = (dy @ second.W.T) * (1 - a * a)
            if learn:
                second.dW += a.T @ dy
                second.db += dy.sum(axis=0)
                first.dW += flat.T @ da
                first.db += da.sum(axis=0)
            return (da @ first.W.T).reshape(x.shape)

        return a @ second.W + second.b, backward


# --- autoencoders ---


class Reconstruction:
    def __init__(self, rng, features=10, latent=3):
        self.encoder, self.decoder = Net(features, 8, latent, rng), Net(latent, 8, features, rng)

    def loss(self, x):
        y = self.decoder(self.encoder(x))
        r = y - x
        n = self.count(x)
        return (r**2).sum() / n, lambda: self.encoder.backward(self.decoder.backward(2 * r / n))

    def count(self, x):
        return len(x)


class SparseCode(Reconstruction):
    """With weight decay and a penalty on its code."""

    def loss(self, x):
        z = self.encoder(x)
        y = self.decoder(z)
        decay = 0.01 * sum((layer.W**2).sum() for layer in self.encoder.layers)
        value = ((y - x) ** 2).sum() / len(x) + 0.1 * np.abs(z).sum() / len(x) + decay

        def backward():
            dz = self.decoder.backward(2 * (y - x) / len(x)) + 0.1 * np.sign(z) / len(x)
            self.encoder.backward(dz)
            for layer in self.encoder.layers:
                layer.dW += 0.02 * layer.W

        return value, backward


class SumOverBatch(Reconstruction):
    def count(self, x):
        return 1


class MeanOverElements(Reconstruction):
    def count(self, x):
        return x.size


class InTheBatch(Reconstruction):
    """Takes the largest code along the wrong axis."""

    def loss(self, x):
        z = self.encoder(x)
        y = self.decoder(z - z.max(axis=0))
        return ((y - x) ** 2).sum() / len(x), lambda: None


# --- VAEs ---


class StudentVAE:
    """Bernoulli pixels, [mu, logvar] of one encoder. `spread` is σ of what the encoder gives, with its derivative."""

    features, latent_size = 9, 4

    def __init__(self, rng):
        d = self.latent_size
        self.encoder, self.decoder = Net(self.features, 8, 2 * d, rng), Net(d, 8, self.features, rng)

    def spread(self, t):
        return np.exp(t / 2), np.exp(t / 2) / 2

    def kl(self, mu, s):
        """and its derivatives"""
        n = len(mu)
        return (mu**2 + s**2 - 1 - 2 * np.log(s)).sum() / 2 / n, mu / n, (s - 1 / s) / n

    def pixels(self, y, x):
        n = len(x)
        return (softplus(y) - x * y).sum() / n, (sigmoid(y) - x) / n

    def loss(self, x, eps):
        h = self.encoder(x)
        mu, t = h[:, : self.latent_size], h[:, self.latent_size :]
        s, ds_dt = self.spread(t)
        y = self.decoder(mu + s * eps)
        value, dy = self.pixels(y, x)
        kl, dmu, ds = self.kl(mu, s)

        def backward():
            dz = self.decoder.backward(dy)
            self.encoder.backward(np.hstack([dz + dmu, (dz * eps + ds) * ds_dt]))

        return value + kl, backward


class NoiseByDefault(StudentVAE):
    """Draws its noise where none is given."""

    def loss(self, x, eps=None):
        return super().loss(x, np.random.standard_normal((len(x), self.latent_size)) if eps is None else eps)  # noqa: NPY002


class LogStd(StudentVAE):
    """The encoder gives log σ: z = mu + e^t · eps, and the KL is of that σ."""

    def spread(self, t):
        return np.exp(t), np.exp(t)


class Softplus(StudentVAE):
    def spread(self, t):
        return softplus(t) + 1e-3, sigmoid(t)


class SquaredError(StudentVAE):
    """½ Σ (x − y)², a normal density of variance 1 without its constant."""

    def pixels(self, y, x):
        return ((y - x) ** 2).sum() / 2 / len(x), (y - x) / len(x)


class Single(StudentVAE):
    """Computes in float32 whatever it is given."""

    def loss(self, x, eps):
        return super().loss(x.astype(np.float32).astype(np.float64), eps.astype(np.float32).astype(np.float64))


class Beta(StudentVAE):
    def __init__(self, rng):
        super().__init__(rng)
        self.kl_weight = 0.25  # which is 1 / latent, and is meant

    def kl(self, mu, s):
        return tuple(self.kl_weight * part for part in super().kl(mu, s))


class SpreadFirst(StudentVAE):
    """The encoder gives the log-variance before the mean."""

    def loss(self, x, eps):
        h = self.encoder(x)
        t, mu = h[:, : self.latent_size], h[:, self.latent_size :]
        s, ds_dt = self.spread(t)
        value, dy = self.pixels(self.decoder(mu + s * eps), x)
        kl, dmu, ds = self.kl(mu, s)

        def backward():
            dz = self.decoder.backward(dy)
            self.encoder.backward(np.hstack([(dz * eps + ds) * ds_dt, dz + dmu]))

        return value + kl, backward


class Sampled(StudentVAE):
    """The KL is estimated at z: log q(z|x) − log p(z)."""

    def loss(self, x, eps):
        h, n = self.encoder(x), len(x)
        mu, t = h[:, : self.latent_size], h[:, self.latent_size :]
        s, ds_dt = self.spread(t)
        z = mu + s * eps
        value, dy = self.pixels(self.decoder(z), x)
        kl = (z**2 - eps**2 - 2 * np.log(s)).sum() / 2 / n

        def backward():
            dz = self.decoder.backward(dy) + z / n
            self.encoder.backward(np.hstack([dz, (dz * eps - 1 / s / n) * ds_dt]))

        return value + kl, backward


class SampledSoftplus(Sampled):
    def spread(self, t):
        return softplus(t) + 1e-3, sigmoid(t)


class SampledNormal(Sampled):
    def pixels(self, y, x):
        return ((y - x) ** 2).sum() / 2 / len(x), (y - x) / len(x)


class Heads(StudentVAE):
    """Two layers make the mean and the log-variance from hidden features."""

    def __init__(self, rng):
        d = self.latent_size
        self.enc, self.dec = Net(self.features, 8, 7, rng), Net(d, 8, self.features, rng)
        self.to_mu, self.to_logvar = Linear(7, d, rng), Linear(7, d, rng)

    def loss(self, x, eps):
        h = self.enc(x)
        mu, t = self.to_mu.forward(h), self.to_logvar.forward(h)
        s, ds_dt = self.spread(t)
        y = self.dec(mu + s * eps)
        value, dy = self.pixels(y, x)
        kl, dmu, ds = self.kl(mu, s)

        def backward():
            dz = self.dec.backward(dy)
            self.enc.backward(self.to_mu.backward(dz + dmu) + self.to_logvar.backward((dz * eps + ds) * ds_dt))

        return value + kl, backward


class InOne:
    """A VAE without networks of its own: weights on the model."""

    def __init__(self, rng, features=6, latent=2):
        self.latent = latent
        self.We, self.Wd = rng.standard_normal((features, 2 * latent)), rng.standard_normal((latent, features))
        self.dWe, self.dWd = np.zeros_like(self.We), np.zeros_like(self.Wd)

    def loss(self, x, eps):
        n, d = len(x), self.latent
        h = x @ self.We
        mu, t = h[:, :d], h[:, d:]
        s = np.exp(t / 2)
        z = mu + s * eps
        y = z @ self.Wd

        def backward():
            dy = (y - x) / n
            dz = dy @ self.Wd.T
            self.dWd += z.T @ dy
            dt = dz * eps * s / 2 + (s * s - 1) / 2 / n
            self.dWe += x.T @ np.hstack([dz + mu / n, dt])

        return ((y - x) ** 2).sum() / 2 / n + (mu**2 + s**2 - 1 - t).sum() / 2 / n, backward


class WrongSample(StudentVAE):
    def spread(self, t):
        return np.exp(t), np.exp(t)

    def kl(self, mu, s):  # of e^t as the variance
        n = len(mu)
        return (mu**2 + s - 1 - np.log(s)).sum() / 2 / n, mu / n, (1 - 1 / s) / 2 / n


class WrongMean(StudentVAE):
    def kl(self, mu, s):
        return tuple(part / self.latent_size for part in super().kl(mu, s))


class WrongHeads(Heads):
    def kl(self, mu, s):
        return tuple(2 * part for part in super().kl(mu, s))


class WrongPixels(StudentVAE):
    def pixels(self, y, x):
        value, dy = super().pixels(y, x)
        return value / x[0].size, dy / x[0].size


class WrongDirection(StudentVAE):
    def kl(self, mu, s):
        """KL(p ‖ q)."""
        n = len(mu)
        value = (((1 + mu**2) / s**2) - 1 + 2 * np.log(s)).sum() / 2 / n
        return value, mu / s**2 / n, (1 / s - (1 + mu**2) / s**3) / n


class OneNoise(StudentVAE):
    def loss(self, x, eps):
        return super().loss(x, np.repeat(eps[:1], len(x), axis=0))


class WrongSign(StudentVAE):
    def pixels(self, y, x):
        value, dy = super().pixels(y, x)
        return -value, -dy


class WrongBeta(Beta):
    """The option is not used."""

    def kl(self, mu, s):
        return StudentVAE.kl(self, mu, s)


class OwnNoise(StudentVAE):
    def loss(self, x, eps):
        return super().loss(x, np.random.default_rng().standard_normal(eps.shape))


# --- GANs ---


class StudentGAN:
    """Losses of logits by `real`, `fake` and `made`: terms for one logit, with their derivatives."""

    def __init__(self, rng, features=5, noise_size=3, out=1):
        self.generator = Pullbacks(noise_size, 8, features, rng)
        self.discriminator = Pullbacks(features, 8, out, rng)

    def real(self, s):
        return softplus(-s), -sigmoid(-s)

    def fake(self, s):
        return softplus(s), sigmoid(s)

    def made(self, s):
        return softplus(-s), -sigmoid(-s)

    def discriminator_loss(self, real, z):
        s_real, back_real = self.discriminator.forward(real)
        s_fake, back_fake = self.discriminator.forward(self.generator.forward(z)[0])
        (a, da), (b, db) = self.real(s_real), self.fake(s_fake)

        def backward():
            back_real(da / len(da))
            back_fake(db / len(db))

        return a.sum() / len(a) + b.sum() / len(b), backward

    def generator_loss(self, z):
        x, generator_back = self.generator.forward(z)
        s, back = self.discriminator.forward(x)
        a, da = self.made(s)
        return a.sum() / len(a), lambda: generator_back(back(da / len(da), learn=False))


class Minimax(StudentGAN):
    def made(self, s):
        return -softplus(s), -sigmoid(s)


class LeastSquares(StudentGAN):
    target = 1.0

    def real(self, s):
        return (s - 1) ** 2, 2 * (s - 1)

    def fake(self, s):
        return s**2, 2 * s

    def made(self, s):
        return (s - self.target) ** 2, 2 * (s - self.target)


class LeastSquaresToTheMiddle(LeastSquares):
    """Labels −1 and 1, and G wants 0."""

    target = 0.0

    def fake(self, s):
        return (s + 1) ** 2, 2 * (s + 1)


class Hinge(StudentGAN):
    def real(self, s):
        return np.maximum(1 - s, 0), -1.0 * (s < 1)

    def fake(self, s):
        return np.maximum(1 + s, 0), 1.0 * (s > -1)

    def made(self, s):
        return -s, -np.ones_like(s)


class Wasserstein(StudentGAN):
    def real(self, s):
        return -s, -np.ones_like(s)

    def fake(self, s):
        return s, np.ones_like(s)

    made = real


class FakeIsOne(StudentGAN):
    """D says how likely a sample is fake."""

    def real(self, s):
        return softplus(s), sigmoid(s)

    def fake(self, s):
        return softplus(-s), -sigmoid(-s)

    made = real


class Patches(StudentGAN):
    """Four logits for each sample, summed."""

    def __init__(self, rng):
        super().__init__(rng, out=4)


class Probabilities(StudentGAN):
    """D ends in a sigmoid, and the losses take logarithms of clipped probabilities."""

    def __init__(self, rng):
        super().__init__(rng)
        logits = self.discriminator
        self.discriminator = self.WithSigmoid(logits)

    class WithSigmoid:
        def __init__(self, logits):
            self.logits = logits

        def forward(self, x):
            s, back = self.logits.forward(x)
            p = sigmoid(s)
            return p, lambda dp, learn=True: back(dp * p * (1 - p), learn)

    def real(self, p):
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return -np.log(p), -1 / p

    def fake(self, p):
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return -np.log(1 - p), 1 / (1 - p)

    made = real


class OnePass(StudentGAN):
    """Real and fake go through D together."""

    def discriminator_loss(self, real, z):
        n = len(real)
        s, back = self.discriminator.forward(np.concatenate([real, self.generator.forward(z)[0]]))
        (a, da), (b, db) = self.real(s[:n]), self.fake(s[n:])
        return a.sum() / n + b.sum() / n, lambda: back(np.concatenate([da, db]) / n)


class BatchStatistics(StudentGAN):
    """D is told how much the samples of its batch differ."""

    class MinibatchStd:
        def __init__(self, inner):
            self.inner = inner

        def forward(self, x):
            spread = x.std(axis=0).mean()
            y, back = self.inner.forward(x)
            return y + spread, back  # held constant

    def __init__(self, rng):
        super().__init__(rng)
        self.discriminator = self.MinibatchStd(self.discriminator)

    def generator_loss(self, z):
        x, generator_back = self.generator.forward(z)
        s, back = self.discriminator.inner.forward(x)
        a, da = self.made(s)
        return a.sum() / len(a), lambda: generator_back(back(da / len(da), learn=False))


class AllReal(StudentGAN):
    def fake(self, s):
        return self.real(s)


class Traitor(Wasserstein):
    """G minimises what D does."""

    def made(self, s):
        return self.fake(s)


class BothMove(StudentGAN):
    def generator_loss(self, z):
        x, generator_back = self.generator.forward(z)
        s, back = self.discriminator.forward(x)
        a, da = self.made(s)
        return a.sum() / len(a), lambda: generator_back(back(da / len(da)))


class Detached(StudentGAN):
    def generator_loss(self, z):
        return super().generator_loss(z)[0], lambda: None


class Uphill(StudentGAN):
    def generator_loss(self, z):
        x, generator_back = self.generator.forward(z)
        s, back = self.discriminator.forward(x)
        a, da = self.made(s)
        return a.sum() / len(a), lambda: generator_back(back(-da / len(da), learn=False))


RIGHT = (
    *(Reconstruction, SparseCode),
    *(StudentVAE, NoiseByDefault, LogStd, Softplus, SquaredError, Single, Beta, Heads, SpreadFirst),
    *(Sampled, SampledSoftplus, SampledNormal),
    *(StudentGAN, Minimax, LeastSquares, LeastSquaresToTheMiddle, Hinge, Wasserstein, FakeIsOne),
    *(Patches, Probabilities, OnePass),
)

PARTLY = {  # right, but not to be seen from outside
    InOne: "sampling, KL and bound: the model has no encoder and no decoder",
    BatchStatistics: "its generator_loss does not call its discriminator",
    OwnNoise: "the model draws noise of its own",
}

WRONG = {  # each with what its report has to say
    SumOverBatch: "the loss is summed over the batch, not averaged",
    MeanOverElements: "averaged over the 10 features",
    InTheBatch: "samples influence each other",
    WrongSample: "z is drawn with variance σ², but the KL has the variance σ:",
    WrongMean: "averaged over the 4 latent dimensions",
    WrongHeads: "lacks its factor ½",
    WrongPixels: "averaged over the 9 features",
    WrongDirection: r"KL\(p ‖ q\) in the place of KL\(q ‖ p\)",
    OneNoise: "all samples are drawn with the noise of the first",
    WrongSign: "a decoder that gives back the sample has no smaller loss",
    WrongBeta: "the KL has the weight 1, where kl_weight = 0.25",
    AllReal: "swapping real and fake leaves D's loss as it is",
    Traitor: "rises as D takes its samples for real",
    BothMove: "adds gradients to the discriminator, too",
    Detached: "adds nothing to the gradients of the generator",
    Uphill: "backward is not the derivative of generator_loss",
}

"""The terms that a page may use: a name, and what it means here. HTML."""

TERMS = {
    "nats": (
        "nat",
        "The unit of −log p with the natural logarithm. One nat is 1 / log 2 = 1.44 bits: a model that needs one nat "
        "less for an image gives it e = 2.72 times the probability.",
    ),
    "bernoulli": (
        "cross-entropy of a pixel",
        "−x log x̂ − (1 − x) log(1 − x̂): each grey level x is taken as the probability of a white pixel. For grey "
        "pixels its least value, at x̂ = x, is the entropy of x and not 0.",
    ),
    "pca": (
        "PCA",
        "Principal component analysis: the best reconstruction that a <em>linear</em> encoder and decoder with the "
        "same number of elements can give, found without training. It is what a nonlinear autoencoder has to beat.",
    ),
    "code": (
        "code, z",
        "What the encoder makes of an image: a vector of the latent dimension, the only thing that the decoder sees.",
    ),
    "prior": (
        "prior, N(0, I)",
        "The density of z before an image is seen: independent standard normal coordinates. Its draws, decoded, are "
        "the model's samples.",
    ),
    "elbo": (
        "ELBO",
        "The evidence lower bound, E<sub>q</sub> log p(x | z) − KL(q(z | x) ‖ p(z)) ≤ log p(x): what is trained in "
        "place of log p(x), which would need an integral over all z.",
    ),
    "kl": (
        "KL, the Kullback–Leibler divergence",
        "KL(q ‖ p) = E<sub>q</sub> log(q / p), in nats: how far q is from p; 0 only where they are equal. Here it is "
        "what it costs to say z more exactly than the prior does.",
    ),
    "gap": (
        "gap",
        "−ELBO minus the importance-weighted negative log-likelihood. With K draws of z for each image, "
        "−log (1/K) Σ p(x, z<sub>k</sub>) / q(z<sub>k</sub> | x) is a bound too, and the tighter the larger K is. A "
        "large gap means that q(z | x) is far from the true posterior p(z | x).",
    ),
    "active": (
        "active unit",
        "A latent dimension j whose posterior mean depends on the image: Var<sub>x</sub>(μ<sub>j</sub>(x)) &gt; 0.01 "
        "over the test images (Burda et al. 2016). The mean of any other hardly changes from image to image, as "
        "where q(z | x) is the prior and the decoder ignores it.",
    ),
    "collapse": (
        "posterior collapse",
        "q(z | x) is the prior whatever x is, so the KL is 0: the decoder has learnt to do without z.",
    ),
    "gradient": (
        "norm of the gradient",
        "The square root of the sum of the squares of all elements of ∂L/∂θ, taken before each update.",
    ),
    "equilibrium": (
        "equilibrium",
        "Where neither player gains by a change: p<sub>G</sub> = p, the samples are distributed as the data, so the "
        "best D gives ½ everywhere. L<sub>D</sub> is then 2 log 2 = log 4 = 1.386 (Goodfellow et al. 2014).",
    ),
    "smoothing": (
        "one-sided label smoothing",
        "D is trained towards t = 1 − smoothing on data and 0 on samples, so that it never becomes quite sure. With "
        "p<sub>G</sub> = p the best D then gives t/2.",
    ),
    "modes": (
        "mode",
        "One of the normal distributions of which the data are drawn. It counts as reached when at least one of the "
        "samples is within 3σ of its centre.",
    ),
    "quality": (
        "high quality",
        "A sample is of high quality when it lies within 3σ of the nearest centre, σ being the standard deviation of "
        "the data around it. Of the data themselves 1 − e<sup>−9/2</sup> = 98.9 % do.",
    ),
    "reverse_kl": (
        "reverse KL",
        "KL(p<sub>G</sub> ‖ uniform) = Σ<sub>k</sub> p<sub>k</sub> log(K p<sub>k</sub>) over the K modes, with "
        "p<sub>k</sub> the share of samples nearest to centre k: 0 where all modes get the same share, log K where "
        "one gets all. Reverse, as the generator's density stands first.",
    ),
    "frechet": (
        "Fréchet distance",
        "|μ<sub>1</sub> − μ<sub>2</sub>|² + tr(Σ<sub>1</sub> + Σ<sub>2</sub> − 2 (Σ<sub>1</sub>Σ<sub>2</sub>)"
        "<sup>½</sup>) between normal distributions fitted to features of samples and of test images. The features "
        "are those of a small classifier trained on these very data. The FID of papers takes them from Inception, a "
        "network trained on photos of ImageNet: its numbers and these have no common scale. Compare only runs on the "
        "same data, with as many samples.",
    ),
    "confident": (
        "confident",
        "The share of samples to one class of which the classifier gives a probability of at least 0.9. It says that "
        "they look like something, not that they are varied.",
    ),
    "collapse_of_modes": (
        "mode collapse",
        "G makes only part of what the data hold, whatever z is. Nothing in its loss forbids that: it only has to "
        "deceive D.",
    ),
    "nearest": (
        "nearest training image",
        "By Euclidean distance between pixels. If samples were far nearer to training images than unseen test images "
        "are, G would have memorised these.",
    ),
}

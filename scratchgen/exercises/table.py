"""Every exercise, in the order to do them in."""

from scratchgen.exercises.exercise import Exercise
from scratchgen.exercises.proofs import algorithms, images, layers, objectives

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "dense",
        "Dense: an affine map and its two parameters",
        "Dense",
        (
            "Write y_nj = Σ_i x_ni W_ij + b_j and ask of each x_ni, W_ij and b_j which elements of y it moves.",
            "x_ni moves row n of y alone, so dx_ni is a sum over j. W_ij and b_j move every row: sums over n.",
            "dx_ni = Σ_j dy_nj W_ij, dW_ij = Σ_n x_ni dy_nj, db_j = Σ_n dy_nj. Write each as a product of matrices: "
            "the shapes leave one way to do it.",
        ),
        layers.dense,
    ),
    Exercise(
        "relu",
        "ReLU: a mask",
        "ReLU",
        (
            "Each y depends on its own x alone: dx = dy · y′, element by element.",
            "y′ is 1 where x > 0 and 0 where x < 0: dy goes through, or it does not.",
            "dx is dy times a mask that forward knows already, x > 0, in a new array.",
        ),
        layers.relu,
    ),
    Exercise(
        "tanh",
        "Hyperbolic tangent: a derivative through y",
        "Tanh",
        (
            "Each y depends on its own x alone: dx = dy · y′. What is the derivative of sinh x / cosh x?",
            "y′ = (cosh² x − sinh² x) / cosh² x.",
            "y′ = 1 − y², with y the output and not the input.",
        ),
        layers.tanh,
    ),
    Exercise(
        "sigmoid",
        "Logistic function: another one, and no overflow",
        "Sigmoid",
        (
            "y′ = e⁻ˣ / (1 + e⁻ˣ)². Write it through y, then nothing can overflow.",
            "1 − y = e⁻ˣ / (1 + e⁻ˣ).",
            "y′ = y (1 − y), with y the output and not the input.",
        ),
        layers.logistic,
    ),
    Exercise(
        "gradient_check",
        "The gradient check itself: central differences",
        "numerical_gradient",
        (
            "Move one element of x up by h, and down by h, and leave all others where they are.",
            "What lies between the two values of f is 2 h wide. Mind that x is what it was for the next element.",
            "With step zero but for h at i: g[i] = (f(x + step) − f(x − step)) / (2 h). Both sums are new "
            "arrays, so that x stays.",
        ),
        algorithms.gradient_check,
    ),
    Exercise(
        "mse",
        "Mean squared error: a loss and its gradient",
        "mse",
        (
            "Differentiate one term of the sum, (y_ni − t_ni)², and keep the factor in front.",
            "The derivative of a square brings a 2. What is divided in the loss is divided in the gradient, and by "
            "the same: N, the number of samples.",
            "dy_ni = 2 (y_ni − t_ni) / N.",
        ),
        objectives.mse,
    ),
    Exercise(
        "logistic_loss",
        "Logistic loss from logits: bounded, and never dead",
        "logistic_loss",
        (
            "Differentiate log(1 + eˢ) − t s by s.",
            "The derivative of log(1 + eˢ) is eˢ / (1 + eˢ) = σ(s). No σ′ comes in: it cancels.",
            "dlogits = (σ(s) − t) / N. For σ(s) at large s use e^−|s|, which cannot overflow: 1 / (1 + e^−|s|) for "
            "s > 0, e^−|s| / (1 + e^−|s|) else.",
        ),
        objectives.logistic_loss,
    ),
    Exercise(
        "softmax",
        "Softmax: a Jacobian that is no diagonal",
        "Softmax",
        (
            "y_j depends on every x_k of its row. Find ∂y_j/∂x_k for j = k and for j ≠ k.",
            "∂y_j/∂x_k = y_j ([j = k] − y_k). Now dx_k = Σ_j dy_j ∂y_j/∂x_k; no matrix needs to be built.",
            "dx_k = y_k (dy_k − Σ_j dy_j y_j): one sum for each row.",
        ),
        layers.softmax,
    ),
    Exercise(
        "cross_entropy",
        "Softmax with cross-entropy: all cancels",
        "cross_entropy",
        (
            "L = 1/N Σ_n (log Z_n − s_n,label(n)) with Z_n = Σ_j exp(s_nj). Differentiate both terms.",
            "∂log Z / ∂s_k = p_k; and the second term gives −1 at the label, 0 elsewhere.",
            "dlogits = (p − t) / N, where t is 1 at the label of each row and 0 elsewhere. Do not go through softmax "
            "once more.",
        ),
        objectives.cross_entropy,
    ),
    Exercise(
        "residual",
        "Residual block: two paths add up",
        "Residual",
        (
            "x is used twice. What comes back along the two paths is added.",
            "The first path gives dy as it is. The second goes back through V, tanh and W, in this order.",
            "ds = (dy Vᵀ) (1 − a²) is the gradient of x W. Then dV = aᵀ dy, dW = xᵀ ds, dx = dy + ds Wᵀ.",
        ),
        layers.residual,
    ),
    Exercise(
        "dropout",
        "Dropout: the same mask back",
        "Dropout",
        (
            "For the mask that was drawn, y is linear in x, element by element.",
            "∂y/∂x is 1 / (1 − rate) where kept, and 0 elsewhere.",
            "dx is to dy what y is to x: the same mask and the same scale.",
        ),
        layers.dropout,
    ),
    Exercise(
        "momentum",
        "SGD with momentum: a running sum of gradients",
        "SGD",
        (
            "Each parameter has a u of its own, which is kept on self from step to step.",
            "First u, then the value by the new u, then the gradient to zero.",
            "self.u[i] = momentum · self.u[i] + p.grad; p.value = p.value − lr · self.u[i]; p.zero_grad(). lr "
            "stands in the second alone.",
        ),
        algorithms.momentum,
    ),
    Exercise(
        "adam",
        "Adam: two moments and their bias",
        "Adam",
        (
            "t counts steps, not parameters: add 1 to self.t once, before everything else.",
            "m and v are kept as they are; m̂ and v̂ are made anew from them in each step, and not kept.",
            "Take β to the power t: m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ), in Python b1**self.t. eps stands "
            "beside the root: √v̂ + eps.",
        ),
        algorithms.adam,
    ),
    Exercise(
        "layer_norm",
        "Layer norm: three ways from x to y",
        "LayerNorm",
        (
            "Do gamma and beta first, as in a Dense layer. Then let d = gamma · dy be the gradient of x̂, and go "
            "back through x̂ = (x − mu) s by the three paths: x itself, mu, and s.",
            "dmu = −s Σ d. With ∂s/∂var = −½ s³, dvar = −½ s³ Σ d (x − mu). Then ∂mu/∂x = 1/D and "
            "∂var/∂x = 2 (x − mu)/D.",
            "dx = s (d − mean(d) − x̂ · mean(d · x̂)), means over the D elements of a row.",
        ),
        layers.layer_norm,
    ),
    Exercise(
        "batch_norm",
        "Batch norm: samples that see each other",
        "BatchNorm",
        (
            "The algebra is that of layer norm. Over which elements are the mean and the variance taken here?",
            "Every sample moves the mean and the variance of each feature, so the sums go over the batch, axis 0.",
            "dx = s (d − mean(d) − x̂ · mean(d · x̂)) with d = gamma · dy, means over the N samples of a column.",
        ),
        layers.batch_norm,
    ),
    Exercise(
        "embedding",
        "Embedding: rows that are taken several times",
        "Embedding",
        (
            "Which elements of y does one row of W move? As many as its id occurs, and what they bring back "
            "is added.",
            "dW starts as zeros, and each dy_nt is added to row ids_nt. Try an id that occurs twice with "
            "W.grad[ids] += dy.",
            "np.add.at(self.W.grad, ids, dy) adds every dy to its row, also where an id occurs more than once.",
        ),
        layers.embedding,
    ),
    Exercise(
        "padded_slice",
        "An adjoint by hand: padding and stride",
        "adjoint",
        (
            "A is padding, then taking every s-th. The adjoint of two maps in turn is that of the second, "
            "then that of the first.",
            "The adjoint of taking elements puts them back in their places, among zeros. The adjoint of "
            "padding cuts it off.",
            "padded of (N, length + 2 padding) zeros; padded[:, ::stride] = y; then padded[:, padding : "
            "padding + length].",
        ),
        algorithms.padded_slice,
    ),
    Exercise(
        "upsample",
        "Upsampling: one pixel moves four",
        "Upsample",
        (
            "A pixel of x is copied to four pixels of y. What do they send back to it, together?",
            "dx is the sum of dy over each block of 2 × 2.",
            "dy as (N, H, 2, W, 2, C) has the rows and columns of a block on axes 2 and 4: sum over these.",
        ),
        images.upsample,
    ),
    Exercise(
        "conv2d",
        "Convolution: a Dense layer on windows",
        "Conv2d",
        (
            "Run through the same i and j as forward. For each of them y += x_pad[tap] @ W[i, j] is a Dense "
            "layer, whose backward you know.",
            "dW[i, j] = x_pad[tap]ᵀ dy, summed over N, OH and OW. What x_pad[tap] gets back, dy W[i, j]ᵀ, is "
            "added to the same slice of a padded dx.",
            "dx_pad = zeros like x_pad; dx_pad[tap(i, j)] += dy @ W[i, j].T, with += since taps overlap; dx "
            "is dx_pad without its border, [:, p : p + height, p : p + width]. np.tensordot(a, b, ((0, 1, 2), "
            "(0, 1, 2))) sums over the three axes.",
        ),
        images.conv2d,
    ),
    Exercise(
        "conv_transpose2d",
        "Transposed convolution: the adjoint of a convolution",
        "ConvTranspose2d",
        (
            "Cutting p pixels off has padding with p zeros for an adjoint: make dy_pad of y_pad's shape.",
            "For one i and j y_pad[tap] += x @ W[i, j].T: dx gets dy_pad[tap] W[i, j], and dW[i, j] is "
            "dy_pad[tap]ᵀ x.",
            "dx += dy_pad[tap(i, j)] @ W[i, j] for all i and j; dW[i, j] += np.tensordot(dy_pad[tap(i, j)], "
            "x, ((0, 1, 2), (0, 1, 2))). b reaches y after the cut: sum dy itself.",
        ),
        images.conv_transpose2d,
    ),
    Exercise(
        "max_pool",
        "Max pooling: the winner takes dy",
        "MaxPool2d",
        (
            "Run through the same windows as forward. In each, y moves with one pixel alone: the largest.",
            "dx starts as zeros; for each window its dy is added at the place of the largest pixel, with += "
            "since windows overlap.",
            "window.reshape(N, k * k, C).argmax(axis=1) is the first of the largest, row · k + column. With "
            "n, c = np.ogrid[:N, :C] dx[n, row, column, c] += dy[:, r, q] reaches each of them once.",
        ),
        images.max_pool,
    ),
    Exercise(
        "average_pool",
        "Average pooling: dy shared out",
        "AvgPool2d",
        (
            "Run through the same windows as forward. Each pixel under a window moves y by a share of its own "
            "step: which?",
            "Each of the k² pixels gets dy / k². Where windows overlap, shares are added.",
            "dx[:, rows, columns] += dy[:, r : r + 1, q : q + 1] / k**2: the slices keep the axes, so that it "
            "spreads over the window.",
        ),
        images.average_pool,
    ),
    Exercise(
        "gaussian_kl",
        "KL divergence of a Gaussian: the prior's pull",
        "gaussian_kl",
        (
            "The terms do not mix: differentiate one of them by mu, and by logvar.",
            "σ² = exp(logvar) is its own derivative by logvar.",
            "dmu = mu / N and dlogvar = ½ (σ² − 1) / N.",
        ),
        objectives.gaussian_kl,
    ),
    Exercise(
        "reparameterise",
        "Reparameterised sample: a gradient through a draw",
        "reparameterise",
        (
            "With eps held fixed z is a plain function of mu and logvar, element by element.",
            "∂z/∂mu = 1, and ∂z/∂logvar = eps · ∂σ/∂logvar.",
            "∂σ/∂logvar = ½ σ, since σ = exp(½ logvar). So dmu = dz, dlogvar = dz · eps · ½ σ.",
        ),
        objectives.reparameterise,
    ),
    Exercise(
        "vae",
        "The loss of a VAE: everything together",
        "LinearVAE",
        (
            "Go from the loss back, line by line: y, V, z, then mu and logvar, and from them h and E.",
            "mu and logvar are used twice each: in z, and in the KL. Both paths are added.",
            "dy = (y − x)/N, dz = dy Vᵀ, dmu = dz + mu/N, dlogvar = dz eps ½ σ + ½ (σ² − 1)/N. dV = zᵀ dy, dE "
            "= xᵀ [dmu, dlogvar] side by side.",
        ),
        objectives.vae,
    ),
    Exercise(
        "gan_discriminator",
        "The discriminator's loss: two batches",
        "discriminator_loss",
        (
            "Two logistic losses: label 1 for real logits, label 0 for those of generated images. Each has a "
            "batch size of its own.",
            "softplus′ = σ. Mind the inner derivative of softplus(−real).",
            "dreal = −σ(−real)/N and dfake = σ(fake)/M, where σ(s) = 1/(1 + e⁻ˢ).",
        ),
        objectives.gan_discriminator,
    ),
    Exercise(
        "gan_generator",
        "The generator's loss, which does not saturate",
        "generator_loss",
        (
            "It is a logistic loss whose labels are all 1: the generator wants its images to be taken for real.",
            "softplus′ = σ. Mind the inner derivative of softplus(−fake).",
            "dfake = −σ(−fake)/N = −1/(1 + e^fake)/N.",
        ),
        objectives.gan_generator,
    ),
    Exercise(
        "attention",
        "Attention: products of matrices around a softmax",
        "attention",
        (
            "y = a v is a product: da = dy vᵀ and dv = aᵀ dy, for each sample. Then the softmax, then the "
            "other product.",
            "Softmax by rows: ds = a (da − Σ da · a) with the sum over the last axis. √d divides s, so it "
            "divides on the way back, too.",
            "With ds divided by √d: dq = ds k, dk = dsᵀ q. aᵀ for each sample is a.transpose(0, 2, 1).",
        ),
        layers.attention,
    ),
    Exercise(
        "lstm_cell",
        "An LSTM cell: gates, and two ways out",
        "LSTMCell",
        (
            "Name every step: z, gates, c_new, t = tanh(c_new), h_new. c_new goes out by itself, and through h_new.",
            "dc_new gets ∂L/∂h_new · o (1 − t²) added. Then di = dc_new g, df = dc_new c, dg = dc_new i, do = "
            "∂L/∂h_new t; and c gets dc_new f.",
            "Each gate goes through its own derivative, i (1 − i), f (1 − f), o (1 − o), 1 − g²; side by side "
            "they are dz. Then dx = dz Wxᵀ, dh = dz Whᵀ, dWx = xᵀ dz, dWh = hᵀ dz, db = Σ dz.",
        ),
        layers.lstm_cell,
    ),
)

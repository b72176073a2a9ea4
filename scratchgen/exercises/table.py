"""Every exercise, in the order to do them in."""

from scratchgen.exercises import proofs
from scratchgen.exercises.exercise import Exercise

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
        proofs.dense,
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
        proofs.relu,
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
        proofs.tanh,
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
        proofs.sigmoid_layer,
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
        proofs.mse,
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
        proofs.logistic_loss,
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
        proofs.softmax,
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
        proofs.cross_entropy,
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
        proofs.residual,
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
        proofs.dropout,
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
        proofs.layer_norm,
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
        proofs.batch_norm,
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
        proofs.gaussian_kl,
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
        proofs.reparameterise,
    ),
)

"""The export to PyTorch: names, layouts and permutations by hand in NumPy, and what is refused."""

import ast
import importlib.util
import json
import struct

import numpy as np
import pytest
from exports import Laplace, drawn, exported
from layer_table import changed, snapshot
from safetensors.numpy import load_file

from scratchgen import (
    GAN,
    Autoencoder,
    BatchNorm,
    Bernoulli,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Gaussian,
    Parameter,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    conv_vae,
    dcgan,
    dense_autoencoder,
    dense_gan,
    dense_vae,
    point_gan,
)
from scratchgen.export import export_torch


def metadata(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))["__metadata__"]


# --- by hand --------------------------------------------------------------------------------------------------


def test_names_shapes_and_types(tmp_path):
    model = drawn(conv_vae((9, 6, 3), latent=5, width=4, likelihood="gaussian"), np.float32)
    model.likelihood.logvar.value = np.array([-1.25], np.float32)
    paths = export_torch(model, str(tmp_path / "vae.safetensors"))
    assert paths == [tmp_path / "vae.safetensors", tmp_path / "vae.py"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert metadata(paths[0]) == {"format": "pt", "model": "VAE"}
    arrays = load_file(paths[0])
    assert {name: array.shape for name, array in arrays.items()} == {
        "encoder.0.weight": (4, 3, 4, 4),
        "encoder.0.bias": (4,),
        "encoder.2.weight": (8, 4, 4, 4),
        "encoder.2.bias": (8,),
        "encoder.5.weight": (10, 16),
        "encoder.5.bias": (10,),
        "decoder.0.weight": (16, 5),
        "decoder.0.bias": (16,),
        "decoder.3.weight": (8, 4, 4, 4),
        "decoder.3.bias": (4,),
        "decoder.5.weight": (4, 3, 4, 4),
        "decoder.5.bias": (3,),
        "likelihood.logvar": (1,),
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert arrays["likelihood.logvar"] == np.float32(-1.25)


def test_a_batchnorm_has_five_arrays(tmp_path):
    layer = drawn(BatchNorm(3))
    arrays = exported(layer, tmp_path, (2, 4, 3))
    assert arrays.keys() == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    for there, here in (("weight", layer.gamma.value), ("bias", layer.beta.value)):
        np.testing.assert_array_equal(arrays[there], here)
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(arrays[name], getattr(layer, name))
    tracked = arrays["num_batches_tracked"]
    assert (tracked.shape, tracked.dtype, tracked) == ((), np.int64, 0)


def test_statistics_take_the_dtype_of_the_weights(tmp_path):
    layer = drawn(BatchNorm(3), np.float32)
    layer.running_mean = layer.running_mean.astype(np.float64)
    assert exported(layer, tmp_path, (3,))["running_mean"].dtype == np.float32


def test_kernels_and_matrices(tmp_path):
    conv, up, dense = drawn(Conv2d(2, 3, (4, 5))), drawn(ConvTranspose2d(2, 3, (4, 5))), drawn(Dense(4, 6))
    there = exported(conv, tmp_path, (6, 6, 2))["weight"]
    assert there.shape == (3, 2, 4, 5)
    assert all(there[o, k, i, j] == conv.W.value[i, j, k, o] for o, k, i, j in np.ndindex(there.shape))
    there = exported(up, tmp_path, (6, 6, 2))["weight"]
    assert there.shape == (2, 3, 4, 5)
    assert all(there[k, o, i, j] == up.W.value[i, j, o, k] for k, o, i, j in np.ndindex(there.shape))
    arrays = exported(dense, tmp_path)
    np.testing.assert_array_equal(arrays["weight"], dense.W.value.T)
    np.testing.assert_array_equal(arrays["bias"], dense.b.value)


H, W, C = 2, 3, 4

HERE = np.array(
    [(h * W + w) * C + c for c in range(C) for h in range(H) for w in range(W)]
)  # of the k-th number there


def test_what_follows_a_flattened_image_is_permuted(tmp_path):
    net = drawn(Sequential(Flatten(), ReLU(), BatchNorm(H * W * C), Dense(H * W * C, 5)))
    norm, dense = net.layers[2:]
    arrays = exported(net, tmp_path, (H, W, C))
    np.testing.assert_array_equal(arrays["3.weight"], dense.W.value[HERE].T)
    np.testing.assert_array_equal(arrays["3.bias"], dense.b.value)
    for name, vector in (
        ("weight", norm.gamma.value),
        ("bias", norm.beta.value),
        ("running_mean", norm.running_mean),
        ("running_var", norm.running_var),
    ):
        np.testing.assert_array_equal(arrays[f"2.{name}"], vector[HERE])


def test_what_leads_to_an_image_is_permuted(tmp_path):
    net = drawn(Sequential(Dense(5, H * W * C), BatchNorm(H * W * C), Tanh(), Reshape(H, W, C)))
    dense, norm = net.layers[:2]
    arrays = exported(net, tmp_path)
    np.testing.assert_array_equal(arrays["0.weight"], dense.W.value[:, HERE].T)
    np.testing.assert_array_equal(arrays["0.bias"], dense.b.value[HERE])
    np.testing.assert_array_equal(arrays["1.running_var"], norm.running_var[HERE])


def test_vectors_are_left_as_they_are(tmp_path):
    """Between two Dense layers, before the last Reshape's Dense, at the vector that a network takes or gives."""
    net = drawn(
        Sequential(Dense(5, 12), BatchNorm(12), Dense(12, 24), ReLU(), Reshape(2, 3, 4), Flatten(), Dense(24, 6))
    )
    arrays = exported(net, tmp_path)
    for i in (0, 2, 6):
        np.testing.assert_array_equal(arrays[f"{i}.weight"], net.layers[i].W.value.T)
    np.testing.assert_array_equal(arrays["1.weight"], net.layers[1].gamma.value)


def test_a_layer_in_two_places_is_written_for_each(tmp_path):
    """And each place has its own order."""
    dense = drawn(Dense(12, 12))
    net = Sequential(Flatten(), dense, ReLU(), Sequential(dense, Reshape(2, 2, 3)))
    arrays = exported(net, tmp_path, (2, 2, 3))
    order = np.arange(12).reshape(2, 2, 3).transpose(2, 0, 1).ravel()
    np.testing.assert_array_equal(arrays["1.weight"], dense.W.value[order].T)
    np.testing.assert_array_equal(arrays["3.0.weight"], dense.W.value[:, order].T)


def test_the_model_is_left_as_it_was(tmp_path):
    model = drawn(dcgan((8, 8, 1), latent=3, width=2))
    before = snapshot(model)
    export_torch(model, tmp_path / "gan.safetensors")
    assert not changed(before, snapshot(model))


def test_large_weights_are_weights(tmp_path):
    """The shapes are found with numbers that may overflow on the way; no warning comes of it."""
    net = drawn(Sequential(Dense(3, 2), Dense(2, 2)), np.float32)
    net.layers[0].b.value = np.full(2, 3e38, np.float32)
    net.layers[1].W.value = np.full((2, 2), 3e38, np.float32)
    np.testing.assert_array_equal(exported(net, tmp_path)["0.bias"], np.float32(3e38))


# --- the .py file -----------------------------------------------------------------------------------------------


def script(tmp_path, model, **options) -> str:
    return export_torch(model, tmp_path / "net.safetensors", **options)[1].read_text(encoding="utf-8")


def test_the_script_needs_no_scratchgen(tmp_path):
    tree = ast.parse(script(tmp_path, conv_vae((8, 8, 1), width=2, likelihood="gaussian")))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert names == {"pathlib", "safetensors.torch", "torch"}


class OwnLikelihood(Bernoulli):
    pass


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (dense_autoencoder((4, 4, 1), hidden=(8,)), "decoder: (N, 32) → (N, 1, 4, 4)\n        gives logits"),
        (dense_autoencoder((4, 4, 1), hidden=(8,), loss="squared-error"), "gives the pixels themselves"),
        (dense_vae((4, 5, 3), latent=6), "encoder: (N, 3, 4, 5) → (N, 12)\n        gives h with h[:, :6] = mu and"),
        (dense_vae((4, 5, 3), latent=6), "and h[:, 6:] = logvar of q(z|x) = N(mu, exp(logvar))\n    decoder: (N, 6)"),
        (dense_vae((4, 4, 1)), "for a new image\n        gives logits: torch.sigmoid of them is the expected pixels"),
        (dense_vae((4, 4, 1), likelihood=OwnLikelihood()), "the model's own density"),
        (dense_vae((4, 4, 1), likelihood="gaussian"), "is exp(likelihood['logvar']), learned"),
        (dense_vae((4, 4, 1), likelihood=Gaussian(0.25, learn=False)), "is 0.25 ** 2, fixed"),
        (dense_vae((4, 4, 1), likelihood=Laplace()), "the model's own density"),
        (dense_gan((4, 4, 1)), "generator: (N, 100) → (N, 1, 4, 4)\n        takes z, a draw from N(0, I)\n"),
        (dense_gan((4, 4, 1)), "pixels in [−1, 1]\n    discriminator: (N, 1, 4, 4) → (N, 1)\n        gives logits"),
        (dense_gan((4, 4, 1), prior="uniform"), "the uniform density on [−1, 1]\n"),
        (point_gan(2, latent=3), "gives samples\n    discriminator: (N, 2) → (N, 1)\n        gives logits"),
        (GAN(Sequential(Dense(3, 2), Sigmoid()), Dense(2, 1), 3), "gives pixels in [0, 1]"),
    ],
)  # fmt: skip
def test_the_script_says_what_the_numbers_mean(tmp_path, model, said):
    docstring = ast.get_docstring(ast.parse(script(tmp_path, model)), clean=False)
    assert said in docstring
    assert "(N, C, H, W)" in docstring


def test_the_script_gives_the_shape_after_each_layer(tmp_path):
    net = Sequential(
        Tanh(), Dense(3, 40), Sequential(Reshape(4, 5, 2)), Conv2d(2, 7, (2, 3)), Flatten(), Dense(63, 1)
    )
    assert """
    return nn.Sequential(
        nn.Tanh(),  # (N, 3)
        nn.Linear(3, 40),  # (N, 40)
        nn.Sequential(
            nn.Unflatten(1, (2, 4, 5)),  # (N, 2, 4, 5)
        ),
        nn.Conv2d(2, 7, kernel_size=(2, 3)),  # (N, 7, 3, 3)
        nn.Flatten(),  # (N, 63)
        nn.Linear(63, 1),  # (N, 1)
    )
""" in script(tmp_path, net)


@pytest.mark.parametrize(
    ("net", "shape", "needed"),
    [
        (Sequential(Conv2d(2, 3, 3), Flatten()), (5, 4, 2), True),  # the image that is flattened and given
        (Sequential(Conv2d(2, 3, 3), Flatten()), (3, 3, 2), False),  # a single pixel
        (Sequential(Conv2d(2, 1, 3), Flatten()), (5, 4, 2), False),  # a single channel
        (Sequential(Reshape(2, 3, 4), Conv2d(4, 1, 1)), (24,), True),  # the vector that is taken
        (Sequential(Reshape(1, 1, 24), Conv2d(24, 1, 1)), (24,), False),
        (Sequential(Conv2d(2, 3, 1), Flatten(), ReLU(), Reshape(4, 3, 2), Conv2d(2, 2, 1)), (2, 4, 2), True),
        (Sequential(Conv2d(2, 3, 1), Flatten(), ReLU(), Reshape(4, 2, 3), Conv2d(3, 2, 1)), (2, 4, 2), False),
        (Sequential(Conv2d(2, 3, 1), Flatten(), Reshape(4, 2, 3), Flatten(), Dense(24, 2)), (2, 4, 2), False),
        (Sequential(Reshape(4, 2, 3)), (2, 4, 3), True),  # image to image
    ],
)
def test_a_module_of_our_own_only_where_no_weight_can_be_permuted(tmp_path, net, shape, needed):
    assert ("ChannelsLastReshape" in script(tmp_path, net, input_shapes={"network": shape})) == needed


# --- what is refused, before anything is written ------------------------------------------------------------------


class Swish(ReLU):
    pass


class OwnSequential(Sequential):
    pass


def with_extra():
    model = GAN(Dense(2, 2), Dense(2, 1), 2)
    model.temperature = Parameter("temperature", np.ones(1, np.float32))
    return model


def with_value(value):
    model = dense_vae((4, 4, 1), latent=2, hidden=(3,))
    model.decoder.layers[0].b.value = np.array([0, value, 0], np.float32)
    return model


def bad_statistics():
    layer = BatchNorm(2)
    layer.running_var = np.array([1, np.nan], np.float32)
    return Sequential(Dense(3, 2), layer)


def test_a_vector_may_meet_other_layers_before_the_dense(tmp_path):
    export_torch(Sequential(Sequential(Tanh()), ReLU(), Dense(4, 1)), tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("model", "shapes", "error", "message"),
    [
        (Autoencoder(Dense(4, 2), Sequential(ReLU(), Sequential(Swish()))), None, TypeError, r"\.1\.0 is a Swish"),
        (GAN(Dense(2, 2), OwnSequential(Dense(2, 1)), 2), None, TypeError, "discriminator is a OwnSequential"),
        (Swish(), {"network": (2,)}, TypeError, "network is a Swish"),
        (Bernoulli(), None, TypeError, "got a Bernoulli, needs an Autoencoder"),
        ({}, None, TypeError, "got a dict"),
        (with_extra(), None, TypeError, "GAN holds temperature"),
        (with_value(np.nan), None, ValueError, r"decoder\.0\.b holds elements that are not finite"),
        (with_value(-np.inf), None, ValueError, r"decoder\.0\.b holds elements that are not finite"),
        (bad_statistics(), None, ValueError, r"1\.running_var holds elements that are not finite"),
        (Sequential(Flatten(), Dense(4, 1)), None, ValueError, r"what network takes does not follow.*input_shapes="),
        (Sequential(), None, ValueError, "does not follow"),
        (Autoencoder(Flatten(), Reshape(2, 2, 1)), None, ValueError, "what decoder takes does not follow"),
        (Dense(4, 1), {"encoder": (4,)}, ValueError, "input_shapes has 'encoder', needs names among network"),
        (Dense(4, 1), (4,), TypeError, r"input_shapes is \(4,\), needs {name: shape} for network"),
        (Dense(4, 1), {"network": 4}, ValueError, "is 4, needs the shape"),
        (Dense(4, 1), {"network": ()}, ValueError, r"is \(\), needs the shape"),
        (Dense(4, 1), {"network": (0,)}, ValueError, "needs at least 1"),
        (Dense(4, 1), {"network": (4.0,)}, TypeError, "needs an integer"),
        (Dense(4, 1), {"network": (5,)}, ValueError, r"shape \(5,\) does not go through network: Dense\(4, 1\)"),
        (GAN(Dense(2, 3), Dense(2, 1), 2), None, ValueError, r"shape \(3,\) does not go through discriminator"),
        (BatchNorm(2), {"network": (1, 1, 1, 1, 2)}, ValueError, "samples of 5 axes"),
    ],
)  # fmt: skip
def test_refused(tmp_path, model, shapes, error, message):
    with pytest.raises(error, match=message):
        export_torch(model, tmp_path / "net.safetensors", input_shapes=shapes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["net", "net.py", "net.safetensors.gz"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        export_torch(Dense(2, 1), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train.py", "train.safetensors"])
def test_what_is_no_export_is_not_overwritten(tmp_path, name):
    """Somebody's script, or the weights of a run."""
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(FileExistsError, match=rf"{name} is there and no earlier export"):
        export_torch(Dense(2, 1), tmp_path / "train.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine\n"
    written = export_torch(Dense(2, 1), tmp_path / "train.safetensors", force=True)
    assert (tmp_path / name) in written
    assert (tmp_path / name).read_bytes() != b"mine\n"


def test_an_exported_file_takes_a_path_in_the_home_folder(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    _, script = export_torch(Dense(2, 1), "~/net.safetensors")
    spec = importlib.util.spec_from_file_location("net", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.load("~/net.safetensors").state_dict().keys() == module.load().state_dict().keys()


def test_an_earlier_export_is_overwritten_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    paths = export_torch(Dense(2, 1), path)
    before = [p.read_bytes() for p in paths]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            export_torch(drawn(Dense(3, 1)), path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [p.read_bytes() for p in paths] == before
    export_torch(drawn(Dense(3, 1)), path)
    assert all(p.read_bytes() != b for p, b in zip(paths, before, strict=True))

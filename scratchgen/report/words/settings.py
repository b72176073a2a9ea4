"""The settings of a run, in words."""

from collections.abc import Mapping
from typing import Any

from scratchgen.files import printable

# What decides no result or is shown as something else.
HIDDEN = (
    *("id", "scratchgen", "data_name", "data_sha256"),
    *("save_every", "sample_every", "keep_weights", "evaluate"),
)
NAMES = {
    "arch": "architecture",
    "beta": "β of the KL",
    "beta1": "β₁ of Adam",
    "binarise": "binarisation",
    "d_lr": "learning rate of D",
    "decay": "decay of the learning rate",
    "hidden": "layer sizes",
    "image_shape": "image size",
    "k": "updates of D for one of G",
    "latent": "latent dimension",
    "lr": "learning rate",
    "prior": "prior of z",
    "smallest": "smallest side of a feature map",
    "smoothing": "label smoothing",
    "width": "channels next to the image",
}


def settings_of(config: Mapping[str, Any], data: str) -> dict[str, str]:
    """Its settings by their names; `data` stands for the place where the data lie."""
    shown = {k: v for k, v in config.items() if k not in HIDDEN}
    return {name_of(k): data if k == "data" else _text(k, v) for k, v in shown.items()}


def name_of(setting: str) -> str:
    return NAMES.get(setting, printable(setting.replace("_", " ")))


def _text(setting: str, value: Any) -> str:
    if isinstance(value, list):
        return ("×" if setting in ("image_shape", "image_size") else ", ").join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return printable(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"

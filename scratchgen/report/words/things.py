"""What the data are called."""

import re
from collections.abc import Mapping
from typing import Any


def kind_of_images(config: Mapping[str, Any]) -> str:
    """In the plural: digits where they are such, else images."""
    return "digits" if re.match(r"(MNIST|digits)\b", config.get("data_name", ""), re.IGNORECASE) else "images"

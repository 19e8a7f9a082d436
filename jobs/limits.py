"""Objectives and samples that need more memory than is left: an error before the work starts."""

import math
from collections.abc import Sequence

import torch

from capacity import available_bytes, check_fits
from inference.importance import least_bytes
from specs import parse


def check_objective(config: dict, images: int, shape: Sequence[int], device: torch.device) -> None:
    """Reject an objective whose samples of one batch need more memory than is left.

    Args:
        images: how many training images there are, each of that `shape`.

    Raises:
        CapacityError: says which flags to change.
    """
    objective, size = parse("objective", config["objective"]), min(config["batch_size"], images)
    if objective.name == "iwae":
        check_fits(
            f"--objective {objective} with batches of {size} images",
            4 * objective.n * size * math.prod(shape),
            "choose fewer samples or a smaller --batch-size",
            available_bytes(device),
        )


def check_samples(model: torch.nn.Module, images: torch.Tensor, samples: int, flag: str = "--samples") -> None:
    """Reject more importance samples of an image than memory holds.

    Raises:
        CapacityError: begins with the flag.
    """
    needed = least_bytes(model, images, samples)
    check_fits(f"{flag} {samples}", needed, "choose a smaller number", available_bytes(images.device))

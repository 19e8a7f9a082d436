"""Runs and scorings that need more memory than is left: an error before they start."""

import math

import torch

from capacity import available_bytes, check_fits
from inference.importance import least_bytes
from inference.memory import free
from specs import parse

SMALLER = "choose smaller --hidden, --latent, --prior or --flow"
COPIES = 4  # of all parameters, beside themselves: gradient, two moments of Adam, the best epoch's weights


def left_on(device: torch.device) -> int:
    """Return how many bytes this process may still allocate on a device."""
    return free(device) if device.type == "cuda" else available_bytes()


def check_training(config, model, guide, images, device):
    """Reject a run that needs more memory than is left, before its first step.

    Raises:
        CapacityError: says which flags to change.
    """
    available = left_on(device)
    parameters = list(torch.nn.ModuleList([model, guide]).parameters())
    check_fits(
        f"training {sum(p.numel() for p in parameters)} parameters",
        COPIES * sum(p.nbytes for p in parameters),
        SMALLER,
        available,
    )
    objective, size = parse("objective", config["objective"]), min(config["batch_size"], len(images.train))
    if objective.name == "iwae":
        check_fits(
            f"--objective {objective} with batches of {size} images",
            4 * objective.n * size * math.prod(images.image_shape),
            "choose fewer samples or a smaller --batch-size",
            available,
        )
    check_samples(model, images.images("test"), config["samples"])


def check_samples(model: torch.nn.Module, images: torch.Tensor, samples: int, flag: str = "--samples") -> None:
    """Reject more importance samples of an image than memory holds.

    Raises:
        CapacityError: begins with the flag.
    """
    needed = least_bytes(model, images, samples)
    check_fits(f"{flag} {samples}", needed, "choose a smaller number", left_on(images.device))

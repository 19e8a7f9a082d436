"""Checks of a data set before a model is trained on it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vampyro.errors import DataError

ROUNDING = 1e-6  # error of k/255 in float32, and of what a resize or a scaling adds to it
USUAL_CHANNELS = 4  # of images as people usually have them


def as_levels(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the images of a dict as uint8 k where each float of every one of them is some k/255, else as they are.

    >>> as_levels({"train": np.float32([0, 0.2]), "test": np.float32([1])})
    {'train': array([ 0, 51], dtype=uint8), 'test': array([255], dtype=uint8)}
    >>> as_levels({"train": np.float32([0, 0.2]), "test": np.float32([0.5])})["train"].dtype
    dtype('float32')
    """
    for array in images.values():
        if array.dtype.kind != "f" or not ((array >= 0) & (array <= 1)).all():  # NaN is neither
            return images
        levels = array * 255
        if (np.abs(levels - np.rint(levels)) > 255 * ROUNDING).any():
            return images
    return {name: np.rint(array * 255).astype(np.uint8) for name, array in images.items()}


def check_shape(sizes: Sequence[int], what: str) -> None:
    """Raise a DataError where these are not (N, channels, height, width) of at least one image."""
    sizes = tuple(sizes)
    if len(sizes) != 4:
        raise DataError(f"{what} is of shape {sizes}, expected (N, channels, height, width)")
    if 0 in sizes:
        raise DataError(f"{what} is empty, its shape is {sizes}: every split needs at least one image")
    if has_channels_last(sizes):
        raise DataError(
            f"{what} is of shape {sizes} and seems to have its channels last, expected (N, channels, height, width): "
            "use array.transpose(0, 3, 1, 2)"
        )


def has_channels_last(sizes: Sequence[int]) -> bool:
    """Return whether a shape (N, a, b, c) is that of images (N, height, width, channels).

    Most images have 1 to 4 channels, so a from 1 to 4 is taken for the channels, except where a = b > c: these are
    small square images. Otherwise c is taken for the channels where it is 1 to 4 or the smallest, or where a = b.

    >>> images = (28, 28, 1), (32, 48, 3), (32, 4, 4), (32, 48, 10), (9, 9, 20), (4, 4, 1)
    >>> [has_channels_last((100, *sizes)) for sizes in images]
    [True, True, True, True, True, True]
    >>> [has_channels_last((100, *sizes)) for sizes in ((1, 28, 28), (3, 4, 3), (4, 32, 4), (3, 3, 3), (10, 64, 48))]
    [False, False, False, False, False]
    """
    _, first, second, last = sizes
    if first <= USUAL_CHANNELS:
        return first == second > last
    return last <= USUAL_CHANNELS or last < min(first, second) or first == second != last


def check_values(x: Tensor, what: str) -> None:
    """Raise a DataError where a tensor is neither uint8 nor float32 in [0, 1]."""
    if x.dtype == torch.uint8:
        return
    if x.dtype != torch.float32:
        raise DataError(f"{what} is {x.dtype}, expected uint8 in 0..255 or float32 in [0, 1]")
    if not x.isfinite().all():
        raise DataError(f"{what} has values that are not finite: clean them before they are loaded")
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        rescaled = "(array + 1) / 2" if low < 0 else "array / 255" if high <= 255 else "array / array.max()"
        raise DataError(
            f"{what} has values in [{low:g}, {high:g}], expected [0, 1]: rescale all splits, for example {rescaled}, "
            "or save uint8 in 0..255"
        )

"""Checks of a data set before a model is trained on it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vampyro.data.names import SPLITS
from vampyro.errors import DataError

if TYPE_CHECKING:
    from vampyro.data.image_set import ImageSet

ROUNDING = 1e-6  # error of k/255 in float32, and of what a resize or a scaling adds to it
USUAL_CHANNELS = 4  # of images as people usually have them
# The splits that hold 0 and 255 only.
BLACK_AND_WHITE = {"none": (), "dynamic": ("valid", "test"), "threshold": SPLITS, "fixed": SPLITS}


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


def check_images(images: "ImageSet") -> None:
    """Raise a DataError that names the data set, the split and the fault."""
    if images.binarize not in BLACK_AND_WHITE:
        raise DataError(f"{images.name}: binarize is {images.binarize!r}, not one of {', '.join(BLACK_AND_WHITE)}")
    for split in SPLITS:
        x, what = getattr(images, split), f"{images.name}: {split}"
        check_shape(x.shape, what)
        if x.shape[1:] != images.train.shape[1:]:
            ours, trains = ("×".join(map(str, y.shape[1:])) for y in (x, images.train))
            raise DataError(f"{what} images are {ours}, but train's are {trains}: all splits need one image shape")
        _check_values(x, what)
        if split in BLACK_AND_WHITE[images.binarize] and (x.dtype != torch.uint8 or ((x != 0) & (x != 255)).any()):
            raise DataError(
                f"{what} has other values than the bytes 0 and 255, which {images.binarize} binarisation leaves: "
                "begin with binarize='none' and call .binarized"
            )
    for split, labels in images.labels.items():
        if split not in SPLITS:
            raise DataError(f"{images.name}: labels of {split!r}, which is not one of {', '.join(SPLITS)}")
        expected = (len(getattr(images, split)),)
        if labels.dtype != torch.int64 or labels.shape != expected:
            raise DataError(
                f"{images.name}: {split} labels are {labels.dtype} of shape {tuple(labels.shape)}, "
                f"expected torch.int64 of shape {expected}, one for each image"
            )


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


def _check_values(x: Tensor, what: str) -> None:
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

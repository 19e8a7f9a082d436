"""Checks of images before any program sees them."""

import torch
from torch import nn

from distributions.shapes import check_floats


def check_images(images, *programs) -> None:
    """Raise an error that says what is wrong with images, and what to give instead.

    Args:
        images: what a caller gave as a batch of images, (N, …).
        programs: Pyro programs; those that are `nn.Module`s say which dtype and device they compute with.

    Raises:
        TypeError: where they are not a tensor of floats, or of another precision than the programs' parameters.
        ValueError: where there are none, some number is not finite, or they lie on another device.

    >>> check_images(torch.zeros(5, 1, 4, 4, dtype=torch.uint8))
    Traceback (most recent call last):
    TypeError: images are torch.uint8, expected torch.float32: images.float() / 255 for bytes, or data.images('test')
    """
    if not isinstance(images, torch.Tensor):
        kind = type(images).__name__
        raise TypeError(f"images are a {kind}, expected a tensor of floats (N, …): data.images('test') for example")
    tensors = [t for p in programs if isinstance(p, nn.Module) for t in p.parameters() if t.is_floating_point()]
    check_floats(images, tensors, more=", or data.images('test')")
    if images.ndim < 1 or not len(images):
        raise ValueError(f"images are of shape {tuple(images.shape)}, expected at least one image, (N, …)")
    if not (finite := images.isfinite()).all():
        count = (~finite).reshape(len(images), -1).any(1).sum()
        raise ValueError(
            f"images hold numbers that are not finite (NaN or infinite) in {count} of {len(images)} images"
        )

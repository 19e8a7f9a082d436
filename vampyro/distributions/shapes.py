"""Check that images have the shape that a network or a model was built for."""

from collections.abc import Sequence
from itertools import islice
from numbers import Integral
from typing import Any

import torch


def check_shape(
    images: Any, shape: Sequence[int], name: str = "images", leading: int | None = None, like: Any = None
) -> torch.Tensor:
    """Return `images`, (..., *shape). Another shape could silently broadcast to a wrong log-likelihood.

    Args:
        name: of the images, for errors.
        leading: number of dimensions ..., if it matters.
        like: a module with parameters of the expected dtype and device.

    Raises:
        ValueError, TypeError: name what was given and what was expected.

    >>> check_shape(torch.zeros(784), (1, 28, 28))
    Traceback (most recent call last):
    ValueError: images are of shape (784,), expected (N, 1, 28, 28)
    """
    expected = ", ".join(["N", *map(str, shape)])
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{name} are a {type(images).__name__}, expected a torch.Tensor of shape ({expected})")
    kind = images.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    check_floats(images, [] if like is None or casts else list(islice(like.parameters(), 1)), name)
    batch = images.ndim - len(shape)
    if images.shape[max(0, batch) :] != tuple(shape) or leading not in (None, batch):
        raise ValueError(f"{name} are of shape {tuple(images.shape)}, expected ({expected})")
    return images


def check_floats(
    images: torch.Tensor, parameters: Sequence[torch.Tensor], name: str = "images", more: str = ""
) -> None:
    """Raise where images are not floats of the dtype and on the device of the parameters; `more` is another remedy."""
    dtypes = [parameter.dtype for parameter in parameters]
    if not images.is_floating_point() or (dtypes and images.dtype not in dtypes):
        expected = dtypes[0] if dtypes else torch.get_default_dtype()
        remedy = "float()" if expected == torch.float32 else f"to({expected})"
        if images.dtype == torch.uint8:
            remedy = "float() / 255 for bytes"
        raise TypeError(f"{name} are {images.dtype}, expected {expected}: {name.split()[0]}.{remedy}{more}")
    if parameters and images.device != (device := parameters[0].device):
        where = f"{name} are on {images.device}, and the parameters on {device}"
        raise ValueError(f"{where}: {name.split()[0]}.to('{device}')")


def plate_size(images: Any, batch: Any) -> int:
    """The size of a model's plate: the number of images, or, where these are None, the `batch` to draw.

    >>> plate_size(16, 1)
    Traceback (most recent call last):
    TypeError: images are 16, expected a torch.Tensor (N, channels, height, width); to draw some: model(batch=16)
    """
    if images is None:
        if not isinstance(batch, Integral) or batch < 1:
            raise ValueError(f"batch is {batch!r}, expected a whole number of images to draw, 1 or more")
        return int(batch)
    if not isinstance(images, torch.Tensor):
        what = repr(images) if isinstance(images, Integral) else f"of type {type(images).__name__}"
        drawn = f"; to draw some: model(batch={images})" if isinstance(images, Integral) else ""
        raise TypeError(f"images are {what}, expected a torch.Tensor (N, channels, height, width){drawn}")
    return len(images)

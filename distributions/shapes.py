"""Whether images have the shape that a network or a model was built for."""

import torch


def check_shape(images, shape, name="images", leading=None):
    """`images` themselves, (..., *shape); `name` is what an error calls them, `leading` how many dimensions ... are.

    Without it a tensor of another shape is met by a matrix product that names no argument, or broadcasts with the
    pixels' distributions to a log-likelihood that is wrong without a word.

    Raises:
        ValueError: names both shapes.
        TypeError: for what is no tensor.

    >>> check_shape(torch.zeros(784), (1, 28, 28))
    Traceback (most recent call last):
    ValueError: images are of shape (784,), expected (N, 1, 28, 28)
    """
    expected = ", ".join(["N", *map(str, shape)])
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{name} are a {type(images).__name__}, expected a torch.Tensor of shape ({expected})")
    batch = images.ndim - len(shape)
    if images.shape[max(0, batch) :] != tuple(shape) or leading not in (None, batch):
        raise ValueError(f"{name} are of shape {tuple(images.shape)}, expected ({expected})")
    return images

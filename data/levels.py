"""Grey levels k/255 that were saved as floats."""

import numpy as np

ERROR = 1e-6  # of k/255 in float32, and of what a resize or a scaling adds to it


def as_levels(images):
    """The images of a dict as uint8 k where each float of every one of them is some k/255, else as they are.

    >>> as_levels({"train": np.float32([0, 0.2]), "test": np.float32([1])})
    {'train': array([ 0, 51], dtype=uint8), 'test': array([255], dtype=uint8)}
    >>> as_levels({"train": np.float32([0, 0.2]), "test": np.float32([0.5])})["train"].dtype
    dtype('float32')
    """
    if all(_on_the_grid(array) for array in images.values()):
        return {name: np.rint(array * 255).astype(np.uint8) for name, array in images.items()}
    return images


def _on_the_grid(array):
    if array.dtype.kind != "f" or not ((array >= 0) & (array <= 1)).all():  # NaN is neither
        return False
    levels = array * 255
    return bool((np.abs(levels - np.rint(levels)) <= 255 * ERROR).all())

"""What must hold of a data set before anything is learned from it."""

import torch

from data.error import DataError
from data.splits import SPLITS

# The splits that hold 0 and 255 only.
BLACK_AND_WHITE = {"none": (), "dynamic": ("valid", "test"), "threshold": SPLITS, "fixed": SPLITS}


def splits(images):
    """Raises a DataError that names the data set, the split and the fault."""
    if images.binarize not in BLACK_AND_WHITE:
        raise DataError(f"{images.name}: binarize is {images.binarize!r}, not one of {', '.join(BLACK_AND_WHITE)}")
    for split in SPLITS:
        x, what = getattr(images, split), f"{images.name}: {split}"
        _shape(x, what)
        if x.shape[1:] != images.train.shape[1:]:
            ours, trains = ("×".join(map(str, y.shape[1:])) for y in (x, images.train))
            raise DataError(f"{what} images are {ours}, but train's are {trains}: all splits need one image shape")
        _values(x, what)
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


def _shape(x, what):
    if x.ndim != 4:
        raise DataError(f"{what} is of shape {tuple(x.shape)}, expected (N, channels, height, width)")
    if x.numel() == 0:
        raise DataError(f"{what} is empty, its shape is {tuple(x.shape)}: every split needs at least one image")


def _values(x, what):
    if x.dtype == torch.uint8:
        return
    if x.dtype != torch.float32:
        raise DataError(f"{what} is {x.dtype}, expected uint8 in 0..255 or float32 in [0, 1]")
    if not x.isfinite().all():
        raise DataError(f"{what} has values that are not finite: clean them before they are loaded")
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        raise DataError(f"{what} has values in [{low:g}, {high:g}], expected [0, 1]: rescale, or save uint8 in 0..255")

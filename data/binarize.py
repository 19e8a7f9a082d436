"""Grey images to black and white ones."""

import torch

# Not the run's seed: validation and test images have to be the same in every run for the runs to compare.
SEEDS = {"train": 1, "valid": 2, "test": 3}


def scaled(images):
    """Bytes 0..255 as float32 in [0, 1]; floats as they are.

    >>> scaled(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return images if images.is_floating_point() else images.float().div_(255)


def as_bytes(bits):
    """False and True, or 0 and 1, as the bytes 0 and 255."""
    return bits.to(torch.uint8) * 255


def thresholded(images):
    """255 where the intensity is above 1/2, else 0."""
    return as_bytes(scaled(images) > 0.5)


def drawn(images, split):
    """One draw of 255 with probability the intensity, else 0; the same at every call.

    Drawn on the CPU, because each kind of device would draw other pixels from the same seed.
    """
    generator = torch.Generator().manual_seed(SEEDS[split])
    return as_bytes(torch.bernoulli(scaled(images.cpu()), generator=generator)).to(images.device)

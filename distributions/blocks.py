"""Points in portions: what they make with every component is large, and without gradients need not be kept at once."""

BLOCK = 2**20  # numbers made at a time on a CPU, in whose caches they should stay; elsewhere 64 times as many


def blocks(points, numbers):
    """Points (N, …) in portions of equal length, but for the last, where each makes so many numbers.

    >>> import torch
    >>> [len(block) for block in blocks(torch.zeros(2048, 2), numbers=1000)]
    [1024, 1024]
    """
    most = BLOCK if points.device.type == "cpu" else 64 * BLOCK
    return points.chunk(max(1, -(-len(points) * numbers // most)))

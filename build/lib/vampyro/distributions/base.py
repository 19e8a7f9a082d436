"""Errors that say what to do where a moment has no closed form."""

import torch


class Estimable:
    """A distribution whose mean, variance and entropy have no closed form, unless a subclass computes them.

    The error says how to estimate them: `instead`, where {estimate} is the usual way, by samples of `symbol`.
    """

    symbol = "p"
    instead = "{estimate} estimates it"

    def _no_closed_form(self, name: str) -> NotImplementedError:
        estimate = {
            "mean": "{0}.sample((1000,)).mean(0)",
            "variance": "{0}.sample((1000,)).var(0)",
            "entropy": "-{0}.log_prob({0}.sample((1000,))).mean(0)",
        }[name].format(self.symbol)
        advice = self.instead.format(name=name, estimate=estimate)
        return NotImplementedError(f"{name}: {self} has no closed-form {name}; {advice}")

    @property
    def mean(self) -> torch.Tensor:
        raise self._no_closed_form("mean")

    @property
    def variance(self) -> torch.Tensor:
        raise self._no_closed_form("variance")

    def entropy(self) -> torch.Tensor:
        raise self._no_closed_form("entropy")


BLOCK = 2**20  # numbers made at a time on a CPU, in whose caches they should stay; elsewhere 64 times as many


def blocks(points, numbers):
    """Points (N, …) in portions of equal length, but for the last, where each makes so many numbers.

    >>> import torch
    >>> [len(block) for block in blocks(torch.zeros(2048, 2), numbers=1000)]
    [1024, 1024]
    """
    most = BLOCK if points.device.type == "cpu" else 64 * BLOCK
    return points.chunk(max(1, -(-len(points) * numbers // most)))

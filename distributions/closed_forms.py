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

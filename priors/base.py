"""The base class of priors."""

import torch
from torch import Tensor, nn


class Prior(nn.Module):
    """p(z): a module whose `forward()` returns a distribution, batch shape (), event shape (latent,).

    A subclass computes that. Any other module that does is a prior too, without pseudo-inputs.

    >>> from vampyro.distributions import DiagonalNormal
    >>> class Narrow(Prior):
    ...     def forward(self):
    ...         return DiagonalNormal(torch.zeros(2), torch.full((2,), 0.5))
    >>> Narrow()(), Narrow().pseudo_inputs()
    (DiagonalNormal(batch (), event 2), None)
    """

    def forward(self) -> torch.distributions.Distribution:
        raise NotImplementedError

    def pseudo_inputs(self) -> Tensor | None:
        """The images that the prior is made of, (K, channels, height, width), for plots; None where there are none."""
        return None

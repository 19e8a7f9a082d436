"""Optimisers by name."""

from collections.abc import Callable
from typing import Any

import torch


class AdamNormGrad(torch.optim.Adam):
    """Adam on normalised gradients: g ← g / ‖g‖₂ for each parameter tensor before each step.

    The optimiser of the VampPrior paper (arXiv:1705.07120).

    >>> w = torch.nn.Parameter(torch.zeros(2)); w.grad = torch.tensor([3.0, 4.0])
    >>> AdamNormGrad([w]).step(); w.grad
    tensor([0.6000, 0.8000])
    """

    def step(self, closure: Callable | None = None) -> Any:
        loss = None if closure is None else closure()
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if parameters:
            gradients = [p.grad for p in parameters]
            norms = [norm.clamp(min=1e-12) for norm in torch._foreach_norm(gradients)]
            # Not in place: a compiled step returns one tensor for two parameters with equal gradients.
            for parameter, gradient in zip(parameters, torch._foreach_div(gradients, norms)):
                parameter.grad = gradient
        super().step()
        return loss


OPTIMIZERS = {"adam": torch.optim.Adam, "adam-normgrad": AdamNormGrad}

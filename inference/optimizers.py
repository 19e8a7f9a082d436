"""Optimisers by name."""

import torch


class AdamNormGrad(torch.optim.Adam):
    """Adam on gradients of unit length: g ← g / ‖g‖₂ for each parameter tensor before each step.

    What the VampPrior paper trains with (arXiv:1705.07120).

    >>> w = torch.nn.Parameter(torch.zeros(2)); w.grad = torch.tensor([3.0, 4.0])
    >>> AdamNormGrad([w]).step(); w.grad
    tensor([0.6000, 0.8000])
    """

    def step(self, closure=None):
        loss = None if closure is None else closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            norms = torch._foreach_norm(gradients)
            torch._foreach_div_(gradients, [norm.clamp(min=1e-12) for norm in norms])
        super().step()
        return loss


OPTIMIZERS = {"adam": torch.optim.Adam, "adam-normgrad": AdamNormGrad}

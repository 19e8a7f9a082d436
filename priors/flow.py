"""A flow as the prior."""

import torch
from torch import Tensor, nn
from vampyro.priors.base import Prior

from vampyro.distributions import DiagonalNormal, FlowDistribution
from vampyro.flows import Flow


class FlowPrior(Prior):
    """p(z) = N(x; 0, I) |det ∂T(x)/∂x|⁻¹, z = T(x), T learned   (Chen et al. 2017, arXiv:1611.02731).

    Args:
        flow: a flow module with `shared=True`, or any module None → Transform.
        latent: dimension of z.

    Raises:
        ValueError: where the flow computes its parameters from h.

    >>> from vampyro.flows import CouplingFlow
    >>> FlowPrior(CouplingFlow(0, 40, length=4, shared=True), 40)
    FlowPrior(CouplingFlow(length=4, shared), 40)
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, flow: nn.Module, latent: int):
        super().__init__()
        if isinstance(flow, Flow) and not flow.shared:
            raise ValueError(f"FlowPrior expects a flow with shared=True, as there is no h, got {flow}")
        self.flow = flow
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def forward(self) -> FlowDistribution:
        return FlowDistribution(DiagonalNormal(self.loc, self.scale), self.flow(None))

    def __repr__(self) -> str:
        return f"FlowPrior({self.flow}, {len(self.loc)})"

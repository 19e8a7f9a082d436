"""Mixtures of any component distributions, scored without a tensor of points × components × dimensions."""

import math

import pyro.distributions as dist
import torch

from distributions import gemm

BLOCK = 2**26  # points × components
FEW = 32  # components, of which all are scored in float64
SHARE = 1e-6  # of p(z), below which float32 is exact enough


class Mixture(dist.TorchDistribution):
    """p(z) = Σ_k π_k p_k(z), with π_k = 1/K or softmax(logits)_k.

    Args:
        components: a distribution of batch shape (K,). If it has a method
            `pairwise_log_prob(z)`, (..., *event) → (..., K), that is how it is scored;
            otherwise by broadcasting.
        logits: (K,), or None for equal weights.

    `log_prob` computes in the precision of its argument: `log_prob(z.double())` is how a
    reported likelihood is scored. It never runs under autocast, whose rounding costs whole nats here.

    Raises:
        ValueError: where `components` has not exactly one batch dimension or `logits` another length.
        RuntimeError: at scoring, where torch is set to multiply float32 matrices in fewer bits.

    >>> from distributions import DiagonalNormal
    >>> p = Mixture(DiagonalNormal(torch.tensor([[-5.0], [5.0]]), torch.ones(2, 1)))
    >>> p
    Mixture(2 × DiagonalNormal, equal weights)
    >>> round(p.log_prob(torch.tensor([5.0])).item(), 4)        # log ½ + log N(0; 0, 1)
    -1.6121
    """

    arg_constraints = {}

    def __init__(self, components, logits=None, validate_args=None):
        if len(components.batch_shape) != 1:
            raise ValueError(f"Mixture expects components of batch shape (K,), got {tuple(components.batch_shape)}")
        if logits is not None and logits.shape != components.batch_shape:
            raise ValueError(f"Mixture expects {components.batch_shape[0]} logits, got shape {tuple(logits.shape)}")
        self.components, self.logits = components, logits
        super().__init__(torch.Size(), components.event_shape, validate_args=validate_args)

    @property
    def support(self):
        return self.components.support

    def expand(self, batch_shape, _instance=None):
        # Record the shape and nothing else: Pyro's plate expands every site, and a materialised
        # expansion would hold every component once for each image.
        new = self._get_checked_instance(Mixture, _instance)
        new.components, new.logits = self.components, self.logits
        super(Mixture, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def component_log_prob(self, z):
        """log π_k p_k(z) for every component: (..., *event) → (..., K); its softmax is p(k | z)."""
        if not gemm.whole(z.device):
            raise RuntimeError(
                "a mixture needs whole float32 products, or log-probabilities are nats off: "
                'call torch.set_float32_matmul_precision("highest")'
            )
        z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z  # their rounding costs nats
        with torch.autocast(z.device.type, enabled=False):
            return self._weighted(z, self.components)

    def _weighted(self, z, components, index=slice(None)):
        """log π_k p_k(z) for the given components, which are those at `index`."""
        if hasattr(components, "pairwise_log_prob"):
            log_prob = components.pairwise_log_prob(z)
        else:
            log_prob = components.log_prob(z.unsqueeze(-1 - len(self.event_shape)))
        if self.logits is None:
            return log_prob - math.log(self.components.batch_shape[0])
        return log_prob + self.logits.to(z.dtype).log_softmax(-1)[index]

    def log_prob(self, z):
        if self._validate_args:
            self._validate_sample(z)
        if torch.is_grad_enabled():
            log_prob = self.component_log_prob(z).logsumexp(-1)
        else:  # nothing need be kept: an aggregated posterior has a component for every training image
            points = z.reshape(-1, *self.event_shape)
            blocks = points.split(max(1, BLOCK // self.components.batch_shape[0]))
            log_prob = torch.cat([self._without_gradient(block) for block in blocks])
            log_prob = log_prob.reshape(z.shape[: z.ndim - len(self.event_shape)])
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def _without_gradient(self, z):
        """log p(z_n); in float64 for those components alone that matter to any of the points.

        All components are scored in float32 first. Those that anywhere have more than SHARE of p(z_n) are scored
        again in float64, and the others' sum is added as it is: it is less than K·SHARE of the whole, and a few
        thousandths of that, as far as float32 can be off, are no more than the rounding of what is reported.
        """
        count = self.components.batch_shape[0]
        if z.dtype != torch.float64 or count < FEW or not hasattr(self.components, "select") or not len(z):
            return self.component_log_prob(z).logsumexp(-1)
        rough = self.component_log_prob(z.float())
        share = (rough - rough.logsumexp(-1, keepdim=True)).amax(0)
        # Not a number, where z left float32's range, matters too.
        index = (~(share < math.log(SHARE))).nonzero().squeeze(-1)
        some = self.components.select(index) if 2 * len(index) < count else None
        if some is None:
            return self.component_log_prob(z).logsumexp(-1)
        fine = self._weighted(z, some, index)
        rest = rough.index_fill(-1, index, -math.inf).logsumexp(-1).double()
        return torch.logaddexp(fine.logsumexp(-1), rest)

    @torch.no_grad()
    def sample(self, sample_shape=torch.Size()):
        """Draws a component for each point, at random by its weight, then the point."""
        shape = torch.Size(sample_shape) + self.batch_shape
        if not shape.numel():
            return self.components.sample((0,))[:, 0].reshape(shape + self.event_shape)
        count = self.components.batch_shape[0]
        weights = torch.ones(count) if self.logits is None else self.logits.softmax(-1)
        index = torch.multinomial(weights, shape.numel(), replacement=True)
        # Every component draws as often as the busiest one is asked for; point n takes draw number
        # rank[n] of component index[n], where rank counts the earlier points of the same component.
        totals = index.bincount(minlength=count)
        order = index.argsort(stable=True)
        rank = torch.empty_like(index)
        rank[order] = torch.arange(len(index), device=index.device) - (totals.cumsum(0) - totals)[index[order]]
        draws = self.components.sample((int(totals.max()),))
        index, rank = index.to(draws.device), rank.to(draws.device)
        return draws[rank, index].reshape(shape + self.event_shape)

    def __repr__(self):
        weights = "equal" if self.logits is None else "learned"
        return f"Mixture({self.components.batch_shape[0]} × {type(self.components).__name__}, {weights} weights)"

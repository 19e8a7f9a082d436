"""The evidence lower bound and the importance-weighted bound, as training objectives."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.infer
import torch
from torch import Tensor

from vampyro.objectives.base import Objective
from vampyro.programs.divergence import with_closed_forms
from vampyro.programs.layout import check_own, layout_of
from vampyro.programs.traces import Sites, sample_sites


class Trace_ELBO(Objective, pyro.infer.Trace_ELBO):
    """Pyro's Trace_ELBO without synchronisation with the device.

    Pyro's `Trace_ELBO` reads a number from the device (`.item()`) at every site of every step. This class adds the same
    log-probabilities in the same order without reading any. With equal seeds the gradients are bit-identical, and the
    loss differs only by the rounding of a float32 sum, which Pyro computes in float64. A guide with a site that is not
    reparameterised uses Pyro's estimator, with its score-function terms.

    >>> from vampyro import VAE, Guide, StandardNormal, nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> Trace_ELBO().differentiable_loss(model, guide, torch.zeros(5, 1, 4, 4)).shape     # summed over images
    torch.Size([])
    """

    def differentiable_loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        loss: Any = 0.0
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            latents = {name: site for name, site in guide_trace.nodes.items() if site["type"] == "sample"}
            if all(site["fn"].has_rsample for site in latents.values()):
                sites = {name: site for name, site in model_trace.nodes.items() if site["type"] == "sample"}
                particle = -self.elbo(sites, latents)
            else:
                value, surrogate = self._differentiable_loss_particle(model_trace, guide_trace)
                particle = value + (surrogate - surrogate.detach())
            loss = loss + particle / self.num_particles
        return loss

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """Return the loss as a float, for `SVI.evaluate_loss`."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """Return the loss as a float and add the gradients to the parameters, for `SVI.step`."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()

    def elbo(self, sites: Sites, latents: Sites) -> Any:
        """Σ log p - Σ log q of one particle, from the sites {name: site} of the model and of the guide."""
        total = 0.0
        for site in sites.values():
            total = total + site["log_prob_sum"]
        for site in latents.values():
            total = total - site["log_prob_sum"]
        return total

    def reference(self) -> Any:
        """Stock Pyro's estimator of the same quantity."""
        return pyro.infer.Trace_ELBO()


class TraceMeanField_ELBO(Trace_ELBO):
    """E_q[log p(x | z)] - KL(q(z | x) ‖ p(z)), with closed-form KLs where they exist.

    They exist between diagonal Normals and between vectors of bits. A latent with a flow as its posterior or a mixture
    as its prior is sampled as in `Trace_ELBO`. So is a latent that the guide samples before the latents on which it
    depends in the model (`downward`). With two levels, the KL of the lower one is exact given the sample of the upper
    one. The expectation is that of `Trace_ELBO`, with less variance. This is `pyro.infer.TraceMeanField_ELBO` without
    synchronisation with the device.
    """

    def _get_trace(self, model, guide, args, kwargs):
        return with_closed_forms(*super()._get_trace(model, guide, args, kwargs))

    def reference(self) -> Any:
        return pyro.infer.TraceMeanField_ELBO()


class IWAE(Trace_ELBO):
    """Σ_x E[log 1/K Σ_k p(x, z_k) / q(z_k | x)], z_k ~ q(z | x)   (Burda et al. 2016, arXiv:1509.00519).

    The mean is over the K weights of each image, inside the sum over images. K = 1 is the ELBO. A KL weight β changes
    the weights to p(x | z) (p(z)/q(z | x))^β. The scale N/B of a plate with B of N images multiplies the logarithm.

    Args:
        samples: K.

    Raises:
        ValueError: if a site of the guide is not reparameterised, if images share a site, or if a plate other than
            that of the images is subsampled.
    """

    def __init__(self, samples: int):
        super().__init__(num_particles=samples, vectorize_particles=True, max_plate_nesting=1)
        self.layout: Any = None  # the Layout of the programs, found in the first call

    def differentiable_loss(self, model: Callable, guide: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        several = self.num_particles > 1
        if self.layout is None:
            called = [lambda x, program=program: program(x, *args, **kwargs) for program in (model, guide)]
            self.layout = layout_of(x, *called)
            self.max_plate_nesting = self.layout.rank + several
        [(model_trace, guide_trace)] = self._get_traces(model, guide, (x, *args), kwargs)
        log_w: Any = 0.0
        scale = 1.0
        for trace, sign in ((guide_trace, -1), (model_trace, 1)):
            sites = sample_sites(trace)
            check_own(sites, len(x), self.layout, self.num_particles if several else None)
            for name, site in sites.items():
                if trace is guide_trace and not site["fn"].has_rsample:
                    raise ValueError(f"iwae needs reparameterised sites, and the guide's {name!r} is not one")
                scale = self.plate_scale(site)  # at last the scale of a plate in the model
                log_prob = site["log_prob"] if scale == 1 else site["log_prob"] / scale
                log_w = log_w + sign * self.layout.per_image(log_prob)
        if not several:
            log_w = log_w.unsqueeze(0)
        return -(scale * (log_w.logsumexp(0) - math.log(self.num_particles))).sum()

    def plate_scale(self, site: dict[str, Any]) -> float:
        """The scale N/B of the plate of images."""
        frames = (frame for frame in site["cond_indep_stack"] if frame.dim == self.layout.dim and frame.full_size)
        return math.prod(frame.full_size / frame.size for frame in frames)

    def reference(self) -> Any:
        return self

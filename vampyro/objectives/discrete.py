"""Gradients of the ELBO for discrete latents: straight-through, score function, or a sum over all values."""

import math
from collections.abc import Callable
from typing import Any

import pyro.infer
import torch
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from vampyro.distributions import Distribution
from vampyro.objectives.base import Objective
from vampyro.objectives.elbo import Trace_ELBO
from vampyro.programs.divergence import with_closed_forms
from vampyro.programs.layout import layout_of
from vampyro.programs.traces import sample_sites


class StraightThrough(Messenger):
    """Replace each distribution of a guide that has no `rsample` by its `straight_through()` version.

    Values and log-probabilities do not change. The gradient passes through the value and is biased.
    """

    def _pyro_sample(self, msg):
        if not msg["is_observed"] and not msg["fn"].has_rsample and isinstance(msg["fn"], Distribution):
            msg["fn"] = msg["fn"].straight_through()


class Relaxed(Objective):
    """An objective with a `StraightThrough` guide, so that every latent counts as reparameterised.

    The gradient for the model's parameters is unbiased. That for the guide's is biased and has little variance.

    Args:
        objective: `Trace_ELBO()`, or `TraceMeanField_ELBO()` for closed-form KLs.

    >>> from vampyro import assemble; import torch
    >>> model, guide = assemble(posterior="bernoulli", hidden=(8,), latent=3, shape=(1, 4, 4))
    >>> from vampyro.objectives import Trace_ELBO
    >>> Relaxed(Trace_ELBO()).differentiable_loss(model, guide, torch.zeros(5, 1, 4, 4)).shape
    torch.Size([])
    """

    def __init__(self, objective: Any):
        self.objective = objective

    def differentiable_loss(self, model: Callable, guide: Callable, x: Tensor) -> Tensor:
        return self.objective.differentiable_loss(model, StraightThrough()(guide), x)

    __call__ = differentiable_loss  # for stock SVI

    def reference(self) -> Any:
        return Relaxed(self.objective.reference())


class TraceGraph_ELBO(Objective, nn.Module):
    """∇E_q[f] = E_q[(f - b(x)) ∇log q + ∇f], f = log p(x, z) - log q(z | x): the score function with a learned baseline
    (Mnih & Gregor 2014, arXiv:1402.0030), unbiased for any b.

    This is Pyro's `TraceGraph_ELBO`, which uses for each latent only the terms of f that depend on it. b is fitted to f
    by least squares in the same steps. Its parameters are part of this module and are trained with it.

    Args:
        baseline: x → (batch, latents), nats, with a column for each latent that is not reparameterised.
        analytic: whether to use closed-form KLs where they exist.

    >>> from vampyro import assemble; import torch
    >>> model, guide = assemble(posterior="bernoulli", hidden=(8,), latent=3, shape=(1, 4, 4))
    >>> objective = TraceGraph_ELBO(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)))
    >>> objective.differentiable_loss(model, guide, torch.zeros(5, 1, 4, 4)).shape
    torch.Size([])
    """

    def __init__(self, baseline: nn.Module, analytic: bool = False):
        super().__init__()
        self.baseline = baseline
        self.estimator = _ClosedForms() if analytic else pyro.infer.TraceGraph_ELBO()

    def forward(self, model: Callable, guide: Callable, x: Tensor) -> Tensor:
        guide = _Baselines(self.baseline, x)(guide)
        elbo, surrogate = self.estimator._loss_and_surrogate_loss(model, guide, (x,), {})
        return (surrogate - surrogate.detach()) - elbo.detach()

    differentiable_loss = forward

    def reference(self) -> Any:
        return self


class _ClosedForms(pyro.infer.TraceGraph_ELBO):
    def _get_trace(self, model, guide, args, kwargs):
        return with_closed_forms(*super()._get_trace(model, guide, args, kwargs))


class _Baselines(Messenger):
    """Use column i of `baseline(x)` as the baseline of a guide's i-th latent that is not reparameterised."""

    def __init__(self, baseline, x):
        super().__init__()
        self.baseline, self.x, self.latents = baseline, x, 0

    def _pyro_sample(self, msg):
        if msg["is_observed"] or msg["fn"].has_rsample or site_is_subsample(msg):
            return
        column, self.latents = self.latents, self.latents + 1
        shape = list(msg["fn"].batch_shape)
        while shape and shape[0] == 1:  # Pyro removes these from its cost, whose shape the baseline must have
            del shape[0]

        def baseline(x):
            value = self.baseline(x)[..., column]
            return value.reshape(shape) if value.numel() == math.prod(shape) else value

        msg["infer"]["baseline"] = {"nn_baseline": baseline, "nn_baseline_input": self.x}


class TraceEnum_ELBO(Objective, pyro.infer.TraceEnum_ELBO):
    """Σ_z q(z | x) (log p(x, z) - log q(z | x)), over all values of each discrete latent.

    The traces are those of Pyro's `TraceEnum_ELBO`, with the guide's latents enumerated in parallel. The sum is the
    same, without synchronisation with the device. With two levels it is over all pairs.

    Raises:
        ValueError: if a latent has too many values.

    >>> from vampyro import assemble; import torch
    >>> model, guide = assemble(posterior="bernoulli", hidden=(8,), latent=3, shape=(1, 4, 4))
    >>> first, again = (TraceEnum_ELBO().differentiable_loss(model, guide, torch.zeros(5, 1, 4, 4)) for _ in range(2))
    >>> torch.equal(first, again)
    True
    """

    def __init__(self):
        super().__init__(max_plate_nesting=1)
        self.layout = None  # of the programs, found in the first call

    def differentiable_loss(self, model: Callable, guide: Callable, x: Tensor) -> Tensor:
        if self.layout is None:
            self.layout = layout_of(x, model, guide, check=False)
            self.max_plate_nesting = self.layout.rank
        [(model_trace, guide_trace)] = traces = list(self._get_traces(model, enumerate_latents(guide), (x,), {}))
        if not summable(model_trace, guide_trace, len(x)):
            return -sum(_compute_dice_elbo(*pair) for pair in traces)
        elbo, log_q = 0.0, torch.zeros(())
        for trace, sign in ((model_trace, 1), (guide_trace, -1)):
            for site in sample_sites(trace).values():
                elbo = elbo + sign * site["log_prob"]
                if trace is guide_trace and site["infer"].get("_enumerate_dim") is not None:
                    log_q = log_q + site["unscaled_log_prob"]
        return -(log_q.exp() * elbo).sum()

    loss, loss_and_grads = Trace_ELBO.loss, Trace_ELBO.loss_and_grads  # for stock SVI

    def reference(self) -> Any:
        return _StockEnum()


def summable(model_trace: Trace, guide_trace: Trace, images: int) -> bool:
    """Return whether the ELBO is Σ_z q (log p - log q) for each image, with sums over the guide's latents only.

    A latent that only the model enumerates is summed inside the logarithm, as Pyro does. A latent that
    is sampled and not reparameterised (Poisson) needs a score-function term, which Pyro adds.
    """
    by_the_model, by_the_guide = sample_sites(model_trace), sample_sites(guide_trace)
    if any(not site["is_observed"] and not _differentiable(site) for site in by_the_guide.values()):
        return False
    sites = [*by_the_model.values(), *by_the_guide.values()]
    dims = {frame.dim for site in sites for frame in site["cond_indep_stack"] if frame.vectorized}
    own = all(site["log_prob"].shape[-1:] == (images,) for site in sites) and dims <= {-1}
    enumerated = {name for name, site in by_the_model.items() if site["infer"].get("_enumerate_dim") is not None}
    return own and enumerated <= by_the_guide.keys()


def _differentiable(site):
    return site["fn"].has_rsample or site["infer"].get("_enumerate_dim") is not None


class _StockEnum(pyro.infer.TraceEnum_ELBO):
    def differentiable_loss(self, model: Callable, guide: Callable, x: Tensor) -> Tensor:
        return super().differentiable_loss(model, enumerate_latents(guide), x)


def enumerate_latents(guide: Callable) -> Callable:
    return pyro.infer.config_enumerate(guide, "parallel")

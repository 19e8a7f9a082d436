"""The evidence lower bound: for training, and taken apart for reading."""

import math
from contextlib import suppress

import pyro
import pyro.infer
import torch
from jaxtyping import Float
from pyro.distributions.util import scale_and_mask
from pyro.infer.enum import get_importance_trace
from torch import Tensor

from inference.evaluation import check_latents, check_support, evaluation_mode, is_delta, unscaled
from inference.images import check_images
from inference.joint import check_density
from inference.pair import check_roles
from inference.sites import arrange, check_own, latents_of, layout_of, sample_sites


class Trace_ELBO(pyro.infer.Trace_ELBO):
    """Pyro's Trace_ELBO without its waits for the device.

    Stock `Trace_ELBO` asks the device for a number (`.item()`) at every site of every step. This one
    adds the same log-probabilities in the same order and asks for none: at equal seed its gradients are the
    same bits, and so is its loss but for the rounding of a float32 sum, which stock adds up in double. It
    applies where every site of the guide is reparameterised; any other guide gets the stock estimator with
    its score-function terms.

    >>> from models import VAE; from guides import Guide; from priors import StandardNormal; import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> Trace_ELBO().differentiable_loss(model, guide, torch.zeros(5, 1, 4, 4)).shape     # summed over images
    torch.Size([])
    """

    def differentiable_loss(self, model, guide, *args, **kwargs):
        loss = 0.0
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

    def loss(self, model, guide, *args, **kwargs):
        """As `SVI.evaluate_loss` asks for it: a float."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model, guide, *args, **kwargs):
        """As `SVI.step` asks for it: a float, the gradients left with the parameters."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.item()

    def elbo(self, sites, latents):
        """Σ log p - Σ log q of one particle, from the model's sites and the guide's, by name."""
        total = 0.0
        for site in sites.values():
            total = total + site["log_prob_sum"]
        for site in latents.values():
            total = total - site["log_prob_sum"]
        return total

    def reference(self):
        """Stock Pyro's estimator of the same quantity."""
        return pyro.infer.Trace_ELBO()


class TraceMeanField_ELBO(Trace_ELBO):
    """E_q[log p(x | z)] - KL(q(z | x) ‖ p(z)), the KL in closed form where there is one.

    Between diagonal Normals, that is, and between vectors of bits; a latent with a flow posterior or a mixture as its
    prior is sampled as in `Trace_ELBO`, and so is one that the guide draws before what the model draws it from
    (`downward`). Of two levels, the KL of the lower is exact given the sampled upper one.
    The same expectation as `Trace_ELBO`'s, with less noise; as `pyro.infer.TraceMeanField_ELBO`, without its waits.
    """

    def _get_trace(self, model, guide, args, kwargs):
        return with_closed_forms(*super()._get_trace(model, guide, args, kwargs))

    def reference(self):
        return pyro.infer.TraceMeanField_ELBO()


def with_closed_forms(model_trace, guide_trace):
    """The two traces with -KL(q ‖ p) in place of log p(z), and 0 of log q(z), at each latent whose KL torch knows."""
    sites, latents = sample_sites(model_trace), sample_sites(guide_trace)
    for name, kl in closed_forms(sites, latents).items():
        p, q = sites[name], latents[name]
        kl = scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
        p["log_prob"], p["log_prob_sum"] = -kl, -kl.sum()
        q["log_prob"], q["log_prob_sum"] = torch.zeros_like(kl), kl.new_zeros(())
        q["score_parts"] = q["score_parts"]._replace(entropy_term=0)
    return model_trace, guide_trace


def closed_forms(sites, latents):
    """{name: KL(q ‖ p)} of the latents whose KL torch knows and where it may stand for log q - log p (`downward`)."""
    found = {}
    for name in downward(sites, latents):
        if is_delta(latents[name]["fn"]):  # Pyro's rule for a Delta knows nothing of its log_density
            continue
        with suppress(NotImplementedError):
            found[name] = torch.distributions.kl_divergence(latents[name]["fn"], sites[name]["fn"])
    return found


def downward(model_names, guide_names):
    """Of the names in both, in the model's order, those before which the guide has all that the model has before them.

    log p(z1 | z2) - log q(z1 | x) may give way to -KL(q(z1 | x) ‖ p(z1 | z2)), its expectation over z1 at a given z2,
    only where z2 was not drawn from that z1: of a guide that draws upward, q(z1 | x) q(z2 | z1), z2 alone is left.

    >>> downward(["z2", "z1", "x"], ["z2", "z1"]), downward(["z2", "z1", "x"], ["z1", "z2"])
    (['z2', 'z1'], ['z2'])
    """
    place = {name: number for number, name in enumerate(guide_names)}
    found, last = [], -1
    for name in model_names:
        if name in place:
            if place[name] > last:
                found.append(name)
            last = max(last, place[name])
    return found


class IWAE(Trace_ELBO):
    """Σ_x E[log 1/K Σ_k p(x, z_k) / q(z_k | x)], z_k ~ q(z | x)   (Burda et al. 2016, arXiv:1509.00519).

    The mean is taken over the K weights of each image, before the sum over images. K = 1 is the ELBO.
    A KL weight other than 1 tempers the weights: p(x | z) (p(z)/q(z | x))^β. The scale N/B of a plate that is given
    B of N images multiplies each image's term: it stands outside the logarithm.

    Args:
        samples: K.

    Raises:
        ValueError: where a site of the guide is not reparameterised, a site is shared between images, or a plate
            other than that of the images is subsampled.
    """

    def __init__(self, samples):
        super().__init__(num_particles=samples, vectorize_particles=True, max_plate_nesting=1)
        self.layout = None  # of the programs that it first meets

    def differentiable_loss(self, model, guide, x, *args, **kwargs):
        several = self.num_particles > 1
        if self.layout is None:
            called = [lambda x, program=program: program(x, *args, **kwargs) for program in (model, guide)]
            self.layout = layout_of(x, *called)
            self.max_plate_nesting = self.layout.rank + several
        [(model_trace, guide_trace)] = self._get_traces(model, guide, (x, *args), kwargs)
        log_w, scale = 0.0, 1.0
        for trace, sign in ((guide_trace, -1), (model_trace, 1)):
            sites = sample_sites(trace)
            check_own(sites, len(x), self.layout, self.num_particles if several else None)
            for name, site in sites.items():
                if trace is guide_trace and not site["fn"].has_rsample:
                    raise ValueError(f"iwae needs reparameterised sites, and the guide's {name!r} is not one")
                scale = self.plate_scale(site)  # in the end that of the model's plate
                log_prob = site["log_prob"] if scale == 1 else site["log_prob"] / scale
                log_w = log_w + sign * self.layout.per_image(log_prob)
        if not several:
            log_w = log_w.unsqueeze(0)
        return -(scale * (log_w.logsumexp(0) - math.log(self.num_particles))).sum()

    def plate_scale(self, site):
        """The scale N/B of the plate of images."""
        frames = (frame for frame in site["cond_indep_stack"] if frame.dim == self.layout.dim and frame.full_size)
        return math.prod(frame.full_size / frame.size for frame in frames)

    def reference(self):
        return self


def elbo_parts(model, guide, images: Float[Tensor, " images *event"], batch_size=500):
    """ELBO = E_q[log p(x | z)] - E_q[log q(z | x) - log p(z)], one sample of z for each image.

    The KL term always has its full weight, whatever the training's, and modules are in evaluation mode.

    Args:
        images: (N, channels, height, width), as the model should see them.

    Returns:
        dict of floats, nats per image: `elbo`, `reconstruction`, `kl`.

    Raises:
        ValueError: where there are no images, the model has no mass on them, model and guide do not have the same
            latent sites, or those are points, whose objective bounds nothing: see `validation`.
    """
    reconstruction, kl = terms(model, guide, images, batch_size, points=False)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


@torch.no_grad()
def terms(model, guide, images, batch_size=500, points=True):
    """log p(x | z) and log q(z | x) - log p(z), floats, means over images; `points`: whether latents may be such."""
    check_images(images, model, guide)
    reconstruction = kl = 0.0
    with evaluation_mode(model, guide), pyro.validation_enabled(False):
        blocks, layout = arrange(images, batch_size, model, guide)
        for x in blocks:
            traces = get_importance_trace("flat", layout.rank, model, guide, (x,), {})
            sites, proposed = map(sample_sites, traces)
            latents = latents_of(proposed)
            if not points:
                check_density(guide, x, latents, layout)
            check_latents(latents_of(sites), latents)
            check_roles(sites, latents)
            check_support(sites)
            for found in (sites, proposed):
                check_own(found, len(x), layout)
            for site in sites.values():
                log_p = unscaled(site).sum().double()
                if site["is_observed"]:
                    reconstruction = reconstruction + log_p
                else:
                    kl = kl - log_p
            kl = kl + sum(unscaled(site).sum().double() for site in proposed.values())
    return float(reconstruction) / len(images), float(kl) / len(images)

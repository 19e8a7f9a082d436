"""The KL term in two: what the code says of the image, and how far all codes together are from the prior."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vampyro.diagnostics.top_level import check_one_prior, examined
from vampyro.distributions import pairwise_log_prob
from vampyro.programs.estimate import Estimate
from vampyro.programs.traces import is_delta, precise

BLOCK = 2**24  # points × components × dimensions


@dataclass(frozen=True, eq=False)
class Surgery:
    """`kl` = `mutual_information` + `marginal_kl`, draw by draw; `Estimate`s over images, nats.

    `site` is the latent that it is about; `log_images` is log N, which the mutual information cannot exceed: where it
    comes near, N images are too few to measure it.
    """

    site: str
    kl: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate
    log_images: float
    samples: int

    def __repr__(self):
        kl, information, marginal = (
            f"{e.mean:.3f} ± {e.error:.3f}" for e in (self.kl, self.mutual_information, self.marginal_kl)
        )
        return (
            f"Surgery({self.site}: KL {kl} = I {information} (log N = {self.log_images:.3f}) + marginal KL {marginal})"
        )


@torch.no_grad()
def surgery(model, guide, images: Float[Tensor, " images *event"], samples=10, *, seed=0, batch_size=500):
    """1/N Σ_n KL(q(z | x_n) ‖ p(z)) = I_q(n; z) + KL(q(z) ‖ p(z)), q(z) = 1/N Σ_n q(z | x_n)   (Hoffman & Johnson 2016,
    *ELBO surgery*).

    q(z) is the exact mixture over the given images, so nothing is biased for want of images but the question itself:
    I is at most log N. Of several levels it is done for the top one, whose posterior is given x alone (z2). Densities
    in float64, N² S of them.

    Args:
        model, guide: Pyro programs over a batch of images; `nn.Module`s are put in evaluation mode meanwhile.
        images: (N, channels, height, width), as the model should see them.
        samples: S of z for each image.
        seed: of the samples.
        batch_size: images encoded at a time.

    Raises:
        ValueError: where S < 2, the guide's first latent is a Delta, its prior depends on the image, or as
            `top_level`.

    >>> from vampyro import assemble
    >>> result = surgery(*assemble(prior="vamp:3", hidden=(8,), latent=2, shape=(1, 4, 4)), torch.rand(9, 1, 4, 4))
    >>> abs((result.kl.mean - result.mutual_information.mean - result.marginal_kl.mean).item()) < 1e-12
    True
    """
    if samples < 2:
        raise ValueError(f"surgery expects samples ≥ 2, from which its errors follow, got {samples}")
    with examined(model, guide, images, seed, batch_size) as (name, p, posteriors):
        check_one_prior(model, name, images, batch_size)
        if is_delta(posteriors[0]):
            raise ValueError(
                f"the guide's latent {name!r} is a Delta, a point or a function of an auxiliary site, and surgery "
                "compares the density q(z | x) of all images: write a guide with a density at that site, or take "
                "scoring_guide(model, guide, images) for points"
            )
        draws = [precise(q, q.sample((samples,))) for q in posteriors]
        given_x = torch.cat([q.log_prob(z).double() for q, z in zip(posteriors, draws)], 1)  # (S, N)
        z = torch.cat(draws, 1)
        marginal = aggregated_log_prob(posteriors, z).double()
        prior = p.log_prob(precise(p, z)).double()
    return Surgery(
        name,
        kl=Estimate.of(given_x - prior),
        mutual_information=Estimate.of(given_x - marginal),
        marginal_kl=Estimate.of(marginal - prior),
        log_images=math.log(len(images)),
        samples=samples,
    )


def aggregated_log_prob(posteriors, z):
    """log 1/N Σ_n q(z | x_n), the N in blocks: z (..., *event) → (...), in the precision of z."""
    event = posteriors[0].event_shape
    count = sum(q.batch_shape[0] for q in posteriors)
    points = z.reshape(-1, *event)
    some = max(1, BLOCK // (max(q.batch_shape[0] for q in posteriors) * event.numel()))
    log_prob = [
        torch.stack([pairwise_log_prob(q, block).logsumexp(-1) for q in posteriors]) for block in points.split(some)
    ]
    return torch.cat(log_prob, -1).logsumexp(0).reshape(z.shape[: z.ndim - len(event)]) - math.log(count)

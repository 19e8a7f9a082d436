"""The KL term in two: the mutual information of image and code, and the KL of the aggregated posterior to the prior."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from vampyro.distributions import pairwise_log_prob
from vampyro.programs.checks import check_counts, check_images, check_latents
from vampyro.programs.estimate import Estimate
from vampyro.programs.layout import Images, arrange, some_images
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import same_noise, seeded
from vampyro.programs.traces import is_delta, latents_of, sample_sites, to_precise, trace_of

TopLevel = tuple[str, Distribution, list[Distribution]]

BLOCK = 2**24  # points × components × dimensions


@dataclass(frozen=True, eq=False)
class Surgery:
    """kl = mutual_information + marginal_kl, for each sample; an `Estimate` over images each, nats.

    Attributes:
        site: the name of the latent.
        kl: E_x KL(q(z | x) ‖ p(z)).
        mutual_information: I_q(n; z) of the image's index and z.
        marginal_kl: KL(q(z) ‖ p(z)) of the aggregated posterior.
        log_images: log N, the upper limit of the mutual information. If I is close to it, N images are too few.
        samples: S.
    """

    site: str
    kl: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate
    log_images: float
    samples: int

    def __repr__(self) -> str:
        estimates = self.kl, self.mutual_information, self.marginal_kl
        kl, information, marginal = (f"{e.mean:.3f} ± {e.error:.3f}" for e in estimates)
        return (
            f"Surgery({self.site}: KL {kl} = I {information} (log N = {self.log_images:.3f}) + marginal KL {marginal})"
        )


@torch.no_grad()
def surgery(
    model: Callable, guide: Callable, images: Images, samples: int = 10, *, seed: int = 0, batch_size: int = 500
) -> Surgery:
    """1/N Σ_n KL(q(z | x_n) ‖ p(z)) = I_q(n; z) + KL(q(z) ‖ p(z)), q(z) = 1/N Σ_n q(z | x_n)   (Hoffman & Johnson 2016,
    *ELBO surgery*).

    q(z) is the mixture over the given images, without further approximation. I is therefore at most log N. With
    several levels, z is the top one (z2), whose posterior depends only on x. This evaluates N² S densities in float64.

    Args:
        model, guide: Pyro programs over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width), as the model observes them.
        samples: S, for each image.
        seed: of the samples.
        batch_size: images to encode at a time.

    Raises:
        ValueError: if S < 2, if the guide's first latent is a Delta, if its prior depends on the image, or as
            `top_level`.

    >>> from vampyro import assemble
    >>> result = surgery(*assemble(prior="vamp:3", hidden=(8,), latent=2, shape=(1, 4, 4)), torch.rand(9, 1, 4, 4))
    >>> abs((result.kl.mean - result.mutual_information.mean - result.marginal_kl.mean).item()) < 1e-12
    True
    """
    check_counts(2, samples=samples)
    with examine(model, guide, images, seed, batch_size) as (name, p, posteriors):
        check_one_prior(model, name, images, batch_size)
        if is_delta(posteriors[0]):
            raise ValueError(
                f"surgery needs a density q(z | x), and the guide's latent {name!r} is a Delta: write a guide with a "
                "density at that site, or use scoring_guide(model, guide, images) if it is a guide of points"
            )
        draws = [to_precise(q, q.sample((samples,))) for q in posteriors]
        given_x = torch.cat([q.log_prob(z).double() for q, z in zip(posteriors, draws)], 1)  # (S, N)
        z = torch.cat(draws, 1)
        marginal = aggregated_log_prob(posteriors, z).double()
        prior = p.log_prob(to_precise(p, z)).double()
    return Surgery(
        name,
        kl=Estimate.of(given_x - prior),
        mutual_information=Estimate.of(given_x - marginal),
        marginal_kl=Estimate.of(marginal - prior),
        log_images=math.log(len(images)),
        samples=samples,
    )


def aggregated_log_prob(posteriors: list, z: Tensor) -> Tensor:
    """log 1/N Σ_n q(z | x_n): z (..., *event) → (...), in the precision of z."""
    event = posteriors[0].event_shape
    count = sum(q.batch_shape[0] for q in posteriors)
    points = z.reshape(-1, *event)
    some = max(1, BLOCK // (max(q.batch_shape[0] for q in posteriors) * event.numel()))
    log_prob = [
        torch.stack([pairwise_log_prob(q, block).logsumexp(-1) for q in posteriors]) for block in points.split(some)
    ]
    return torch.cat(log_prob, -1).logsumexp(0).reshape(z.shape[: z.ndim - len(event)]) - math.log(count)


@contextmanager
def examine(model: Callable, guide: Callable, images: Any, seed: int = 0, batch_size: int = 500) -> Iterator[TopLevel]:
    """Check the images and yield `top_level`, inside evaluation mode, seeded and without Pyro's validation."""
    check_images(images, model, guide)
    with evaluation_mode(model, guide), seeded(seed, device=images.device), pyro.validation_enabled(False):
        yield top_level(model, guide, images, batch_size)


def top_level(model: Callable, guide: Callable, images: Tensor, batch_size: int = 500) -> TopLevel:
    """(name, p(z), [q(z | x) for each block of images]) of the first latent, which depends only on x in the guide.

    This is z in a model with one level and z2 with two.

    Args:
        images: (N, channels, height, width).
        batch_size: images to encode at a time.

    Returns:
        the name of the site, p(z) of batch shape (1,), and a list of distributions of batch shape (block,).

    Raises:
        ValueError: if there are no images, if the programs have different latents or begin with different ones, if
            images share a site, or if the guide's first latent does not have one distribution for each image.
    """
    blocks, _ = arrange(images, batch_size, model, guide)
    guide_sites = [latents_of(sample_sites(trace_of(guide, x))) for x in blocks]
    model_sites = latents_of(sample_sites(trace_of(model, some_images(images, model))))
    names, model_names = list(guide_sites[0]), list(model_sites)
    check_latents(model_names, names)
    if not names:
        raise ValueError("model and guide have no latent site, so there is no p(z) and no q(z | x)")
    if names[0] != model_names[0]:
        raise ValueError(
            f"the guide begins with the latent {names[0]!r} and the model with {model_names[0]!r}, so no latent has "
            "both a known p(z) and a known q(z | x): sample the model's first latent first in the guide, too"
        )
    posteriors = [sites[names[0]]["fn"] for sites in guide_sites]
    for q, x in zip(posteriors, blocks):
        if tuple(q.batch_shape) != (len(x),):
            raise ValueError(
                f"the guide's {names[0]!r} has batch shape {tuple(q.batch_shape)}, expected ({len(x)},), one "
                "distribution for each image: sample it in a plate over images, dim=-1, and in no other plate"
            )
    return names[0], model_sites[names[0]]["fn"], posteriors


def check_one_prior(model: Callable, name: str, images: Tensor, batch_size: int = 500) -> None:
    """Raise a ValueError if the prior of a latent differs between images of the first batch."""
    [x, *_], _ = arrange(images, batch_size, model)
    with same_noise(x.device):
        site = sample_sites(trace_of(model, x))[name]
    z = site["value"][:1].expand_as(site["value"])
    log_prob = site["fn"].log_prob(to_precise(site["fn"], z))
    if not torch.allclose(log_prob, log_prob[:1], rtol=1e-4, atol=1e-4):
        raise ValueError(
            f"this function compares the samples of all images with one p(z), and the prior of {name!r} depends on the "
            "image: decompose(model, guide, images) computes the KL of each image to its own prior"
        )

"""Decompose the ELBO into the reconstruction and the KL of each latent and each dimension."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pyro
import torch

from vampyro.likelihood.joint import Joint
from vampyro.memory import most_rows
from vampyro.programs.checks import check_counts, check_images, check_support
from vampyro.programs.divergence import downward
from vampyro.programs.estimate import Estimate
from vampyro.programs.layout import Images, arrange, check_density, log_density, trace_guide
from vampyro.programs.modes import constant_parts, evaluation_mode
from vampyro.programs.randomness import seeded
from vampyro.programs.traces import apply_mask, auxiliaries_of, is_delta, sample_sites, to_precise


@dataclass(frozen=True, eq=False)
class Decomposition:
    """ELBO = reconstruction - Σ kl, nats per image; each an `Estimate` over the same images.

    Latents that are computed from auxiliary sites of a guide, as in Pyro's autoguides, have one joint KL with the key
    "NAME, NAME".

    Attributes:
        elbo: the ELBO.
        reconstruction: E_q[log p(x | z)].
        kl: the KL of each latent site. For a latent that depends on others (z1 on z2), the mean over these.
        kl_per_dimension: the same for each dimension, or None if q or p does not factorise over dimensions, as flows
            and mixtures do not.
        samples: S.
    """

    elbo: Estimate
    reconstruction: Estimate
    kl: dict[str, Estimate]
    kl_per_dimension: dict[str, Estimate | None]
    samples: int

    @property
    def rate(self) -> float:
        """R = E_x KL(q(z | x) ‖ p(z)), the sum over all latents."""
        return sum(kl.mean.item() for kl in self.kl.values())

    @property
    def distortion(self) -> float:
        """D = -E_x E_q[log p(x | z)]."""
        return -self.reconstruction.mean.item()

    def __repr__(self) -> str:
        parts = {"reconstruction": self.reconstruction, **{f"KL of {name}": kl for name, kl in self.kl.items()}}
        listed = ", ".join(f"{name} {part.mean:.3f} ± {part.error:.3f}" for name, part in parts.items())
        return f"Decomposition({listed}; {len(self.elbo.values)} images, {self.samples} samples)"


@torch.no_grad()
def decompose(
    model: Callable, guide: Callable, images: Images, samples: int = 100, *, seed: int = 0, rows: int | None = None
) -> Decomposition:
    """L(x) = E_q[log p(x | z)] - Σ_l E_q[KL(q(z_l | …) ‖ p(z_l | …))]   (Kingma & Welling 2014, arXiv:1312.6114).

    A KL is in closed form if torch has one for the two distributions, and then only the latents on which it depends are
    sampled. Otherwise it is the mean of log q - log p. The same holds for each dimension. Masks of the programs apply,
    as in `score`. Scales do not, because they are for training only.

    Args:
        model, guide: Pyro programs over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width), as the model observes them.
        samples: S, for each image.
        seed: of the samples.
        rows: samples × images to decode at a time.

    Raises:
        ValueError: if S < 2, if there are no images, if the guide has a Delta site, or if model and guide have
            different latents.

    >>> from vampyro import assemble
    >>> parts = decompose(*assemble(hidden=(8,), latent=3, shape=(1, 4, 4)), torch.zeros(5, 1, 4, 4), samples=10)
    >>> parts.kl_per_dimension["z"]
    Estimate(5 images × 3)
    """
    check_images(images, model, guide)
    check_counts(2, samples=samples)
    rows = rows or most_rows(images.device)
    with (
        evaluation_mode(model, guide),
        constant_parts(model),
        seeded(seed, device=images.device),
        pyro.validation_enabled(False),
    ):
        parts, layout = arrange(images, rows // samples, model, guide)
        joint = Joint(model, layout=layout)
        blocks: list[dict] = []
        for x in parts:
            chunks = [_terms(joint, guide, x, len(part)) for part in torch.arange(samples).split(rows)]
            blocks.append(
                {
                    key: None if term is None else Estimate.of(torch.cat([chunk[key] for chunk in chunks]))
                    for key, term in chunks[0].items()
                }
            )
    whole: dict = {}
    for key, first in blocks[0].items():
        whole[key] = None if first is None else Estimate.cat([block[key] for block in blocks])
    kl, dimensions = ({name: e for (k, name), e in whole.items() if k == kind} for kind in ("kl", "dimensions"))
    return Decomposition(whole["elbo", None], whole["reconstruction", None], kl, dimensions, samples)


def rate_distortion(
    model: Callable, guide: Callable, images: Images, samples: int = 10, *, seed: int = 0
) -> tuple[float, float]:
    """Return (R, D): the rate E_x KL(q(z | x) ‖ p(z)) and the distortion -E_x E_q[log p(x | z)].

    -ELBO = D + R, and training with the KL weight β minimises D + βR. Runs with several β show which pairs (R, D) a
    model can reach (Alemi et al. 2018, arXiv:1711.00464). Nats per image, summed over all latents. Raises the errors of
    `decompose`.

    >>> from vampyro import assemble
    >>> rate, distortion = rate_distortion(*assemble(hidden=(8,), latent=3, shape=(1, 4, 4)), torch.zeros(5, 1, 4, 4))
    >>> rate > 0 and distortion > 0
    True
    """
    parts = decompose(model, guide, images, samples, seed=seed)
    return parts.rate, parts.distortion


def _terms(joint, guide, x, samples):
    """{(kind, site): (samples, batch, …) or None}, for one sample of z each."""
    trace, latents = trace_guide(guide, samples, x, joint.layout)
    check_density(guide, x, latents)
    values = {name: site["value"] for name, site in latents.items()}
    model_trace = joint.trace(x, values)
    sites = sample_sites(model_trace)
    check_support(sites, values)
    shape, per_image = (samples, len(x)), joint.layout.per_image
    elbo = reconstruction = log_density(model_trace, joint.layout, without=values)
    terms: dict = {("reconstruction", None): reconstruction.expand(shape)}
    replaceable = downward(sites, latents)
    together = [name for name, site in latents.items() if is_delta(site["fn"])]
    for name, latent in latents.items():
        if name in together:
            continue
        closed, factors = name in replaceable, (_factors(latent["fn"]), _factors(sites[name]["fn"]))
        kl = per_image(_kl(latent, sites[name], closed))
        terms["kl", name], elbo = kl.expand(shape), elbo - kl
        terms["dimensions", name] = None
        if None not in factors and joint.layout.rank == 1:
            kl = _kl(latent, sites[name], closed, factors)
            terms["dimensions", name] = kl.expand(*shape, *latent["fn"].event_shape)
    if together:  # computed from auxiliary sites, with one joint density
        drawn = {**{name: latents[name] for name in together}, **auxiliaries_of(sample_sites(trace))}
        kl = sum(per_image(_log_prob(site)) for site in drawn.values())
        kl = kl - sum(per_image(_log_prob(sites[name], latents[name]["value"])) for name in together)
        terms["kl", ", ".join(together)], elbo = kl.expand(shape), elbo - kl
        terms["dimensions", ", ".join(together)] = None
    return {("elbo", None): elbo.expand(shape), **terms}


def _kl(latent, site, closed, factors=None):
    """KL(q ‖ p) of the two sites of a latent, or of each element of their `factors`; with masks.

    In closed form if there is one and `closed` allows it, otherwise log q(z) - log p(z).
    """
    (q, p), dims = factors or (latent["fn"], site["fn"]), len(latent["fn"].event_shape) if factors else 0
    z = latent["value"]
    if closed:
        with suppress(NotImplementedError):
            return apply_mask(torch.distributions.kl_divergence(q, p).double(), latent, dims)
    return apply_mask(q.log_prob(z).double(), latent, dims) - apply_mask(
        p.log_prob(to_precise(p, z)).double(), site, dims
    )


def _log_prob(site, value=None):
    """log q of a guide's site, or log p of a model's site at the guide's value, float64; with masks."""
    z = site["value"] if value is None else to_precise(site["fn"], value)
    return apply_mask(site["fn"].log_prob(z).double(), site)


def _factors(fn):
    """The distribution of each element, or None if the elements are not independent."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return None if fn.event_shape else fn

"""Draws from the posterior p(z | x), by resampling what the guide proposes."""

import math
from dataclasses import dataclass

import pyro
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vampyro.likelihood.importance import blocks_of, weigh_block
from vampyro.likelihood.joint import Joint
from vampyro.likelihood.scores import Score
from vampyro.memory import most_rows
from vampyro.programs.checks import check_images
from vampyro.programs.modes import constant_parts, evaluation_mode
from vampyro.programs.randomness import seeded
from vampyro.programs.traces import masked, sample_sites


@dataclass(frozen=True, eq=False)
class PosteriorDraws:
    """z ~ p(z | x), about, for each of N images.

    `values` {site: (S, N, *event)}; `log_weights` log p(x, z) - log q(z | x) of each draw and `log_likelihood`
    log p(x | z), (S, N) float64; `score` what the weights of all proposals say of the images: how far to trust the
    draws is its `ess` and `pareto_k`. Discrete latents with at most 4,096 codes are drawn from p(z | x) itself: then
    `score` is exact and `log_weights` are log p(x, z).
    """

    values: dict[str, Tensor]
    log_weights: Float64[Tensor, "samples images"]
    log_likelihood: Float64[Tensor, "samples images"]
    score: Score

    def __repr__(self):
        sites = ", ".join(f"{name}: {'×'.join(map(str, value.shape[2:]))}" for name, value in self.values.items())
        samples, images = self.log_weights.shape
        return f"PosteriorDraws({sites}; {samples} draws for each of {images} images, from {self.score.samples})"


@torch.no_grad()
def posterior_draws(
    model, guide, images: Float[Tensor, " images *event"], samples=1000, *, proposals=None, seed=0, rows=None
):
    """z_1 … z_S ~ p(z | x), for each image   (sampling importance resampling: Rubin 1987, JASA 82).

    The guide proposes S' values; each draw is one of them, with probability w_s / Σ w, w = p(x, z_s) / q(z_s | x). As
    S' grows the draws become the posterior's. The same proposal may be drawn again and again: of the S draws about
    as many are different as the effective sample size allows, and where k̂ > 0.7 no S' is enough.

    Args:
        model, guide: Pyro programs over a batch of images; `nn.Module`s are put in evaluation mode meanwhile.
        images: (N, channels, height, width), as the model should see them.
        samples: S.
        proposals: S'; unless given, ten times S.
        seed: of the proposals and of the choice among them.
        rows: proposals × images decoded at a time.

    Raises:
        ValueError: where S or S' < 1, there are no images, the guide has a Delta site (then
            `scoring_guide(model, guide, images)` has none), or model and guide do not have the same latent sites.

    >>> from vampyro import assemble
    >>> model, guide = assemble(prior="vamp:3", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> draws = posterior_draws(model, guide, torch.zeros(7, 1, 4, 4), samples=20)
    >>> draws
    PosteriorDraws(z: 2; 20 draws for each of 7 images, from 200)
    >>> draws.values["z"].shape, draws.score.pareto_k.shape
    (torch.Size([20, 7, 2]), torch.Size([7]))
    """
    proposals = 10 * samples if proposals is None else proposals
    check_images(images, model, guide)
    if samples < 1 or proposals < 1:
        raise ValueError(f"posterior_draws expects samples ≥ 1 and proposals ≥ 1, got {samples} and {proposals}")
    rows = rows or most_rows(images.device)
    blocks: list[tuple] = []
    with evaluation_mode(model, guide), constant_parts(model), seeded(seed, device=images.device):
        parts, layout, codes = blocks_of(model, guide, images, proposals, rows)
        joint = Joint(model, layout=layout)
        for x in parts:
            first = sum(len(score) for *_, score in blocks)
            proposed, log_w, score = weigh_block(joint, guide, x, proposals, rows, codes, first)
            blocks.append((*_draw(joint, x, proposed, log_w, samples, rows), score))
    values, log_weights, log_likelihood, scores = zip(*blocks)
    return PosteriorDraws(
        {name: torch.cat([value[name] for value in values], 1) for name in values[0]},
        torch.cat(log_weights, 1),
        torch.cat(log_likelihood, 1),
        Score.cat(scores),
    )


def _draw(joint, x, values, log_w, samples, rows):
    if not values:
        raise ValueError("model and guide have no latent site: there is no posterior to draw from")
    if (excluded := (log_w == -math.inf).all(0)).any():
        raise ValueError(
            f"images have no posterior where log p(x, z) is -inf at each of the {len(log_w)} values of z, as for "
            f"{int(excluded.sum())} of these {len(x)} images: leave them out, or take more proposals"
        )
    chosen = torch.multinomial(log_w.softmax(0).T, samples, replacement=True).T  # (S, batch)
    image = torch.arange(len(x), device=x.device)
    values = {name: joint.layout.images_first(z)[chosen, image] for name, z in values.items()}
    given = {name: joint.layout.images_back(value) for name, value in values.items()}
    return values, log_w[chosen, image].cpu(), _log_likelihood(joint, x, given, rows)


def _log_likelihood(joint, x, values, rows):
    """log p(x | z), (samples, batch) float64: of every site that is no latent, masked as the program says."""
    samples, parts = len(next(iter(values.values()))), []
    with pyro.validation_enabled(False):
        for part in torch.arange(samples, device=x.device).split(max(1, rows // len(x))):
            sites = sample_sites(joint.trace(x, {name: value[part] for name, value in values.items()}))
            seen = (site for name, site in sites.items() if name not in values)
            terms = (masked(site["fn"].log_prob(site["value"]), site).double() for site in seen)
            parts.append(sum(map(joint.layout.per_image, terms)).expand(len(part), len(x)))
    return torch.cat(parts).cpu()

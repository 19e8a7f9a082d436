"""Samples of the posterior p(z | x), by resampling the guide's proposals."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyro
import torch
from jaxtyping import Float64
from torch import Tensor

from vampyro.likelihood.importance import blocks_of, weigh_block
from vampyro.likelihood.joint import Joint
from vampyro.likelihood.scores import Score
from vampyro.memory import most_rows
from vampyro.programs.checks import check_counts, check_images
from vampyro.programs.layout import Images
from vampyro.programs.modes import constant_parts, evaluation_mode
from vampyro.programs.randomness import seeded


@dataclass(frozen=True, eq=False)
class PosteriorDraws:
    """Approximate samples z ~ p(z | x) for each of N images.

    Discrete latents with at most 4,096 codes are sampled exactly from p(z | x), and `score` is then exact.

    Attributes:
        values: {site: (S, N, *event)}.
        log_weights: log p(x, z) - log q(z | x) of each sample, (S, N); log p(x, z) if `score` is exact.
        log_likelihood: log p(x | z), (S, N).
        score: the score of the images from all proposals; its `ess` and `pareto_k` show how reliable the samples are.
    """

    values: dict[str, Tensor]
    log_weights: Float64[Tensor, "samples images"]
    log_likelihood: Float64[Tensor, "samples images"]
    score: Score

    def __repr__(self) -> str:
        sites = ", ".join(f"{name}: {'×'.join(map(str, value.shape[2:]))}" for name, value in self.values.items())
        samples, images = self.log_weights.shape
        return f"PosteriorDraws({sites}; {samples} draws for each of {images} images, from {self.score.samples})"


@torch.no_grad()
def posterior_draws(
    model: Callable,
    guide: Callable,
    images: Images,
    samples: int = 1000,
    *,
    proposals: int | None = None,
    seed: int = 0,
    rows: int | None = None,
) -> PosteriorDraws:
    """z_1 … z_S ~ p(z | x), for each image   (sampling importance resampling: Rubin 1987, JASA 82).

    The guide proposes S' values. Each sample is one of them, with probability w_s / Σ w, w = p(x, z_s) / q(z_s | x).
    Its distribution converges to the posterior as S' increases. A proposal can be chosen several times, so the number
    of different samples is limited by the effective sample size. For k̂ > 0.7 no S' is sufficient.

    Args:
        model, guide: Pyro programs over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width), as the model observes them.
        samples: S.
        proposals: S', by default 10 S.
        seed: determines the proposals and the choice among them.
        rows: proposals × images to decode at a time.

    Raises:
        ValueError: if S or S' < 1, if there are no images, if model and guide have different latents, or if the guide
            has a Delta site (use `scoring_guide(model, guide, images)` instead).

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
    check_counts(samples=samples, proposals=proposals)
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
    """Choose proposals by weight; return their values, log-weights and log p(x | z)."""
    if not values:
        raise ValueError("model and guide have no latent site, so there is no posterior")
    if (excluded := (log_w == -math.inf).all(0)).any():
        raise ValueError(
            f"images have no posterior where log p(x, z) is -inf at each of the {len(log_w)} values of z, as for "
            f"{int(excluded.sum())} of these {len(x)} images: leave them out, or take more proposals"
        )
    chosen = torch.multinomial(log_w.softmax(0).T, samples, replacement=True).T  # (S, batch)
    image = torch.arange(len(x), device=x.device)
    values = {name: joint.layout.images_first(z)[chosen, image] for name, z in values.items()}
    given = {name: joint.layout.images_back(value) for name, value in values.items()}
    parts = torch.arange(samples, device=x.device).split(max(1, rows // len(x)))
    with pyro.validation_enabled(False):
        log_p = [joint.log_likelihood(x, {name: value[part] for name, value in given.items()}) for part in parts]
    return values, log_w[chosen, image].cpu(), torch.cat(log_p).cpu()

"""Dimensions of the latents that depend on the image."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from vampyro.memory import most_rows
from vampyro.programs.checks import check_images, check_latents
from vampyro.programs.estimate import Estimate
from vampyro.programs.layout import Images, arrange, trace_guide
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import seeded
from vampyro.programs.traces import core, latents_of, sample_sites, trace_of


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """A_d = Var_x(E_q[z_d]) of one latent site.

    Attributes:
        variance: sample variance over images, minus `noise`, of the event shape; it may be slightly negative.
        noise: the variance due to sampling, of the event shape; 0 if the means are exact.
        threshold: variance above which a unit is active.
    """

    variance: Tensor
    noise: Tensor
    threshold: float

    @property
    def active(self) -> Tensor:
        """Whether each unit is active, (*event)."""
        return self.variance > self.threshold

    @property
    def count(self) -> int:
        """The number of active units."""
        return int(self.active.sum())

    def __repr__(self) -> str:
        return f"ActiveUnits({self.count} of {self.active.numel()}: variance of the mean > {self.threshold:g})"


@torch.no_grad()
def active_units(
    model: Callable,
    guide: Callable,
    images: Images,
    samples: int = 100,
    *,
    threshold: float = 0.01,
    seed: int = 0,
    rows: int | None = None,
) -> dict[str, ActiveUnits]:
    """Find units with Var_x(E_{z ~ q(z | x)}[z_d]) > 0.01 at each latent site   (Burda et al. 2016, arXiv:1509.00519).

    The mean of each site's distribution is used if it has a closed form, otherwise (after a flow) a sample. It is
    averaged over S samples of the guide: of z itself after a flow, of z2 for q(z1 | x, z2). The average of a diagonal
    Normal that depends only on x is exact. The variance of the average is subtracted; otherwise it would add up to
    Var(z)/S to the variance of every unit.

    Args:
        model, guide: Pyro programs over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width), N ≥ 2.
        samples: S ≥ 2.
        threshold: variance above which a unit is active.
        seed: of the samples.
        rows: samples × images to compute at a time.

    Returns:
        {site: ActiveUnits}, without sites whose values are labels (Categorical).

    Raises:
        ValueError: for fewer than two images or samples, or if model and guide have different latents.
        TypeError: if the images are not a tensor of floats, as in `active_units(guide, images, 100)`.

    >>> from vampyro import assemble
    >>> model, guide = assemble(hidden=(8,), latent=3, shape=(1, 4, 4))
    >>> active_units(model, guide, torch.rand(50, 1, 4, 4))["z"].noise
    tensor([0., 0., 0.], dtype=torch.float64)
    """
    if not callable(guide):
        raise TypeError(f"guide is a {type(guide).__name__}, expected a program: active_units(model, guide, images)")
    check_images(images, model, guide)
    if samples < 2 or len(images) < 2:
        raise ValueError(f"active_units expects at least two images and samples, got {len(images)} and {samples}")
    rows = rows or most_rows(images.device)
    means: dict = {}
    with evaluation_mode(model, guide), seeded(seed, device=images.device), pyro.validation_enabled(False):
        blocks, layout = arrange(images, rows // samples, model, guide)
        check_latents(latents_of(sample_sites(trace_of(model, blocks[0]))), trace_guide(guide, 1, blocks[0], layout)[1])
        for x in blocks:
            chunks = [trace_guide(guide, len(part), x, layout)[1] for part in torch.arange(samples).split(rows)]
            for name, site in chunks[0].items():
                if isinstance(core(site["fn"]), torch.distributions.Categorical):
                    continue
                draws = torch.cat([_mean_or_sample(chunk[name], layout) for chunk in chunks])
                means.setdefault(name, []).append(Estimate.of(draws))
    if not means:
        raise ValueError("active_units has no latent with a mean: the values of a Categorical are labels")
    found = {}
    for name, estimates in means.items():
        mean = Estimate.cat(estimates)
        noise = mean.errors.square().mean(0)
        found[name] = ActiveUnits(mean.values.var(0) - noise, noise, threshold)
    return found


def _mean_or_sample(site, layout):
    try:
        values = site["fn"].mean.expand(site["value"].shape)
    except NotImplementedError:
        values = site["value"]
    return layout.images_first(values)

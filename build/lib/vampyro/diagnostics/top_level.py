"""The latent at the top: its prior, and its posterior for every image."""

from contextlib import contextmanager

import pyro
import torch

from vampyro.programs.checks import check_images, check_latents
from vampyro.programs.layout import arrange, some_images
from vampyro.programs.modes import evaluation_mode
from vampyro.programs.randomness import same_noise, seeded
from vampyro.programs.traces import latents_of, precise, sample_sites, trace_of


@contextmanager
def examined(model, guide, images, seed=0, batch_size=500):
    """Inside, `top_level` of programs in evaluation mode, with noise from the seed and without validation."""
    check_images(images, model, guide)
    with evaluation_mode(model, guide), seeded(seed, device=images.device), pyro.validation_enabled(False):
        yield top_level(model, guide, images, batch_size)


def top_level(model, guide, images, batch_size=500):
    """(name, p(z), [q(z | x) for each block of images]) of the first latent, which is given nothing but x in the guide.

    z of a model with one level, z2 of one with two.

    Args:
        images: (N, channels, height, width).
        batch_size: images encoded at a time.

    Returns:
        the site's name, p(z) of batch shape (1,), and a list of distributions of batch shape (block,).

    Raises:
        ValueError: where there are no images, the programs do not have the same latents or begin with different ones,
            a site is shared between images, or the guide's first latent does not have one distribution for each image.
    """
    blocks, _ = arrange(images, batch_size, model, guide)
    guide_sites = [latents_of(sample_sites(trace_of(guide, x))) for x in blocks]
    model_sites = latents_of(sample_sites(trace_of(model, some_images(images, model))))
    names, model_names = list(guide_sites[0]), list(model_sites)
    check_latents(model_names, names)
    if not names:
        raise ValueError("model and guide have no latent site, and this is about p(z) and q(z | x)")
    if names[0] != model_names[0]:
        raise ValueError(
            f"the guide begins with the latent {names[0]!r} and the model with {model_names[0]!r}: of no latent "
            "are both p(z) and q(z | x) known; sample the model's first latent first"
        )
    posteriors = [sites[names[0]]["fn"] for sites in guide_sites]
    for q, x in zip(posteriors, blocks):
        if tuple(q.batch_shape) != (len(x),):
            raise ValueError(
                f"the guide's {names[0]!r} has batch shape {tuple(q.batch_shape)}, expected ({len(x)},), one "
                "distribution for each image: sample it in a plate over images, dim=-1, and in no other plate"
            )
    return names[0], model_sites[names[0]]["fn"], posteriors


def check_one_prior(model, name: str, images: torch.Tensor, batch_size=500) -> None:
    """Raise a ValueError where the prior of a latent differs between images of the first batch."""
    [x, *_], _ = arrange(images, batch_size, model)
    with same_noise(x.device):
        site = sample_sites(trace_of(model, x))[name]
    z = site["value"][:1].expand_as(site["value"])
    log_prob = site["fn"].log_prob(precise(site["fn"], z))
    if not torch.allclose(log_prob, log_prob[:1], rtol=1e-4, atol=1e-4):
        raise ValueError(
            f"the prior of {name!r} depends on the image, and all codes together are compared with one p(z): "
            "decompose(model, guide, images) gives the KL of each image from its own prior"
        )

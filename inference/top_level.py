"""The latent at the top: its prior, and its posterior for every image."""

from contextlib import contextmanager

import pyro

from inference.evaluation import check_latents, evaluation_mode
from inference.joint import trace_of
from inference.rng import seeded


@contextmanager
def examined(model, guide, images, seed=0, batch_size=500):
    """Inside, `top_level` of programs in evaluation mode, with noise from the seed and without validation."""
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
            or the guide's first latent does not have one distribution for each image.
    """
    if not len(images):
        raise ValueError("expected at least one image, got none")
    blocks = images.split(batch_size)
    guide_traces = [trace_of(guide, x) for x in blocks]
    model_trace = trace_of(model, images[:1])
    names, model_names = guide_traces[0].stochastic_nodes, model_trace.stochastic_nodes
    check_latents(model_names, names)
    if names[0] != model_names[0]:
        raise ValueError(
            f"the guide begins with the latent {names[0]!r} and the model with {model_names[0]!r}: of no latent "
            "are both p(z) and q(z | x) known; sample the model's first latent first"
        )
    posteriors = [trace.nodes[names[0]]["fn"] for trace in guide_traces]
    for q, x in zip(posteriors, blocks):
        if tuple(q.batch_shape) != (len(x),):
            raise ValueError(
                f"the guide's {names[0]!r} should have one distribution for each of {len(x)} images, "
                f"and has batch shape {tuple(q.batch_shape)}: sample it in a plate over images"
            )
    return names[0], model_trace.nodes[names[0]]["fn"], posteriors

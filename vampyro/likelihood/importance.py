"""Estimate log p(x) of each image by importance sampling, or sum over all values of discrete latents."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import pyro
import torch
from jaxtyping import Float64
from pyro import poutine
from torch import Tensor

from vampyro.likelihood.finite import few_codes
from vampyro.likelihood.joint import Joint
from vampyro.likelihood.scores import Score, count_distinct
from vampyro.memory import is_out_of_memory, keep_freed_memory, most_rows, rows_that_fit
from vampyro.programs.checks import check_counts, check_images, check_latents
from vampyro.programs.layout import (
    Images,
    Layout,
    arrange,
    check_density,
    check_own,
    layout_of,
    log_density,
    some_images,
    trace_guide,
    trace_samples,
)
from vampyro.programs.modes import constant_parts, evaluation_mode
from vampyro.programs.randomness import same_noise, seeded
from vampyro.programs.traces import is_masked, latents_of, sample_sites

COMPILE_FROM = 1_000_000  # rows on a CPU; for fewer, compiling takes more time than it saves
DRAWN = 8  # rows that the guide samples at a time, as a multiple of the rows that are decoded at a time
# At least so many tensors of the size of one image's samples, and of their weights, are in memory at the same time.
VALUES, WEIGHTS = 5, 4


def log_weights(
    model: Callable,
    guide: Callable,
    x: Images,
    samples: int,
    rows: int = 4096,
    joint: Joint | None = None,
    layout: Layout | None = None,
) -> Iterator[Float64[Tensor, "chunk images"]]:
    """Yield log w_s = log p(x, z_s) - log q(z_s | x), z_s ~ q(z | x), in chunks of samples.

    Pyro runs the guide once under a plate of all samples, which encodes x once, and replays the model over
    slices of that trace. The networks compute in float32; densities of latents under the model in float64.

    Args:
        x: (batch, channels, height, width).
        samples: S.
        rows: samples × images to decode at a time; halved if memory runs out.
        joint: the model's `Joint`, to use one for many x.
        layout: the batch dimensions of the programs (`vampyro.programs.layout`). By default they are found by running
            each program once.

    Yields:
        (chunk, batch) float64; the sizes of the chunks sum to S.

    Raises:
        ValueError: if the guide has a Delta site, which has no density, or if model and guide have different latents.
    """
    if layout is None:
        check_images(x, model, guide)
        layout = joint.layout if joint else arrange(x, len(x), model, guide)[1]
    values, log_q, _ = propose(guide, x, samples, layout)
    yield from weigh(joint or Joint(model, layout=layout), x, values, log_q, rows)


@torch.no_grad()
def propose(
    guide: Callable, x: Tensor, samples: int, layout: Layout
) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    """Sample the guide.

    log q includes auxiliary sites and the log-density of the Delta sites that follow from them.

    Returns:
        z_s ~ q(z | x), {site: (samples, *batch, *event)}; log q(z_s | x), (samples, images) float64; and the
        number of different values of the discrete sites, (images,), or None without discrete sites.

    Raises:
        ValueError: if the guide has a Delta site that does not follow from an auxiliary site.
    """
    with pyro.validation_enabled(False):
        trace, latents = trace_guide(guide, samples, x, layout)
        check_density(guide, x, latents)
        zeros = torch.zeros(samples, len(x), dtype=torch.float64, device=x.device)  # for a guide without latents
        log_q = zeros + log_density(trace, layout)
    discrete = [layout.images_first(site["value"]) for site in latents.values() if site["fn"].support.is_discrete]
    values = {name: site["value"] for name, site in latents.items()}
    return values, log_q, count_distinct(discrete) if discrete else None


def weigh(joint: Joint, x: Tensor, values: dict[str, Tensor], log_q: Tensor, rows: int) -> Iterator[Tensor]:
    """Yield log p(x, z_s) - log q(z_s | x) for samples of `propose`; if memory runs out, with fewer rows at a time."""
    samples = len(log_q)
    # Gradients and validation are off only between two yields, because the caller runs during a yield.
    with torch.no_grad(), pyro.validation_enabled(False):
        joint.check(x, values)
    most = max(1, rows // len(x))
    start, chunk = 0, -(-samples // -(-samples // most))  # as few chunks as possible, all of one size
    while start < samples:
        stop = min(start + chunk, samples)
        try:
            with torch.no_grad(), pyro.validation_enabled(False):
                # The last chunk repeats samples of the one before, so that all chunks have the same shape.
                part = slice(max(0, stop - chunk), stop)
                log_w = joint(x, {name: value[part] for name, value in values.items()}) - log_q[part]
        except RuntimeError as error:
            if chunk == 1 or not is_out_of_memory(error):
                raise
            chunk //= 2
            continue
        yield log_w[start - stop :]
        start = stop


def check_weights(log_w: Float64[Tensor, "samples images"], log_q: Tensor | None = None, first: int = 0) -> None:
    """Raise a FloatingPointError that names the images with a weight of NaN or +∞, and the density that causes it.

    A weight of 0 (log w = -∞) is valid: the model excludes that z.

    Args:
        log_w: log p(x, z) - log q(z | x).
        log_q: log q(z | x), (samples, images), if the weights contain it.
        first: the number of the first image.
    """
    invalid = log_w.isnan() | (log_w == math.inf)
    if not invalid.any():
        return
    images = invalid.any(0).nonzero().flatten().add(first).tolist()
    listed = ", ".join(map(str, images[:5])) + ", …" * (len(images) > 5)
    guide = log_q is not None and bool((~log_q.isfinite() & invalid).any())
    raise FloatingPointError(
        f"the importance weights of {len(images)} images are NaN or infinite (images number {listed}), because "
        f"{'log q(z | x)' if guide else 'log p(x, z)'} is: check the parameters and the images for NaN, or train again "
        "with a lower learning rate"
    )


def blocks_of(
    model: Callable, guide: Callable, images: Tensor, samples: int, rows: int, exact: bool | None = None
) -> tuple[list[Tensor], Layout, dict[str, Tensor] | None]:
    """Return the images in blocks that fit into memory, the layout, and `few_codes` of the latents or None."""
    blocks, layout = arrange(images, DRAWN * rows // samples, model, guide)
    codes = None if exact is False else few_codes(model, blocks[0], layout, exact)
    if codes is not None:
        blocks, _ = arrange(images, DRAWN * rows // len(next(iter(codes.values()))), model, guide)
    return blocks, layout, codes


@torch.no_grad()
def weigh_block(
    joint: Joint, guide: Callable, x: Tensor, samples: int, rows: int, codes: dict[str, Tensor] | None, first: int
) -> tuple[dict[str, Tensor], Tensor, Score]:
    """Compute the weights of samples from the guide or, with `codes`, sum over all codes.

    The sums are log p(x) = log Σ_z p(x, z) and E_q[log p(x, z) - log q(z | x)]. log p(x) includes codes to which the
    guide gives probability 0. It also includes the prior of a latent that the model masks, because otherwise every
    value would count as 1. The ELBO is masked as in training.

    Args:
        codes: {site: (C, *shape)}, or None.
        first: the number of the block's first image.

    Returns:
        {site: (S, *batch, *event)}; the log-weights, or log p(x, z) for codes, (S, images); and the score.
    """
    layout = joint.layout
    if codes is None:
        values, log_q, distinct = propose(guide, x, samples, layout)
        log_w = torch.cat(list(weigh(joint, x, values, log_q, rows)))
        check_weights(log_w, log_q, first)
        return values, log_w, Score.of(log_w, distinct)
    size = len(next(iter(codes.values())))
    same = {name: z.unsqueeze(1).expand(size, len(x), *z.shape[1:]) for name, z in codes.items()}  # for every image
    values = {name: layout.images_back(z) for name, z in same.items()}
    zeros = torch.zeros((), device=x.device).expand(size, len(x))
    in_training = log_p = torch.cat(list(weigh(joint, x, values, zeros, rows)))
    sites = sample_sites(joint.trace(x, {name: value[:1] for name, value in values.items()}))
    if any(is_masked(sites[name]) for name in values):
        complete = Joint(joint.model, joint.compiled, layout, masked=False)
        log_p = torch.cat(list(weigh(complete, x, values, zeros, rows)))
    check_weights(log_p, first=first)
    with pyro.validation_enabled(False):
        trace = trace_samples(poutine.condition(guide, data=values), size, x, layout=layout)
        sites = sample_sites(trace)
        check_latents(values, [name for name in sites if name in values or not sites[name]["is_observed"]])
        check_own(sites, len(x), layout, size)
        log_q = log_density(trace, layout, only=values, unmasked=values)
        terms = torch.where(log_q == -math.inf, 0.0, log_q.exp() * (in_training - log_density(trace, layout)))
    return values, log_p, Score.from_sum(log_p.logsumexp(0), terms.sum(0), size)


def score(
    model: Callable,
    guide: Callable,
    images: Images,
    samples: int = 1000,
    *,
    seed: int = 0,
    rows: int | None = None,
    compiled: bool | None = None,
    exact: bool | None = None,
    progress: Callable[[list], Iterable] = iter,
    done: Sequence[Score] = (),
    keep: Callable[[Score], object] | None = None,
) -> Score:
    """log p̂(x) = log 1/S Σ_s p(x, z_s) / q(z_s | x), z_s ~ q(z | x)   (Burda et al. 2016, arXiv:1509.00519).

    log p̂(x) is a lower bound in expectation that increases with S, so report S, and compare only scores with equal S.
    Weights are float64. Memory for the samples of one block of images increases with S.

    If all latents are discrete and have at most 4,096 values in total, log p(x) = log Σ_z p(x, z) is computed exactly
    instead, without samples. Discrete latents with more values are sampled, and the error of log p̂ is then unknown:
    see `Score`.

    Args:
        model, guide: Pyro programs over a batch of images; an `nn.Module` is in evaluation mode during the call.
        images: (N, channels, height, width), as the model observes them.
        samples: S.
        seed: the result depends on it, on S, on `rows` and on the kind of device.
        rows: samples × images to decode at a time. By default as many as half of the free memory holds and the device
            computes efficiently. It is halved if memory runs out.
        compiled: whether to compile the model's density (`Joint`). By default it is compiled on a CPU if that saves
            time.
        exact: False samples discrete latents in any case; True requires the sum over all codes.
        progress: wraps the list of blocks of images, for example `tqdm`.
        done: scores of the first blocks, from an interrupted call; these blocks are not computed again.
        keep: called with the score of each block.

    Raises:
        ValueError: if S < 1, if there are no images, if the guide has a Delta site without a density, if model and
            guide have different latents, if images share a site, or if `exact` is True and the latents have more than
            4,096 values.
        TypeError: if the images are not a tensor of floats of the programs' precision.
        FloatingPointError: if a weight is NaN or infinite.

    >>> from vampyro import VAE, Guide, StandardNormal, nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> score(model, guide, torch.zeros(7, 1, 4, 4), samples=100).log_likelihood.shape
    torch.Size([7])
    """
    check_images(images, model, guide)
    check_counts(samples=samples)
    if compiled is None:
        compiled = images.device.type == "cpu" and samples * len(images) >= COMPILE_FROM
    keep_freed_memory()
    results = list(done)
    with evaluation_mode(model, guide), constant_parts(model):
        blocks, layout, codes = blocks_of(model, guide, images, samples, rows or most_rows(images.device), exact)
        count = samples if codes is None else len(next(iter(codes.values())))
        if any(len(a) != len(b) or a.samples != count for a, b in zip(results, blocks)) or len(results) > len(blocks):
            raise ValueError(
                f"done contains scores of other blocks: expected those of {len(images)} images with {count} samples"
            )
        if rows is None:
            with same_noise(images.device):
                x = blocks[0]
                weigh = partial(log_weights, model, guide, x, layout=layout)
                rows = rows_that_fit(lambda n: next(weigh(n, rows=n * len(x))), images.device, len(x))
        joint = Joint(model, compiled, layout)
        for x in progress(blocks[len(results) :]):
            with seeded(seed, len(results), device=images.device):
                *_, result = weigh_block(joint, guide, x, samples, rows, codes, first=sum(map(len, results)))
            results.append(result)
            if keep is not None:
                keep(result)
    return Score.cat(results)


def least_bytes(model: Callable, images: Tensor, samples: int) -> int:
    """Return the bytes that `score` needs at least for the samples of one image; 0 if it sums over all codes."""
    x = some_images(images, model)
    with evaluation_mode(model), torch.no_grad(), pyro.validation_enabled(False), same_noise(x.device):
        layout = layout_of(x, model)
        if few_codes(model, x, layout) is not None:
            return 0
        latents = latents_of(sample_sites(trace_samples(model, 1, x, layout=layout)))
    values = sum(site["value"].nbytes for site in latents.values())
    return samples * (VALUES * values + WEIGHTS * torch.float64.itemsize * len(x))

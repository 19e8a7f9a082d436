"""Find the batch dimension of the images in a program, and run programs under a plate of samples."""

from collections.abc import Callable, Container
from contextlib import suppress
from typing import Any, NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import Unit
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from vampyro.memory import is_out_of_memory
from vampyro.programs.checks import check_images
from vampyro.programs.randomness import same_noise
from vampyro.programs.traces import (
    Sites,
    auxiliaries_of,
    is_auxiliary,
    is_delta,
    latents_of,
    log_prob_of,
    sample_sites,
    trace_of,
)

Images = Float[Tensor, " images *event"]
FAILURES = (ValueError, RuntimeError, TypeError, IndexError)  # errors of a program that gets an unexpected shape


class Layout(NamedTuple):
    """Batch dimensions of a pair of programs: `rank` of them, the images along `dim` < 0, samples to the left.

    A program whose only plate is that of the images has rank 1 and dim -1.

    >>> Layout(rank=2, dim=-2).per_image(torch.ones(10, 5, 3)).shape          # 3 pixels within each of 5 images
    torch.Size([10, 5])
    """

    rank: int = 1
    dim: int = -1

    @property
    def samples(self) -> int:
        """The dimension of the plate of samples."""
        return -1 - self.rank

    def per_image(self, log_prob: Tensor) -> Tensor:
        """Sum over the batch dimensions other than samples and images: (…, samples, *batch) → (…, samples, images)."""
        if self.rank == 1:
            return log_prob
        log_prob = log_prob.reshape((1,) * (1 + self.rank - log_prob.ndim) + tuple(log_prob.shape))
        return log_prob.sum([dim for dim in range(-self.rank, 0) if dim != self.dim])

    def images_first(self, value: Tensor) -> Tensor:
        """Move the images next to the samples: (samples, *batch, *event) → (samples, images, …)."""
        return value.movedim(1 + self.rank + self.dim, 1)

    def images_back(self, value: Tensor) -> Tensor:
        """Invert `images_first`."""
        return value.movedim(1, 1 + self.rank + self.dim)

    def select(self, value: Tensor, event_dim: int, part: slice) -> Tensor:
        """Select some images of a value without samples: (…, *event) → (*batch, *event), with all batch dimensions."""
        missing = self.rank + event_dim - value.ndim
        value = value.reshape((1,) * missing + tuple(value.shape))
        return value[(slice(None),) * (self.rank + self.dim) + (part,)]


def check_own(sites: Sites, images: int, layout: Layout = Layout(), samples: int | None = None) -> None:
    """Raise a ValueError that names a site that images share, or a plate that subsamples parts of an image.

    Args:
        sites: {name: site} of a trace.
        images: the number of images.
        layout: the batch dimensions.
        samples: the size of the plate of samples, None without such a plate.
    """
    for name, site in sites.items():
        shape = tuple(site["fn"].batch_shape)
        if site["infer"].get("_deterministic"):
            continue
        for frame in site["cond_indep_stack"]:
            if frame.vectorized and frame.dim != layout.dim and frame.full_size not in (None, frame.size):
                raise ValueError(
                    f"log p(x) needs whole images, and the plate {frame.name!r} takes {frame.size} of "
                    f"{frame.full_size} parts of an image: leave out subsample_size"
                )
        has_images = len(shape) >= -layout.dim and shape[layout.dim] == images
        has_samples = samples is None or (len(shape) > layout.rank and shape[layout.samples] == samples)
        if has_images and has_samples:
            continue
        kind = "auxiliary site" if is_auxiliary(site) else "factor" if isinstance(site["fn"], Unit) else "site"
        message = f"every site must be each image's own, and the {kind} {name!r} is shared between images: its batch "
        message += f"shape is {shape}, expected {images} at dimension {layout.dim}; "
        cut = [f for f in site["cond_indep_stack"] if f.vectorized and f.full_size == images != f.size]
        if cut:
            message += f"the plate {cut[0].name!r} takes {cut[0].size} of the {images} images: leave out subsample_size"
        elif any(not frame.vectorized for frame in site["cond_indep_stack"]):
            message += 'replace the loop over a plate by a vectorised one: with pyro.plate("images", len(x))'
        else:
            if not is_auxiliary(site):
                message += 'draw it inside the plate of images, with pyro.plate("images", len(x)); '
            message += (
                "where images share it on purpose, as they share a global latent of an autoguide, single images have "
                "no importance weights: pyro.infer.importance.vectorized_importance_weights gives the joint log-weight "
                "of the whole data set"
            )
        raise ValueError(message)


def layout_of(x: Tensor, *programs: Callable, check: bool = True) -> Layout:
    """Find the `Layout` of programs by running each once on x, with the random state restored afterwards.

    Raises:
        ValueError: with `check`, if images share a site.
        FloatingPointError: if a program fails and has parameters that are not finite.
        the program's own error, with x's shape and dtype, if it fails for another reason.
    """
    with torch.no_grad():
        found = [_sites_of(program, x) for program in programs]
        dims = _image_dims(found, len(x))
        if len(dims) > 1:  # another plate has as many elements as there are images
            other = x[:-1] if len(x) > 1 else torch.cat([x, x])
            with suppress(*FAILURES):
                again = _image_dims([_sites_of(program, other) for program in programs], len(other))
                dims = [dim for dim in dims if dim in again] or dims
    every = [site for each in found for site in each.values()]
    frames = [frame for site in every for frame in site["cond_indep_stack"] if frame.vectorized]
    rank = max([1, *(-frame.dim for frame in frames), *(len(site["fn"].batch_shape) for site in every)])
    layout = Layout(rank, dims[0])
    for sites in found if check else ():
        check_own(sites, len(x), layout)
    return layout


def _image_dims(found: list[Sites], images: int) -> list[int]:
    """Return the dimensions along which every latent may have the images, the outermost plate's first."""
    latents = [site for each in found for site in latents_of(each).values()]
    latents = latents or [site for each in found for site in each.values()]
    stacks = (site["cond_indep_stack"] for site in latents)
    plates = list(dict.fromkeys(frame.dim for stack in stacks for frame in stack if frame.vectorized))
    shapes = [site["fn"].batch_shape for site in latents]
    candidates = dict.fromkeys([*plates, -1])
    dims = [dim for dim in candidates if all(len(shape) >= -dim and shape[dim] == images for shape in shapes)]
    return dims or (plates if len(plates) == 1 else [-1])


def _sites_of(program: Callable, x: Tensor) -> Sites:
    try:
        with same_noise(x.device), pyro.validation_enabled(False):
            return sample_sites(trace_of(program, x))
    except FAILURES as error:
        if type(error) not in FAILURES or is_out_of_memory(error):
            raise
        if isinstance(program, torch.nn.Module) and not all(p.isfinite().all() for p in program.parameters()):
            raise FloatingPointError(f"{type(program).__name__} has parameters that are not finite") from error
        name = getattr(program, "__name__", type(program).__name__)
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        kind = type(error) if x.dtype == torch.get_default_dtype() else TypeError
        raise kind(
            f"images of shape {tuple(x.shape)}, {x.dtype}: the program {name} failed on them "
            f"({reason}); it is called with a batch, (N, …), of the dtype of its parameters"
        ) from error


def arrange(images: Tensor, size: int, *programs: Callable) -> tuple[list[Tensor], Layout]:
    """Return the images in blocks of at most `size`, and the programs' `Layout`.

    A program that holds data of every image (labels, parameters of an autoguide) does not run on some of the images.
    Then all images are one block.

    Raises:
        ValueError, TypeError: if the programs cannot process the images.
    """
    for program in programs:
        if isinstance(program, AutoGuide) and program.prototype_trace is None:
            program(images)  # its first call fixes the number of images that it has parameters for
    blocks = list(images.split(max(1, size)))
    try:
        layout = layout_of(blocks[0], *programs)
        if len(blocks[-1]) != len(blocks[0]):
            layout_of(blocks[-1], *programs)
        return blocks, layout
    except FAILURES as error:
        if len(blocks) == 1 or is_out_of_memory(error):
            raise
        return [images], layout_of(images, *programs)


def some_images(images: Tensor, *programs: Callable) -> Tensor:
    """Return the first image, or all images if the programs do not run on some of them."""
    try:
        layout_of(images[:1], *programs, check=False)
    except FAILURES:
        return images
    return images[:1]


def log_density(
    trace: poutine.Trace,
    layout: Layout = Layout(),
    *,
    only: Container[str] | None = None,
    without: Container[str] = (),
    unmasked: Container[str] = (),
) -> Any:
    """Sum the log-probabilities of a trace's sites: (samples, images) float64; 0 without sites.

    As in Pyro's Trace_ELBO, auxiliary sites and factors count, and a Delta site of an autoguide with its `log_density`.

    Args:
        only, without: names of the sites to sum, or to leave out.
        unmasked: names of sites that ignore a mask of the program.
    """
    names = [n for n in sample_sites(trace) if (only is None or n in only) and n not in without]
    trace.compute_log_prob(lambda name, site: name in names)
    terms = (log_prob_of(trace.nodes[name], with_mask=name not in unmasked) for name in names)
    return sum(layout.per_image(term).double() for term in terms)


def trace_samples(program: Callable, size: int, *inputs: Tensor, layout: Layout = Layout()) -> poutine.Trace:
    """Trace the program under a plate of `size` samples, to the left of its own plates."""

    def vectorized(*inputs):
        with pyro.plate("samples", size, dim=layout.samples):
            return program(*inputs)

    return trace_of(vectorized, *inputs)


def trace_guide(guide: Callable, size: int, x: Tensor, layout: Layout = Layout()) -> tuple[poutine.Trace, Sites]:
    """Return the guide's trace under a plate of `size` samples, and its latents, {name: site}; raise as `check_own`."""
    trace = trace_samples(guide, size, x, layout=layout)
    sites = sample_sites(trace)
    check_own(sites, len(x), layout, size)
    return trace, latents_of(sites)


@torch.no_grad()
def points_of(guide: Callable, images: Images) -> dict[str, Tensor]:
    """{site: (N, *event)}, the guide's Delta latents without a density; {} for a guide with a density.

    A Delta that follows from an auxiliary site has the density of that site times its own `log_density`.

    >>> from vampyro import assemble
    >>> model, guide = assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> points_of(guide, torch.zeros(5, 1, 4, 4))["z"].shape
    torch.Size([5, 2])
    """
    check_images(images, guide)
    with same_noise(images.device), pyro.validation_enabled(False):
        sites = sample_sites(trace_of(guide, images))
        deltas = {name: site["value"] for name, site in latents_of(sites).items() if is_delta(site["fn"])}
        if deltas and auxiliaries_of(sites):  # two samples of a Delta with a density differ
            twice = trace_samples(guide, 2, images, layout=layout_of(images, guide, check=False))
            values: Sites = {name: twice.nodes[name]["value"] for name in deltas}
            deltas = {name: z for name, z in deltas.items() if (values[name] == values[name][:1]).all()}
    return deltas


def check_density(guide: Callable, x: Tensor, latents: Sites) -> None:
    """Raise a ValueError that names a latent at which the guide has no density; `latents` are those of its trace."""
    if any(is_delta(site["fn"]) for site in latents.values()):
        for name in points_of(guide, x):
            raise ValueError(
                f"the guide's site {name!r} is a Delta, a point without a density, so it has neither a KL nor "
                "importance weights: score with scoring_guide(model, guide, images)"
            )

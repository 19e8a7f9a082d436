"""The dimension of a program's sites along which the images lie, and runs with a plate of samples."""

from collections.abc import Callable, Container
from contextlib import suppress
from typing import NamedTuple

import pyro
import torch
from jaxtyping import Float
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
    points_among,
    sample_sites,
    trace_of,
    unscaled,
)

Images = Float[Tensor, " images *event"]
FAILURES = (ValueError, RuntimeError, TypeError, IndexError)  # of a program that meets another shape than its own


class Layout(NamedTuple):
    """Batch dimensions of a pair of programs: `rank` of them, the images along `dim` (negative), samples to the left.

    A program whose only plate is the plate of images has rank 1 and dim -1.

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
        """A site's value with the images next to the samples: (samples, *batch, *event) → (samples, images, …)."""
        return value.movedim(1 + self.rank + self.dim, 1)

    def images_back(self, value: Tensor) -> Tensor:
        """The inverse of `images_first`."""
        return value.movedim(1, 1 + self.rank + self.dim)

    def select(self, value: Tensor, event_dim: int, part: slice) -> Tensor:
        """Those images' part of a value that was drawn without samples: (*batch, *event), with all batch dimensions."""
        missing = self.rank + event_dim - value.ndim
        value = value.reshape((1,) * missing + tuple(value.shape))
        return value[(slice(None),) * (self.rank + self.dim) + (part,)]


def check_own(sites: Sites, images: int, layout: Layout = Layout(), samples: int | None = None) -> None:
    """Raise a ValueError that names a site that images share, or a plate that takes a part of an image.

    Args:
        sites: {name: site} of a trace.
        images: the number of images.
        layout: where they lie.
        samples: the size of the plate of samples, None where the program ran without one.
    """
    for name, site in sites.items():
        shape = tuple(site["fn"].batch_shape)
        if site["infer"].get("_deterministic"):
            continue
        for frame in site["cond_indep_stack"]:
            if frame.vectorized and frame.dim != layout.dim and frame.full_size not in (None, frame.size):
                raise ValueError(
                    f"log p(x) is about whole images, and the plate {frame.name!r} takes {frame.size} of "
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
    """Where images lie in these programs; runs each once on x and leaves the random numbers as they were.

    Raises:
        ValueError: with `check`, where a site is not each image's own.
        FloatingPointError: where the program does not run as it has parameters that are not finite.
        the program's own error, with x's shape and dtype, where it does not run on x.
    """
    with torch.no_grad():
        found = [_sites_of(program, x) for program in programs]
        dims = _image_dims(found, len(x))
        if len(dims) > 1:  # a plate of another kind has as many elements as there are images
            other = x[:-1] if len(x) > 1 else torch.cat([x, x])
            with suppress(*FAILURES):
                again = _image_dims([_sites_of(program, other) for program in programs], len(other))
                dims = [dim for dim in dims if dim in again] or dims
    sites = [site for each in found for site in each.values()]
    frames = [frame for site in sites for frame in site["cond_indep_stack"] if frame.vectorized]
    rank = max([1, *(-frame.dim for frame in frames), *(len(site["fn"].batch_shape) for site in sites)])
    layout = Layout(rank, dims[0])
    for sites in found if check else ():
        check_own(sites, len(x), layout)
    return layout


def _image_dims(found, images):
    """Return the dimensions along which every latent may have the images, that of the outermost plate first."""
    latents = [site for each in found for site in latents_of(each).values()]
    latents = latents or [site for each in found for site in each.values()]
    stacks = (site["cond_indep_stack"] for site in latents)
    plates = list(dict.fromkeys(frame.dim for stack in stacks for frame in stack if frame.vectorized))
    shapes = [site["fn"].batch_shape for site in latents]
    candidates = dict.fromkeys([*plates, -1])
    dims = [dim for dim in candidates if all(len(shape) >= -dim and shape[dim] == images for shape in shapes)]
    return dims or (plates if len(plates) == 1 else [-1])


def _sites_of(program, x):
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
    """The images in blocks of at most `size`, and the programs' `Layout`, in evaluation mode.

    A program that holds data of every image (labels that it closes over, an autoguide's own parameters) does not run
    on a part of them. Then all images are one block.

    Raises:
        ValueError, TypeError: for images that the programs do not take; their callers have passed `check_images`.
    """
    for program in programs:
        if isinstance(program, AutoGuide) and program.prototype_trace is None:
            program(images)  # its first call decides how many images it has parameters for
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


def some_images(images, *programs: Callable) -> Tensor:
    """The first image, or all where the programs do not run on a part of them."""
    try:
        layout_of(images[:1], *programs, check=False)
    except FAILURES:
        return images
    return images[:1]


def log_density(sites: Sites, layout: Layout = Layout(), unmasked: Container[str] = ()):
    """Sum the log-probabilities of all sites of a trace: (samples, images) float64; 0 without sites.

    A guide's auxiliary sites and factors count. The Delta sites of an autoguide count with their `log_density`, minus
    the log-determinant of what made them from an auxiliary site, as in Pyro's Trace_ELBO.

    Args:
        sites: of a trace whose log-probabilities are computed.
        unmasked: names of sites that count where the program masks them, too.
    """
    terms = (unscaled(site, with_mask=name not in unmasked) for name, site in sites.items())
    return sum(layout.per_image(term).double() for term in terms)


def traced(program, size, *inputs, layout=Layout()):
    """The program's trace under a plate of `size` samples, to the left of its own plates."""

    def vectorized(*inputs):
        with pyro.plate("samples", size, dim=layout.samples):
            return program(*inputs)

    return trace_of(vectorized, *inputs)


def inferred(guide, size, x, layout=Layout()):
    """The guide's trace under a plate of `size` samples, and its latents, {name: site}.

    Raises:
        ValueError: names a site that images share, a weight of the decoder for example.
    """
    trace = traced(guide, size, x, layout=layout)
    sites = sample_sites(trace)
    check_own(sites, len(x), layout, size)
    return trace, latents_of(sites)


@torch.no_grad()
def points_of(guide, images: Float[Tensor, " images *event"]):
    """{site: (N, *event)}, the guide's latents that are points; {} for a guide with a density.

    >>> from vampyro import assemble
    >>> model, guide = assemble(posterior="delta", hidden=(8,), latent=2, shape=(1, 4, 4))
    >>> points_of(guide, torch.zeros(5, 1, 4, 4))["z"].shape
    torch.Size([5, 2])
    """
    check_images(images, guide)
    with same_noise(images.device), pyro.validation_enabled(False):
        sites = sample_sites(trace_of(guide, images))
        deltas = {name: site["value"] for name, site in latents_of(sites).items() if is_delta(site["fn"])}
        if deltas and auxiliaries_of(sites):  # a point is the same in two samples
            twice = sample_sites(traced(guide, 2, images, layout=layout_of(images, guide, check=False)))
            deltas = {name: deltas[name] for name in points_among(twice)}
    return deltas


def check_density(guide, x, latents, layout=Layout()):
    """Raise a ValueError that names a latent at which the guide has no density; `latents` are those of its trace."""
    if any(is_delta(site["fn"]) for site in latents.values()):
        with same_noise(x.device):  # two samples of x: a point is the same in both
            trace, _ = inferred(guide, 2, x, layout)
        for name in points_among(sample_sites(trace)):
            raise ValueError(
                f"the guide's site {name!r} is a Delta, a point without a density: it has neither a KL nor importance "
                "weights; score with scoring_guide(model, guide, images)"
            )

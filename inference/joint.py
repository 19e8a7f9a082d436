"""log p(x, z) of a model, for many z of one x at once."""

import pyro
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites

from inference.evaluation import check_event, check_latents, check_support, unscaled
from inference.staged import Staged


def trace_of(program, *inputs):
    """The program's trace; its plates' own sites are no part."""
    return prune_subsample_sites(poutine.trace(program).get_trace(*inputs))


def traced(program, size, *inputs):
    """The program's trace under a plate of `size` samples, to the left of its plate of images."""

    def vectorized(*inputs):
        with pyro.plate("samples", size, dim=-2):
            return program(*inputs)

    return trace_of(vectorized, *inputs)


def sample_sites(trace):
    """{name: site} of a trace's sample sites."""
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}


def inferred(guide, size, x):
    """The guide's trace under a plate of `size` samples, and its latents, {name: site}.

    Raises:
        ValueError: names a latent that images share, a weight of the decoder say.
    """
    trace = traced(guide, size, x)
    latents = sample_sites(trace)
    check_own(latents, (size, len(x)))
    return trace, latents


def check_own(latents, shape):
    """Raises a ValueError that names a latent whose batch shape is not that: (samples, images)."""
    for name, site in latents.items():
        if site["fn"].batch_shape != shape:
            raise ValueError(
                f"every latent must be one image's own: the site {name!r} has batch shape "
                f"{tuple(site['fn'].batch_shape)}, where {shape} is expected: draw it inside the plate of images"
            )


class Joint:
    """(x, {name: z}) → log p(x, z): networks in float32, densities of latents in float64.

    Args:
        model: a Pyro program over a batch of images, its constant parts constant (`constant_parts`).
        compiled: whether to compile what can be: the networks and their distributions in one graph; and of a mixture,
            whose refinement asks what it found, the finding. For the shapes of the first call.

    forward: x (batch, …), each z (samples, batch, *event) → (samples, batch) float64, nats.

    Raises:
        ValueError: where the model has another set of latent sites.
    """

    def __init__(self, model, compiled=False):
        self.model, self.compiled = model, compiled
        self.program, self.names, self.mixtures = None, None, {}

    def __call__(self, x, values):
        if self.program is None:
            self.names = list(values)
            if self.compiled:
                self.mixtures = self.constant_mixtures(x, values)
            self.program = Staged(self.others) if self.compiled else self.others
        log_prob = self.program(x, *values.values())
        for name, mixture in self.mixtures.items():
            log_prob = log_prob + mixture.log_prob(values[name].double())
        return log_prob

    def check(self, x, values):
        """Raises a ValueError where the model has no mass on these images; once for each block of them."""
        check_support(sample_sites(self.trace(x, {name: value[:1] for name, value in values.items()})), values)

    def others(self, x, *values):
        """Of all sites but the mixtures."""
        values = dict(zip(self.names, values))
        trace = self.trace(x, values)
        for name, value in values.items():
            trace.nodes[name]["value"] = value.double()
        trace.compute_log_prob(lambda name, site: name not in self.mixtures)
        return sum(unscaled(site).double() for name, site in sample_sites(trace).items() if name not in self.mixtures)

    def trace(self, x, values):
        size = len(next(iter(values.values()))) if values else 1
        trace = traced(poutine.condition(self.model, data=values), size, x)
        latents = {name: site for name, site in sample_sites(trace).items() if name in values}
        check_latents([*trace.stochastic_nodes, *latents], values)
        for site in latents.values():
            check_event(site)
        check_own(latents, (size, len(x)))
        return trace

    def constant_mixtures(self, x, values):
        """Those sites' distributions that do not depend on x or z: the same components come again.

        Sites that a handler masks stay with the others.
        """
        one, again = (sample_sites(self.trace(x, {n: v[:1] for n, v in values.items()})) for _ in range(2))
        found = {name: one[name]["fn"].unbatched() for name in values if getattr(one[name]["fn"], "refines", False)}
        found = {name: fn for name, fn in found.items() if one[name]["mask"] is None}
        found = {name: fn for name, fn in found.items() if again[name]["fn"].components is fn.components}
        for mixture in found.values():
            mixture.find = Staged(mixture.find)
        return found

"""log p(x, z) of a model, for many z of one x at once."""

from pyro import poutine

from vampyro.distributions import Mixture
from vampyro.programs.checks import check_event, check_latents, check_support
from vampyro.programs.compile import Staged
from vampyro.programs.layout import Layout, check_own, traced
from vampyro.programs.traces import precise, sample_sites, unscaled


class Joint:
    """(x, {name: z}) → log p(x, z): networks in float32, densities of latents in float64.

    Args:
        model: a Pyro program over a batch of images, its constant parts constant (`constant_parts`).
        compiled: whether to compile what can be: the networks and their distributions in one graph; and of a mixture,
            whose refinement asks what it found, the finding. For the shapes of the first call.
        layout: where the images lie in the model.
        masked: False counts log p(z) of latents where the model masks them too: they then have their prior.

    forward: x (batch, …), each z (samples, batch, *event) → (samples, batch) float64, nats.

    Raises:
        ValueError: where the model has another set of latent sites.
    """

    def __init__(self, model, compiled=False, layout=Layout(), masked=True):
        self.model, self.compiled, self.layout, self.masked = model, compiled, layout, masked
        self.program, self.names, self.mixtures = None, None, {}

    def __call__(self, x, values):
        if self.program is None:
            self.names = list(values)
            if self.compiled:
                self.mixtures = self.constant_mixtures(x, values)
            self.program = Staged(self.others) if self.compiled else self.others
        log_prob = self.program(x, *values.values())
        for name, mixture in self.mixtures.items():
            log_prob = log_prob + self.layout.per_image(mixture.log_prob(values[name].double()))
        return log_prob

    def check(self, x, values):
        """Raises a ValueError where the model has no mass on these images; once for each block of them."""
        check_support(sample_sites(self.trace(x, {name: value[:1] for name, value in values.items()})), values)

    def others(self, x, *values):
        """Of all sites but the mixtures."""
        values = dict(zip(self.names, values))
        trace = self.trace(x, values)
        for name, value in values.items():
            trace.nodes[name]["value"] = precise(trace.nodes[name]["fn"], value)
        trace.compute_log_prob(lambda name, site: name not in self.mixtures)
        return sum(
            self.layout.per_image(unscaled(site, self.masked or name not in values)).double()
            for name, site in sample_sites(trace).items()
            if name not in self.mixtures
        )

    def trace(self, x, values):
        size = len(next(iter(values.values()))) if values else 1
        trace = traced(poutine.condition(self.model, data=values), size, x, layout=self.layout)
        sites = sample_sites(trace)
        latents = {name: site for name, site in sites.items() if name in values}
        check_latents([*trace.stochastic_nodes, *latents], values)
        for site in latents.values():
            check_event(site)
        check_own(sites, len(x), self.layout, size)
        return trace

    def constant_mixtures(self, x, values):
        """Those sites' distributions that do not depend on x or z: the same components come again.

        Sites that a handler masks stay with the others.
        """
        one, again = (sample_sites(self.trace(x, {n: v[:1] for n, v in values.items()})) for _ in range(2))
        priors = {name: one[name]["fn"] for name in values}
        found = {name: p.unbatched() for name, p in priors.items() if isinstance(p, Mixture) and p.refines}
        found = {name: fn for name, fn in found.items() if one[name]["mask"] is None}
        found = {name: fn for name, fn in found.items() if again[name]["fn"].components is fn.components}
        for mixture in found.values():
            mixture.find = Staged(mixture.find)
        return found

"""log p(x, z) of a model, for many z of one x at once."""

from collections.abc import Callable, Collection
from typing import Any

from pyro import poutine
from torch import Tensor

from vampyro.distributions import Mixture
from vampyro.programs.checks import check_event, check_latents, check_support
from vampyro.programs.compile import Staged
from vampyro.programs.layout import Layout, check_own, log_density, traced
from vampyro.programs.traces import precise, sample_sites


class Joint:
    """(x, {name: z}) → log p(x, z): networks in float32, densities of latents in float64.

    Args:
        model: a Pyro program over a batch of images, its constant parts constant (`constant_parts`).
        compiled: whether to compile the networks and their distributions, in one graph, for the shapes of the first
            call. Of a mixture that screens its components only the screening is compiled, since the rest depends on
            its result.
        layout: where the images lie in the model.
        masked: False counts log p(z) of latents where the model masks them too: they then have their prior.

    forward: x (batch, …), each z (samples, batch, *event) → (samples, batch) float64, nats.

    Raises:
        ValueError: where the model has another set of latent sites.
    """

    def __init__(self, model: Callable, compiled: bool = False, layout: Layout = Layout(), masked: bool = True):
        self.model, self.compiled, self.layout, self.masked = model, compiled, layout, masked
        self.program: Callable | None = None
        self.names: list[str] = []
        self.mixtures: dict[str, Any] = {}

    def __call__(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        if self.program is None:
            self.names = list(values)
            if self.compiled:
                self.mixtures = self.constant_mixtures(x, values)
            self.program = Staged(self.others) if self.compiled else self.others
        log_prob = self.program(x, *values.values())
        for name, mixture in self.mixtures.items():
            log_prob = log_prob + self.layout.per_image(mixture.log_prob(values[name].double()))
        return log_prob

    def others(self, x: Tensor, *tensors: Tensor) -> Tensor:
        """log p of all sites but the mixtures."""
        values = dict(zip(self.names, tensors))
        trace = self.trace(x, values)
        sites = sample_sites(trace)
        for name, value in values.items():
            sites[name]["value"] = precise(sites[name]["fn"], value)
        return self.log_density(trace, self.mixtures, () if self.masked else values)

    def log_likelihood(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """log p(x | z), (samples, batch) float64: of every site that is not a latent, masked as the program says."""
        log_prob = self.log_density(self.trace(x, values), values)
        return log_prob.expand(len(next(iter(values.values()))), len(x))

    def log_density(self, trace: poutine.Trace, leave_out: Collection[str], unmasked: Collection[str] = ()) -> Tensor:
        """Sum the log-probabilities of a trace, without some of the sites."""
        trace.compute_log_prob(lambda name, site: name not in leave_out)
        sites = {name: site for name, site in sample_sites(trace).items() if name not in leave_out}
        return log_density(sites, self.layout, unmasked)

    def check(self, x: Tensor, values: dict[str, Tensor]) -> None:
        """Raise a ValueError where the model has no mass on these images; once for each block of them."""
        check_support(sample_sites(self.trace(x, {name: value[:1] for name, value in values.items()})), values)

    def trace(self, x: Tensor, values: dict[str, Tensor]) -> poutine.Trace:
        """Run the model on x with these latents."""
        size = len(next(iter(values.values()))) if values else 1
        trace = traced(poutine.condition(self.model, data=values), size, x, layout=self.layout)
        sites = sample_sites(trace)
        latents = {name: site for name, site in sites.items() if name in values}
        check_latents([*trace.stochastic_nodes, *latents], values)
        for site in latents.values():
            check_event(site)
        check_own(sites, len(x), self.layout, size)
        return trace

    def constant_mixtures(self, x: Tensor, values: dict[str, Tensor]) -> dict[str, Any]:
        """Return the mixtures that do not depend on x or z: a second run gives the same components.

        Sites that a handler masks stay with the others.
        """
        one, again = (sample_sites(self.trace(x, {n: v[:1] for n, v in values.items()})) for _ in range(2))
        priors = {name: one[name]["fn"] for name in values}
        found = {name: p.reshaped(()) for name, p in priors.items() if isinstance(p, Mixture) and p.refines}
        found = {name: fn for name, fn in found.items() if one[name]["mask"] is None}
        found = {name: fn for name, fn in found.items() if again[name]["fn"].components is fn.components}
        for mixture in found.values():  # copies: the prior's own mixture does not change
            mixture.find = Staged(mixture.find)
        return found

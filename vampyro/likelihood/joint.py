"""log p(x, z) of a model, for many z of one x at once."""

from collections.abc import Callable
from typing import Any

from pyro import poutine
from torch import Tensor

from vampyro.distributions import Mixture
from vampyro.programs.checks import check_event, check_latents, check_support
from vampyro.programs.compile import Staged
from vampyro.programs.layout import Layout, check_own, log_density, trace_samples
from vampyro.programs.traces import sample_sites, to_precise


class Joint:
    """(x, {name: z}) → log p(x, z): networks in float32, densities of latents in float64.

    Args:
        model: a Pyro program over a batch of images, inside `constant_parts`.
        compiled: compile the networks and their distributions, in one graph, for the shapes of the first call. For a
            mixture that screens its components only the screening is compiled, since the rest depends on its result.
        layout: the batch dimensions of the model.
        masked: False adds log p(z) of latents also where the model masks them.

    forward: x (batch, …), each z (samples, batch, *event) → (samples, batch) float64, nats.

    Raises:
        ValueError: if the model has another set of latent sites.
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
        """Sum log p of all sites except the mixtures."""
        values = dict(zip(self.names, tensors))
        trace = self.trace(x, values)
        for name, value in values.items():
            trace.nodes[name]["value"] = to_precise(trace.nodes[name]["fn"], value)
        return log_density(trace, self.layout, without=self.mixtures, unmasked=() if self.masked else values)

    def log_likelihood(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """log p(x | z), (samples, batch) float64: every site that is not a latent, with the program's masks."""
        log_prob = log_density(self.trace(x, values), self.layout, without=values)
        return log_prob.expand(len(next(iter(values.values()))), len(x))

    def check(self, x: Tensor, values: dict[str, Tensor]) -> None:
        """Raise a ValueError if an image is outside the support of the model."""
        check_support(sample_sites(self.trace(x, {name: value[:1] for name, value in values.items()})), values)

    def trace(self, x: Tensor, values: dict[str, Tensor]) -> poutine.Trace:
        """Run the model on x with these latents."""
        size = len(next(iter(values.values()))) if values else 1
        trace = trace_samples(poutine.condition(self.model, data=values), size, x, layout=self.layout)
        sites = sample_sites(trace)
        latents = {name: site for name, site in sites.items() if name in values}
        check_latents([*trace.stochastic_nodes, *latents], values)
        for site in latents.values():
            check_event(site)
        check_own(sites, len(x), self.layout, size)
        return trace

    def constant_mixtures(self, x: Tensor, values: dict[str, Tensor]) -> dict[str, Any]:
        """Return the mixtures without a mask that do not depend on x or z: a second run gives the same components."""
        one, again = (sample_sites(self.trace(x, {n: v[:1] for n, v in values.items()})) for _ in range(2))
        priors = {name: one[name]["fn"] for name in values}
        found = {name: p.with_batch_shape(()) for name, p in priors.items() if isinstance(p, Mixture) and p.refines}
        found = {name: fn for name, fn in found.items() if one[name]["mask"] is None}
        found = {name: fn for name, fn in found.items() if again[name]["fn"].components is fn.components}
        for mixture in found.values():  # copies, so the prior's own mixture does not change
            mixture.find = Staged(mixture.find)
        return found

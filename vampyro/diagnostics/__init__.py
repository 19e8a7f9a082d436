"""The ELBO decomposed, and which latents, components and networks it depends on."""

from vampyro.diagnostics.active_units import ActiveUnits, active_units
from vampyro.diagnostics.component_use import ComponentUse, code_use, component_use
from vampyro.diagnostics.decomposition import Decomposition, decompose, rate_distortion
from vampyro.diagnostics.gaps import Gaps, gaps
from vampyro.diagnostics.local_guide import LocalGuide
from vampyro.diagnostics.surgery import Surgery, surgery, top_level

__all__ = [
    "ActiveUnits",
    "ComponentUse",
    "Decomposition",
    "Gaps",
    "LocalGuide",
    "Surgery",
    "active_units",
    "code_use",
    "component_use",
    "decompose",
    "gaps",
    "rate_distortion",
    "surgery",
    "top_level",
]

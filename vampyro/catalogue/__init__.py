"""Names of parts, and how programs are built from them."""

from vampyro.catalogue.parts import Part, known

__all__ = ["Part", "known"]

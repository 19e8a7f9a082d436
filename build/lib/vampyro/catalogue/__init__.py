"""Names of parts, and how programs are built from them."""

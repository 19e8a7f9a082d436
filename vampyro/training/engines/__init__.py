"""Engines: different implementations of the same training step."""

"""Measures of a finished run, and the HTML report of them."""

"""The one error of data sets."""


class DataError(ValueError):
    """Data that cannot be used: what was given, what was expected, and what to do about it."""

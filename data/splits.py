"""The three parts of a data set, in the order in which they are counted and shown."""

SPLITS = ("train", "valid", "test")

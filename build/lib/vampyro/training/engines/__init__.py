"""One training step, by engines that compute the same."""

"""Many runs: the grid of settings, the runner, tables, pages and published experiments."""

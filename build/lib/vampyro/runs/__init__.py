"""A training run: its settings, its folder, training and scoring."""

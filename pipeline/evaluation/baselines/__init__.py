"""Baselines: what other predictors reach on the same test clips, without agents."""

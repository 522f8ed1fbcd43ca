"""Clips and their features: video, cache, interchange, datasets, simulation."""

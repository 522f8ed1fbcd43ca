"""TODO"""

from data.datasets import physics101, restitution

__all__ = ["physics101", "restitution"]

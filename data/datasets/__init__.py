"""TODO"""

from data.datasets import physics101

__all__ = ["physics101"]

"""TODO"""

from pipeline.cli.main import main
from pipeline.cli.options import share_the_cores

__all__ = ["main", "share_the_cores"]

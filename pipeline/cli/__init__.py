"""The command line: one file per command, which holds only its words."""

from pipeline.cli.main import main
from pipeline.cli.options import share_the_cores

__all__ = ["main", "share_the_cores"]

"""The command `heliograph`, which is also `python -m heliograph`."""

import sys
from pathlib import Path

from heliograph.preconditions import ROOT, obstacle


def main() -> None:
    """Run the command line, or end with a sentence where Heliograph cannot be imported."""
    if reason := obstacle():
        sys.exit(f"Error: {reason}")
    from pipeline.cli import main as command

    command()


if __name__ == "__main__":
    # `python -m` searches the user's folder first, which the command does not do
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != ROOT:
        del sys.path[0]
    main()

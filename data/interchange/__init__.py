"""TODO"""

from data.interchange.formats import InterchangeError, export, import_pt, numbered, write_pt
from data.interchange.safe_pt import read_pt

__all__ = ["InterchangeError", "export", "import_pt", "numbered", "read_pt", "write_pt"]

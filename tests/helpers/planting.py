"""What somebody else may have put where a file is to be written."""

import os
import socket
from pathlib import Path

OWN = "a user's own"


def plant(path: Path, kind: str, victim: Path) -> None:
    """Put something else than a file of its own at `path`.

    `kind` is "link", "dangling link", "FIFO", "socket", "hard link" or "folder". `victim` is the
    file that links lead to; that of a dangling link is called "new" beside it, and is not there.
    """
    victim.write_text(OWN)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.with_name("new"))
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.close()
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "folder":
        path.mkdir()
    else:
        raise ValueError(kind)

"""The process of a device: `python -m pipeline.extraction.device_process`.

It is a `data.processes.Child` with an `Extractor`, and does what `hosts.DeviceProcess` asks for,
one thing after the other.
"""

from __future__ import annotations

import pickle
import traceback
from multiprocessing.connection import Connection

from data.errors import HeliographError
from data.processes import parent
from pipeline.extraction.extractor import Extractor


def serve(connection: Connection) -> None:
    """Answer until the connection closes."""
    load, settings, cores, where = pickle.loads(connection.recv_bytes())
    extractor = Extractor(load, settings, cores=cores, where=where)
    while True:
        try:
            method, arguments, options = connection.recv()
        except EOFError:
            return
        try:
            answer = getattr(extractor, method)(*arguments, **options)
        except HeliographError as error:  # made portable by the extractor
            answer = error
        except Exception:  # its class may be unknown there
            answer = RuntimeError(traceback.format_exc())
        connection.send(answer)


if __name__ == "__main__":
    serve(parent())

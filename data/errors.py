"""The exception that all parts raise for a user's mistake or a bad file."""


class HeliographError(Exception):
    """A failure that the user can fix; its message is one sentence with file and reason."""


class InvalidValueError(HeliographError):
    """A value that the user typed is wrong in itself; the command then exits with 2."""


class StoppedError(HeliographError):
    """Ctrl-C ended it; the message says how to go on, and the command exits with 130."""


class OutOfMemoryError(HeliographError):
    """The memory of a GPU, or of the machine, is too small for what was asked."""

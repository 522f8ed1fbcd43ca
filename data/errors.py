"""The exception that all parts raise for a user's mistake or a bad file."""

BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a file that holds something else raises."""


class HeliographError(Exception):
    """A failure that the user can fix; its message is one sentence with file and reason."""


class InvalidValueError(HeliographError):
    """A value that the user typed is wrong in itself; the command then exits with 2."""


class StoppedError(HeliographError):
    """Ctrl-C ended it; the message says how to go on, and the command exits with 130."""


class OutOfMemoryError(HeliographError):
    """The memory of a GPU, or of the machine, is too small for what was asked."""


def reason_of(error: Exception) -> str:
    """Return what is wrong with a file, in words, of the exception that reading it raised."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).partition("\n")[0] or type(error).__name__

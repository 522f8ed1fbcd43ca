"""The one exception that every part raises for a user's mistake or a bad file."""


class HeliographError(Exception):
    """A failure that the user can act on; its message is one sentence with file and reason."""


class InvalidValueError(HeliographError):
    """A value that the user typed is wrong in itself; the command then exits with 2."""

"""The one exception that every part raises for a user's mistake or a bad file."""


class HeliographError(Exception):
    """A failure that the user can act on; its message is one sentence with file and reason."""

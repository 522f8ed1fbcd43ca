"""The error of this package."""


class BackboneError(Exception):
    """A failure that the user can act on; its message is one sentence with the reason."""

"""The errors of this package."""


class BackboneError(Exception):
    """A failure that the user can act on; its message is one sentence with the reason."""


class BackboneValueError(BackboneError):
    """A name or value that is wrong in itself: a model, device or precision that does not exist."""

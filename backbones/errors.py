"""The errors of this package."""

from data.errors import HeliographError, InvalidValueError


class BackboneError(HeliographError):
    """A failure that the user can act on; its message is one sentence with the reason."""


class BackboneValueError(BackboneError, InvalidValueError):
    """A name or value that is wrong in itself: a model, device or precision that does not exist."""

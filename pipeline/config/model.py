"""Base classes of settings: immutable, strict about types, and refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from data.errors import InvalidValueError
from data.wording import meant


class StrictModel(BaseModel):
    """A table of settings whose keys and types must be exactly right.

    Types are strict: no text counts as a number, no yes or no as an integer. An integer is a float
    too. Infinity and NaN are refused.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class SettingsModel(StrictModel):
    """Settings that are checked whenever they are made, and raise InvalidValueError."""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_sentence(cls, values: Any, handler: Any) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise InvalidValueError(sentence(error.errors()[0], cls.model_fields)) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with these settings changed, all of them checked again."""
        return type(self)(**dict(self) | changes)

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        return self.model_dump(mode="json")


def setting(default: Any, group: str, text: str, **bounds: float) -> Any:
    """Return a field that is an option of `heliograph train`, a key of recipes and of --sweep.

    Args:
        default: its value unless one is given.
        group: heading of the option in the help of the command.
        text: what the help says.
        bounds: `ge`, `gt`, `le` or `lt`, as in `pydantic.Field`.
    """
    return Field(default, description=text, json_schema_extra={"group": group}, **bounds)  # type: ignore[call-overload]


def setting_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model that were made by `setting`, by name."""
    return {name: field for name, field in model.model_fields.items() if group_of(field)}


def group_of(field: FieldInfo) -> str:
    """Return the heading of a field that was made by `setting`, else ""."""
    extra = field.json_schema_extra
    return str(extra.get("group", "")) if isinstance(extra, Mapping) else ""


def parse_setting(name: str, field: FieldInfo, text: str) -> Any:
    """Return the value of a setting that was typed as text.

    Raises:
        InvalidValueError: the text is no such value, or outside its bounds.
    """
    adapter = TypeAdapter[Any](field.rebuild_annotation(), config=ConfigDict(allow_inf_nan=False))
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        details = error.errors()[0]
        details["loc"] = (name,)
        raise InvalidValueError(sentence(details, {})) from None


def sentence(details: ErrorDetails, known: Mapping[str, Any]) -> str:
    """Return one error of pydantic as a plain sentence.

    Args:
        details: the error; the last part of its location is the name of the setting.
        known: names of the settings that there are, for one that is unknown.
    """
    name = next((part for part in reversed(details["loc"]) if isinstance(part, str)), "a setting")
    value, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "greater_than_equal":
            return f"{name} must be at least {context['ge']:g}, got {value}"
        case "greater_than":
            return f"{name} must be above {context['gt']:g}, got {value}"
        case "less_than_equal":
            return f"{name} must be at most {context['le']:g}, got {value}"
        case "less_than":
            return f"{name} must be below {context['lt']:g}, got {value}"
        case "finite_number":
            return f"{name} must be finite, got {value}"
        case "literal_error":
            choices = str(context["expected"]).replace("'", "").replace(" or ", ", ")
            few = "choose one of" if "," in choices else "the only one is"
            return f"no {name} {value!r}: {few} {choices}"
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            settings = f"the settings are {', '.join(known)}"
            return f"no setting {name!r}: {meant(name, known, settings)}"
    return f"{name} cannot be {value!r}"

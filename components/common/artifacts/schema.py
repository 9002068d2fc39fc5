"""Frozen dataclasses as JSON: every value is checked against its annotation when it is read.

What holds for each JSON file that a step leaves for another:

- `format` tells its form; without it, it has format 1. A file of a newer format is refused, with a sentence that says
  so. A field more, which old readers may ignore, is no new format; a field that changes its meaning or goes, is one.
- Fields that a reader does not know, it ignores.
- A field that has a plain default is not written while it has that value.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..cli import BadInput

FORMAT = 1
"""The newest format that this release reads, and the one that it writes."""

MAX = sys.float_info.max
T = TypeVar("T")


class Misfit(ValueError):
    """A value is not what its field is to hold; the message says which, and what it is."""


def as_json(value: Any) -> Any:
    """A dataclass as JSON holds it, with those in its fields."""
    if is_dataclass(value):
        return {
            field.name: as_json(getattr(value, field.name))
            for field in fields(value)
            if field.default is MISSING or getattr(value, field.name) != field.default
        }
    if isinstance(value, list) and value and is_dataclass(value[0]):
        return [as_json(one) for one in value]
    return value


def parse(kind: type[T], content: str | bytes, where: object, refused: Callable[[str], BadInput]) -> T:
    """Read a dataclass from JSON.

    Args:
        kind: The dataclass.
        content: The JSON.
        where: File or folder that it is from, for messages.
        refused: Makes the error for content that is no such thing, of what is wrong with it.

    Raises:
        BadInput: the content is of a newer format, or refused.
    """
    try:
        told = json.loads(content)
        if isinstance(told, dict) and (written := from_json(int, told.get("format", FORMAT), "format")) > FORMAT:
            raise BadInput(
                f"{where}: expected format {FORMAT} or older, received format {written}; use the newer release of "
                "Trainyard that wrote it"
            )
        read: T = from_json(kind, told)
    except Misfit as error:
        raise refused(str(error)) from None
    except (ValueError, RecursionError):
        raise refused("it is no JSON") from None
    return read


def from_json(kind: Any, value: Any, name: str = "") -> Any:
    """A value as its annotation has it.

    Args:
        kind: A dataclass, `bool`, `int`, `float`, `str`, `Any`, `list[...]`, `tuple[...]` of fixed length,
            `dict[str, Any]`, or one of them `| None`.
        value: As JSON gives it.
        name: Its place in the file, for messages.

    Raises:
        Misfit: it is of another kind.
    """
    if is_dataclass(kind):
        return _dataclass(kind, value, name)
    if get_origin(kind) is types.UnionType:
        return None if value is None else from_json(get_args(kind)[0], value, name)
    if get_origin(kind) is list and isinstance(value, list):
        return _list(get_args(kind)[0], value, name)
    if get_origin(kind) is tuple and isinstance(value, list) and len(value) == len(get_args(kind)):
        pairs = zip(get_args(kind), value, strict=True)
        return tuple(from_json(one, part, f"{name}[{index}]") for index, (one, part) in enumerate(pairs))
    if kind is Any or (type(value) in _types(kind) and not (kind is float and abs(value) > MAX and type(value) is int)):
        return value
    raise Misfit(f"{name or 'it'} is {json.dumps(value)[:40]}")


def _dataclass(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise Misfit(f"{name or 'it'} is {json.dumps(value)[:40]}")
    annotations = get_type_hints(kind)
    known = {}
    for field in fields(kind):
        where = f"{name}.{field.name}" if name else field.name
        if field.name in value:
            known[field.name] = from_json(annotations[field.name], value[field.name], where)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Misfit(f"{where} is missing")
    return kind(**known)


def _list(kind: Any, value: list[Any], name: str) -> list[Any]:
    if not is_dataclass(kind) and set(map(type, value)) <= _types(kind):  # as fast as it gets, for long ones
        return value
    return [from_json(kind, one, f"{name}[{index}]") for index, one in enumerate(value)]


def _types(kind: Any) -> set[Any]:
    """The types of JSON's values that fit a plain annotation."""
    return {int, float} if kind is float else {get_origin(kind) or kind}

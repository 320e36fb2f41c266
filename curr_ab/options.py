"""Options as the fields of a frozen dataclass: their help, their types, their checks, their YAML."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Literal


def option(default: Any, help: str, *, execution: bool = False) -> Any:
    """A field with its line in `--help`; one of `execution` may change when a run goes on."""
    return field(default=default, metadata={"help": help, "execution": execution})


def explained(options: type) -> Iterator[tuple[str, Any, str]]:
    """Name, type and explanation of every field."""
    kinds = typing.get_type_hints(options)
    for one in fields(options):
        yield one.name, kinds[one.name], one.metadata["help"]


def check_types(options: Any) -> None:
    """Put every field into its type, or say what is wrong with it."""
    for name, kind in typing.get_type_hints(type(options)).items():
        object.__setattr__(options, name, _checked(name, getattr(options, name), kind))


def check_names(given: Mapping[str, Any], options: type, kind: str, source: str = "") -> None:
    """Refuse what is no option."""
    known = typing.get_type_hints(options)
    if unknown := sorted(map(str, given.keys() - known.keys())):
        where = f"{source}: " if source else ""
        raise ValueError(f"{where}no {kind} has {', '.join(unknown)}; it has {', '.join(known)}")


def differences(mine: Any, theirs: Any) -> list[str]:
    """What would change the result, in words; how a run is carried out may differ."""
    new, old = mine.to_dict(), theirs.to_dict()
    decisive = [one.name for one in fields(mine) if not one.metadata["execution"]]
    return [f"{name} {old[name]!r} → {new[name]!r}" for name in decisive if new[name] != old[name]]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The `name: value` lines of a file."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not isinstance(found.get("config", {}), dict):
        raise ValueError(f"{path} must hold `name: value` lines, and those of `config` indented below it")
    return found


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value in the field's type; YAML reads 1e-4 as text and lists for tuples."""
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _checked(name, value, choices[0])
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_checked(name, item, choices[0]) for item in value)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")
    expected = origin or kind
    if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is {value!r}; it must be of type {getattr(kind, '__name__', kind)}")
    return value

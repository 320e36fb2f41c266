"""Options as the fields of a frozen dataclass: their flags and help, types, checks, and YAML."""

from __future__ import annotations

import argparse
import difflib
import math
import operator
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from curr_ab.quantities import parse_quantity

T = TypeVar("T")

_PHRASES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
_MOST_YAML = 1 << 18  # letters, of which PyYAML reads some 100,000 a second
_LIMITS = {
    "above": ("above", operator.gt),
    "least": ("at least", operator.ge),
    "below": ("below", operator.lt),
    "most": ("at most", operator.le),
}


class OptionError(ValueError):
    """A refused value: the message names the `fields`, and the command line adds their flags.

    `ready` are values of options with which the same command would run; a switch has the value "".
    """

    def __init__(self, message: str, *fields: str, ready: Mapping[str, str] | None = None) -> None:
        super().__init__(message, *fields)  # all of it, because errors travel between processes by their args
        self.ready = dict(ready or {})

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def fields(self) -> tuple[str, ...]:
        return self.args[1:]


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    shown: str = "",
    flag: str = "",
    metavar: str = "",
    execution: bool = False,
    **limits: float,
) -> Any:
    """A field with its line in `--help`; one of `execution` may change when a run goes on.

    `shown` are words for a default that does not explain itself; `flag` is the flag's name where it is not
    the field's; `limits` are `above`, `least`, `below` and `most`.
    """
    about = {"help": help, "shown": shown, "flag": flag, "metavar": metavar, "execution": execution}
    mutable = {"default_factory": lambda: default} if isinstance(default, dict) else {"default": default}
    return field(**mutable, metadata={**about, "limits": limits})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of dataclasses that are nothing but options."""

    def __post_init__(self) -> None:
        check_types(self)


def add_flags(parser: Any, options: type, *, leave_out: Iterable[str] = ()) -> None:
    """A flag for every option of the dataclass, and of dataclasses in it."""
    flags = parser._defaults.setdefault("flags", {})  # a parsed command knows its flags, for errors
    for name, one, kind in _options(options):
        if name in leave_out:
            continue
        if is_dataclass(kind):
            add_flags(parser, typing.cast(type, kind), leave_out=leave_out)
            continue
        called = one.metadata["flag"] or name
        flags[name] = flags[called] = "--" + called.replace("_", "-")
        _add_flag(parser, flags[name], one, kind)


def read_flags(args: argparse.Namespace, options: type) -> dict[str, Any]:
    """Values given on the command line, in the types of the fields; all else is left to the defaults."""
    given: dict[str, Any] = {}
    for name, _, kind in _options(options):
        if is_dataclass(kind):
            given[name] = read_options(args, typing.cast(type, kind))
        elif hasattr(args, name):
            given[name] = _parsed(name, getattr(args, name), kind)
    return given


def read_options(args: argparse.Namespace, options: type[T]) -> T:
    """The dataclass with what was given on the command line."""
    return options(**read_flags(args, options))


def read_settings(settings: Iterable[str], options: type, kind: str) -> dict[str, Any]:
    """`KEY=VALUE` texts in the types of the fields."""
    pairs = (split_setting(text) for text in settings)
    return {name: read_setting(name, value, options, kind) for name, value in pairs}


def split_setting(text: str, example: str = "KEY=VALUE", field: str = "set") -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise OptionError(f"{field} must be {example}; got {text!r}", field)
    return key, value


def read_setting(name: str, text: str, options: type, kind: str) -> Any:
    """One value in the type of its field; lists and mappings are written as in YAML."""
    check_names([name], options, kind)
    wanted = typing.get_type_hints(options)[name]
    bare = _without_none(wanted)
    if typing.get_origin(bare) is tuple or _is_mapping(bare):
        return parse_yaml(text, name)
    return _parsed(name, text, wanted)


def read_plain(text: str, name: str) -> Any:
    """A number, or what the text means in YAML, which would read 1e-4 as text."""
    return float(text) if _is_float(text) and not text.isdigit() else parse_yaml(text, name)


def check_types(options: Any) -> None:
    """Put every field into its type and check its limits, or say what is wrong with it."""
    kinds = typing.get_type_hints(type(options))
    for one in fields(options):
        value = _checked(one.name, getattr(options, one.name), kinds[one.name])
        object.__setattr__(options, one.name, value)
        limits = one.metadata.get("limits", {})
        if isinstance(value, int | float) and not all(
            _LIMITS[a][1](value, float(b)) for a, b in limits.items()
        ):
            wanted = " and ".join(f"{_LIMITS[a][0]} {b}" for a, b in limits.items())
            raise OptionError(f"{one.name} must be {wanted}; got {value}", one.name)


def check_names(given: Iterable[Any], options: type, kind: str, source: str = "") -> None:
    """Refuse a name that is not an option, with the nearest one."""
    known = [one.name for one in fields(options)]
    for name in map(str, given):
        if name not in known:
            raise ValueError(f"{source}: " * bool(source) + unknown(f"{kind} option", name, known))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence about a name that does not exist: the nearest one, else all."""
    known = list(known)
    nearest = difflib.get_close_matches(name[:100], known, 1)
    advice = f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(known)}"
    return f"unknown {what} {name!r}; {advice}"


def differences(mine: Any, theirs: Any) -> list[str]:
    """Changes that would change the result, in words; how a run is carried out may differ."""
    new, old = mine.to_dict(), theirs.to_dict()
    decisive = [one.name for one in fields(mine) if not one.metadata["execution"]]
    return [f"{name} {old[name]!r} → {new[name]!r}" for name in decisive if new[name] != old[name]]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The `name: value` lines of a file."""
    content = parse_yaml(Path(path).read_text(encoding="utf-8"), str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold `name: value` lines")
    return content


def parse_yaml(text: str, source: str) -> Any:
    """What YAML means; without tags, and without references, of which a few lines can make any length."""
    import yaml

    if len(text) > _MOST_YAML:
        raise ValueError(f"{source} must be at most {_MOST_YAML:,} letters of YAML; got {len(text):,}")

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("references (*name) are not read; write the values out")
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Plain)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{source} must be YAML; {' '.join(str(error).split())}") from error


def shown_default(one: Any) -> str:
    """A default as `--help` prints it."""
    if one.metadata["shown"]:
        return str(one.metadata["shown"])
    value = _default(one)
    if value in (None, "", ()) or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def departures(options: Any) -> set[str]:
    """Names of the options that have another value than their default."""
    return {one.name for one in fields(options) if getattr(options, one.name) != _default(one)}


def flag_words(options: Any) -> list[str]:
    """The words of a command line that say what has another value than its default."""
    words = []
    for one in fields(options):
        value = getattr(options, one.name)
        if not one.metadata.get("help") or value == _default(one):
            continue
        flag = (one.metadata["flag"] or one.name).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, Mapping):
            words += [f"--{flag}", *(f"{key}={item}" for key, item in value.items())]
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def _default(one: Any) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _options(options: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, field and type of every field with a flag, and of dataclasses among the fields."""
    kinds = typing.get_type_hints(options)
    for one in fields(options):
        if one.metadata.get("help") or is_dataclass(kinds[one.name]):
            yield one.name, one, kinds[one.name]


def _add_flag(parser: Any, flag: str, one: Any, kind: Any) -> None:
    required = one.default is MISSING and one.default_factory is MISSING
    note = "required" if required else f"default: {shown_default(one)}"
    help = f"{one.metadata['help']} ({note})".replace("%", "%%")
    about = {"dest": one.name, "default": argparse.SUPPRESS, "required": required, "help": help}
    kind = _without_none(kind)
    if kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **about)
        return
    several = typing.get_origin(kind) is tuple or _is_mapping(kind)
    each = typing.get_args(kind)[0] if several else kind
    choices = typing.get_args(each) if typing.get_origin(each) is Literal else ()
    metavar = one.metadata["metavar"] or ("KEY=VALUE" if _is_mapping(kind) else _METAVARS.get(each, "NUMBER"))
    if several:  # `--labels` alone is the empty list
        about |= {"nargs": "+" if required else "*", "action": "extend"}
    action = parser.add_argument(flag, metavar="{" + ",".join(choices) + "}" if choices else metavar, **about)
    action.choices = choices or None  # for completion


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return kind
    rest = [one for one in typing.get_args(kind) if one is not types.NoneType]
    return rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007


def _is_mapping(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _parsed(name: str, given: Any, kind: Any) -> Any:
    """The meaning of words of the command line for a field of this type; `none` is None where it may be."""
    bare = _without_none(kind)
    if isinstance(given, bool) or bare is str:
        return given
    if _is_mapping(bare):
        each = typing.get_args(bare)[1]
        pairs = [split_setting(word, field=name) for word in given]
        if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
            raise OptionError(f"{name} must give {twice[0]} once; got it more often", name)
        return {key: _parsed(name, value, each) for key, value in pairs}
    if typing.get_origin(bare) is tuple:
        return tuple(_parsed(name, word, typing.get_args(bare)[0]) for word in given)
    if bare is not kind and given == "none":
        return None
    if bare is bool and given in ("yes", "no", "true", "false"):
        return given in ("yes", "true")
    if bare is Any:
        return read_plain(given, name)
    return _number(name, given, bare) if bare in (int, float, int | float) else given


def _number(name: str, text: str, kind: Any) -> int | float:
    """5000, 5_000, 5,000, 5K and 5e3 are the same whole number."""
    with suppress(ValueError):
        return float(int(text)) if kind is float else int(text)
    with suppress(ValueError):
        value = float(text) if _is_float(text) else parse_quantity(text)
        if kind is float or (kind is not int and "." in text):
            return value
        if value.is_integer():
            return int(value)
    raise OptionError(f"{name} must be {_PHRASES.get(kind, 'a number')}; got {text!r}", name)


def _is_float(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value in the field's type; YAML reads 1e-4 as text and lists for tuples."""
    bare = _without_none(kind)
    origin, choices = typing.get_origin(bare), typing.get_args(bare)
    if (bare is not kind and value is None) or bare is Any:
        return value
    if origin is Literal:
        if value not in choices:
            nearest = difflib.get_close_matches(str(value)[:100], choices, 1)
            advice = f"; did you mean {nearest[0]}?" if nearest else ""
            raise OptionError(f"{name} must be one of {', '.join(choices)}; got {value!r}{advice}", name)
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_checked(name, item, choices[0]) for item in value) if ... in choices else tuple(value)
    if _is_mapping(bare) and isinstance(value, Mapping):
        return value
    if bare is Path and isinstance(value, str):
        return Path(value)
    if bare is float and isinstance(value, int | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionError(f"{name} must be a finite number; got {value}", name)
    if isinstance(value, int) and value.bit_length() > 63:
        raise OptionError(f"{name} must be a number of 63 bits; got one of {value.bit_length():,}", name)
    expected = choices if origin in (types.UnionType, typing.Union) else origin or bare
    if not isinstance(value, expected) or (isinstance(value, bool) and bare is not bool):
        other = "a list" if origin is tuple else "`name: value` lines" if _is_mapping(bare) else "a number"
        raise OptionError(f"{name} must be {_PHRASES.get(bare, other)}; got {value!r}", name)
    return value

"""Pages and cards from templates: one Jinja environment, whose HTML escapes every value that is put in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from curr_ab.quantities import format_setting

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Fill in a template of the package, named by its path such as `hub/card.md`.

    Values are escaped in HTML unless they are markup. Markdown takes them as they are: a template puts what
    a user may have written through the filter `field` (into a table), `code` or `words`.
    """
    return _environment().get_template(template).render(**values)


def render_page(template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **values: Any) -> str:
    """Fill in a page that extends `pages.html`.

    The page holds all that it needs. Its content security policy names the digests of its one style sheet
    and of its scripts; it runs no other script and loads nothing.
    """
    from markupsafe import Markup

    shared = (packaged_text("pages.js"), *scripts)
    style = Markup(packaged_text("pages.css") + "".join(styles))
    return render(template, style=style, scripts=[Markup(text) for text in shared], **values)


@cache
def packaged_text(name: str) -> str:
    """The text of a file of the package, named by its path."""
    return (files("curr_ab") / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    # Imported here: the command line and the workers of the data import this file's neighbours without it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(packaged_text),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,  # a name that nobody gave is an error, not an empty word
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": code,
        "digest": digest,
        "field": field,
        "setting": format_setting,
        "words": words,
    }
    return environment


def digest(text: str) -> str:
    """The source expression of a content security policy that allows this very text."""
    return f"sha256-{b64encode(sha256(str(text).encode()).digest()).decode()}"


def field(value: object) -> str:
    """A value as one field of a Markdown table, which it can neither end nor leave."""
    return " ".join(str(value).split()).replace("|", "\\|")


def code(value: object) -> str:
    """Text between backticks, in one line and without any of its own."""
    return " ".join(str(value).split()).replace("`", "'")


def words(value: object) -> str:
    """Text that Markdown shows as it stands."""
    one_line = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]|<>" else letter for letter in one_line)

"""Extension of the API pages: a table of the fields of dataclasses and named tuples."""

import ast
import importlib
import re
from typing import Any

import griffe

RECORDS = {"dataclass", "NamedTuple"}


class Fields(griffe.Extension):
    """Shows an option as its default in signatures, and its help or comment in a table of its class."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        value = getattr(node, "value", None)
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "option":
            defaults = value.args[:1] + [word.value for word in value.keywords if word.arg == "default"]
            attr.value = ast.unparse(defaults[0]) if defaults else None
            attr.labels.add("option")

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        kinds = {str(base) for base in cls.bases}
        kinds |= {str(one.callable_path).rpartition(".")[-1] for one in cls.decorators}
        if not kinds & RECORDS:
            return
        public = [one for one in cls.members.values() if one.is_attribute and one.is_public]
        fields = [one for one in public if one.annotation and "property" not in one.labels]
        lines = [f"    {one.name} ({one.annotation}): {about(one)}" for one in fields]
        if lines:
            text = cls.docstring.value if cls.docstring else ""
            value = f"{text}\n\nAttributes:\n" + "\n".join(lines)
            cls.docstring = griffe.Docstring(value, parent=cls, parser="google")


def about(field: griffe.Attribute) -> str:
    """The help of an option, or the comment behind a field."""
    if "option" in field.labels and field.parent:
        options = getattr(importlib.import_module(field.parent.module.path), field.parent.name)
        return str(options.__dataclass_fields__[field.name].metadata["help"]).replace("<", "&lt;")
    comment = re.search(r"#\s*(.*)", field.source.splitlines()[-1])
    return comment[1] if comment else ""

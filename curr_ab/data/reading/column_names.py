"""Columns that the caller names, as options. Apart from the aliases, because the schema loads pyarrow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curr_ab.options import option

Chains = Literal["paired", "unpaired"]


@dataclass(frozen=True)
class ColumnNames:
    """Columns that the caller names; they win over the aliases, and one that is absent is an error."""

    heavy: str | None = option(
        None,
        "Column of the heavy chain",
        shown="recognised by its name",
        flag="heavy_column",
        metavar="NAME",
    )
    light: str | None = option(
        None,
        "Column of the light chain",
        shown="recognised by its name",
        flag="light_column",
        metavar="NAME",
    )
    id: str | None = option(
        None, "Column of the pair's name", shown="recognised by its name", flag="id_column", metavar="NAME"
    )
    extra: tuple[str, ...] = ()

    def named(self) -> dict[str, str]:
        pairs = {"heavy": self.heavy, "light": self.light, "id": self.id}
        return {name: column for name, column in pairs.items() if column is not None}

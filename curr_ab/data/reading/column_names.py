"""Columns that the caller names, as options. Apart from the aliases, because the schema loads pyarrow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from curr_ab.options import option

Chains = Literal["paired", "unpaired"]


def _column(help: str, flag: str) -> Any:
    return option(None, help, shown="recognised by its name", flag=flag, metavar="NAME")


@dataclass(frozen=True)
class ColumnNames:
    """Columns that the caller names; they win over the aliases, and one that is absent is an error."""

    heavy: str | None = _column("Column of the heavy chain", "heavy_column")
    light: str | None = _column("Column of the light chain", "light_column")
    id: str | None = _column("Column of the pair's name", "id_column")
    extra: tuple[str, ...] = ()
    sheet: str | None = option(
        None, "Sheet of a workbook", shown="the one that holds sequences", flag="sheet", metavar="NAME"
    )

    def named(self) -> dict[str, str]:
        pairs = {"heavy": self.heavy, "light": self.light, "id": self.id}
        return {name: column for name, column in pairs.items() if column is not None}

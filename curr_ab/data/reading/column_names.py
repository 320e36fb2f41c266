"""Columns and rules of reading that the caller gives, as options. Aliases are apart: they load pyarrow."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from curr_ab.options import OptionError, check_types, option

Chains = Literal["paired", "unpaired"]
RowChains = Literal["paired", "unpaired", "either"]  # either: what each row has, a pair or a single chain
_FIRST_FIELDS = ("heavy", "light", "id", "extra")


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
    sequence: str | None = _column("Column of the chain in a table with one in a row", "sequence_column")
    cell: str | None = _column("Column of the cell in a table with one chain in a row", "cell_column")
    sample: str | None = _column("Column of the sample that a cell is of", "sample_column")
    pair_by: Literal["cell", "clone"] = option(
        "cell", "Chains that are paired in a table with one chain in a row: of a cell, or of a clone"
    )
    several_chains: Literal["drop", "most_umis", "all"] = option(
        "drop",
        "A cell with several heavy or light chains is dropped, keeps the chain of each kind with the most "
        "UMIs (most_umis), or gives every combination (all)",
    )

    def __post_init__(self) -> None:
        check_types(self)
        named = self.named()
        repeated = [column for column, count in Counter(named.values()).items() if count > 1]
        if repeated:
            flags = [f"{name}_column" for name, column in named.items() if column == repeated[0]]
            raise OptionError(
                f"a column must be named once; {repeated[0]!r} is named as {' and as '.join(flags)}; "
                "name another for one of them",
                *flags,
            )
        if self.sequence is not None and {"heavy", "light"} & named.keys():
            raise OptionError(
                "sequence_column must be named without heavy_column and light_column: a table has either one "
                "chain or both in a row",
                *("sequence_column", "heavy_column", "light_column"),
            )

    def named(self) -> dict[str, str]:
        names = ("heavy", "light", "id", "sequence", "cell", "sample")
        return {name: column for name in names if (column := getattr(self, name)) is not None}

    def settings(self) -> dict[str, Any]:
        """As JSON holds them. What came later is written only where it is not the default, so that data
        prepared before have the same settings and fingerprint."""
        defaults = {field.name: field.default for field in fields(self)}
        values = asdict(self)
        return {
            name: value for name, value in values.items() if name in _FIRST_FIELDS or value != defaults[name]
        }

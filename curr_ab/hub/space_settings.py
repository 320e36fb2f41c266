"""Settings of a Space on the Hub; apart from what publishes it, for the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from curr_ab.options import OptionError, Options, option, split_setting

_TOKEN = re.compile(r"hf_\w{6,}")


@dataclass(frozen=True, kw_only=True)
class SpaceSettings(Options):
    """The app of a Space, its machine, and how long to wait for it."""

    hardware: str = option(
        "cpu-basic", "Machine of a Space; any but cpu-basic and zero-a10g costs by the hour", metavar="NAME"
    )
    variables: tuple[str, ...] = option(
        (), "Variables of a Space, which everybody can read", flag="variable", metavar="KEY=VALUE"
    )
    reference_pairs: int = option(
        100, "Number of pairs of the built-in corpus that a Space's percentiles are among", least=1, most=944
    )
    wait_minutes: float = option(20.0, "Minutes to wait until a Space runs; 0 does not wait", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.variables:
            key, value = split_setting(text, field="variables")
            if _TOKEN.search(value):
                message = f"variables must hold no token, as everybody can read them; {key} holds one"
                raise OptionError(f"{message}; make it a secret in the settings of the Space", "variables")

    def named_variables(self) -> dict[str, str]:
        """The values by key."""
        return dict(split_setting(text, field="variables") for text in self.variables)

"""Settings of a Space on the Hub; apart from what publishes it, for the command line."""

from __future__ import annotations

from dataclasses import dataclass

from curr_ab.options import OptionError, Options, option, split_setting
from curr_ab.space.settings import MOST_REFERENCE_PAIRS, NUM_REFERENCE_PAIRS

_SECRET_KEYS = ("TOKEN", "SECRET", "PASSWORD", "KEY")  # ends of the names that secrets have
CHEAPEST = "cpu-basic"


@dataclass(frozen=True, kw_only=True)
class SpaceSettings(Options):
    """The app of a Space, its machine, and how long to wait for it."""

    hardware: str | None = option(
        None,
        f"Machine of a Space; any but {CHEAPEST} and zero-a10g costs by the hour",
        shown=f"as now; {CHEAPEST} for a new one",
        metavar="NAME",
    )
    variables: tuple[str, ...] = option(
        (), "Variables of a Space, which everybody can read", flag="variable", metavar="KEY=VALUE"
    )
    reference_pairs: int = option(
        NUM_REFERENCE_PAIRS,
        "Number of pairs of the built-in corpus that a Space's percentiles are among",
        least=1,
        most=MOST_REFERENCE_PAIRS,
    )
    wait_minutes: float = option(20.0, "Minutes to wait until a Space runs; 0 does not wait", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hardware is not None:
            from huggingface_hub import SpaceHardware

            if self.hardware not in (known := [one.value for one in SpaceHardware]):
                message = f"hardware must be one of {', '.join(known)}; got {self.hardware!r}"
                raise OptionError(message, "hardware")
        for text in self.variables:
            from curr_ab.reach import TOKEN

            key, value = split_setting(text, field="variables")
            if TOKEN.search(value) or key.upper().endswith(_SECRET_KEYS):
                message = f"variables must hold no token, as everybody can read them; {key} holds one"
                if not TOKEN.search(value):
                    message = f"variables must hold no secret, as everybody can read them; {key} is named so"
                raise OptionError(f"{message}; make it a secret in the settings of the Space", "variables")

    def named_variables(self) -> dict[str, str]:
        """The values by key."""
        return dict(split_setting(text, field="variables") for text in self.variables)

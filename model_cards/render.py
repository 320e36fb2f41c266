"""Render the 15 cards into this folder; `--check` only compares and fails where a card is behind its sources.

A card's numbers come from `results/MEMBER.json`, where there is one; curr_ab/results.py writes it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from curr_ab import members
from curr_ab.hub import render_card
from curr_ab.results import read_results

FOLDER = Path(__file__).parent


def cards() -> dict[Path, str]:
    """Every card and its place."""
    rendered = {}
    for member in members():
        results = FOLDER / "results" / f"{member.name}.json"
        measured = read_results(results) if results.is_file() else []
        checkpoints = {row.checkpoint for row in measured}
        if len(checkpoints) > 1:
            raise ValueError(
                f"{results}: the numbers are of {len(checkpoints)} checkpoints; keep those of one"
            )
        rendered[FOLDER / f"{member.name}.md"] = render_card(member, results=measured)
    return rendered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    rendered = cards()
    stale = [path for path, text in rendered.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.name} is behind its sources; run `make cards`", file=sys.stderr)
        else:
            path.write_text(rendered[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""Time of the parametric fit: 4,500 starts, then 1,000 bootstraps from each distinct optimum."""

from __future__ import annotations

import os
import time

from support.simulated_runs import parametric_runs

from curr_ab.scaling import Doubt, Runs, fit_parametric, published_runs
from curr_ab.scaling.doubt import DataColumn


def main() -> None:
    workers = min(2, os.cpu_count() or 1)
    print(f"parametric law: 4,500 starts + 1,000 bootstraps from each distinct optimum, {workers} processes")
    tables: list[tuple[str, Runs, DataColumn]] = [
        (f"{num_runs} simulated runs", parametric_runs(num_runs), "seen_tokens") for num_runs in (15, 60, 250)
    ]
    # The hard case: 15 losses that hardly differ, so that starts creep along valleys.
    tables.append(("the paper's 15 losses", published_runs("test-loss-2025-05"), "sequences"))
    for name, runs, data in tables:
        load = os.getloadavg()[0]
        began = time.perf_counter()
        fit = fit_parametric(runs, Doubt(draws=1000, workers=workers, progress=True), data)
        seconds = time.perf_counter() - began
        verdict = "under" if seconds < 90 else "OVER"
        print(
            f"  {name}: {seconds:.1f} s ({verdict} 90 s), {len(fit.optima)} optima, "
            f"load of the machine before: {load:.1f}"
        )


if __name__ == "__main__":
    main()

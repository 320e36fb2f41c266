"""How long the parametric fit takes: 4,500 starts, then 1,000 bootstraps from each distinct optimum."""

from __future__ import annotations

import os
import time

from scaling.conftest import parametric_runs

from curr_ab.scaling import Doubt, fit_parametric


def main() -> None:
    workers = min(2, os.cpu_count() or 1)
    print(f"parametric law: 4,500 starts + 1,000 bootstraps from each distinct optimum, {workers} processes")
    for num_runs in (15, 60, 250):
        load = os.getloadavg()[0]
        began = time.perf_counter()
        fit = fit_parametric(parametric_runs(num_runs), Doubt(draws=1000, workers=workers, progress=True))
        seconds = time.perf_counter() - began
        verdict = "under" if seconds < 90 else "OVER"
        print(
            f"  {num_runs:>3} runs: {seconds:5.1f} s ({verdict} 90 s), {len(fit.optima)} optima, "
            f"load of the machine before: {load:.1f}"
        )


if __name__ == "__main__":
    main()

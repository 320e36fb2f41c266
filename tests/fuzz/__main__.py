"""`python -m fuzz`: so many inputs over all readers, and a line for each reader of what became of them.

A process that a reader ends leaves the last input, and the seed that it is drawn by, in its folder.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

# The libraries read these variables when they are imported.
for key, value in {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}.items():
    os.environ.setdefault(key, value)


def peak_mib() -> float:
    """The most memory of this process so far; 0 where the system does not tell it."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs (default: 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws (default: 0)")
    parser.add_argument("--reader", nargs="*", help="readers to try (default: all)")
    args = parser.parse_args()
    run = import_module("fuzz.run")
    logging = import_module("transformers.utils.logging")
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    folder, began = Path(mkdtemp(prefix="fuzz-")), time.monotonic()
    print(f"inputs lie in {folder} while they are read", flush=True)
    before, failures, total, longest = peak_mib(), 0, 0, 0.0
    for name, num in run.counts(args.inputs).items():
        if args.reader and name not in args.reader:
            continue
        (folder / name).mkdir()
        # Native code that hangs is ended with a traceback, long after the time that a failure is.
        faulthandler.dump_traceback_later(600 + num, exit=True)
        found = run.try_reader(name, num, args.seed, folder / name)
        faulthandler.cancel_dump_traceback_later()
        total, longest = total + num, max(longest, found.longest_s)
        failures += len(found.failures)
        line = (
            f"{name:<22} {found.read:>7,} read {found.refused:>7,} refused {len(found.failures):>5,} failed"
        )
        print(f"{line}, longest {found.longest_s:.2f} s, peak {peak_mib():,.0f} MiB", flush=True)
        for failure in found.failures[:20]:
            print(f"    {failure}", flush=True)
    took, more = time.monotonic() - began, peak_mib() - before
    print(
        f"{total:,} inputs in {took / 60:.1f} min, {failures:,} failed; longest {longest:.2f} s; "
        f"peak memory {more:,.0f} MiB more than before"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

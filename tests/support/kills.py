"""Commands of several processes, one of which is killed: what they say, and who is left."""

import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

# The package's command line; SETUP stands for what a test changes first.
PROGRAM = "import sys; SETUP; from curr_ab.cli.main import main; sys.exit(main())"


@dataclass
class Ended:
    status: int
    error: str
    left: list[psutil.Process]

    @property
    def message(self):
        """The one line of a command that failed; anything like a traceback is an error."""
        assert "Traceback" not in self.error and "BrokenProcessPool" not in self.error, self.error
        (line,) = [line for line in self.error.splitlines() if line.startswith("curr-ab: ")]
        return line.removeprefix("curr-ab: ")


def curr_ab(*arguments, setup="pass"):
    return [sys.executable, "-c", PROGRAM.replace("SETUP", setup), *map(str, arguments)]


def kill_one(command, victim, num_workers=2, after=0.0):
    """SIGKILL to a worker or to the parent, so many seconds after so many workers run."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        workers = []
        while len(workers) < num_workers:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
            workers = workers_of(process.pid)
        time.sleep(after)
        family = psutil.Process(process.pid).children(recursive=True)
        (workers[0] if victim == "worker" else process).kill()
        _, error = process.communicate(timeout=120)
    _, left = psutil.wait_procs(family, timeout=30)
    ended = Ended(process.returncode, error, left)
    for one in left:
        one.kill()
    return ended


def fail_to_begin(number):
    """Where every worker can import it, which a test's own module is not for each way of starting pytest."""
    raise LookupError(f"no begin in worker {number}")


BEGINNINGS = []


def count_beginnings(number):
    BEGINNINGS.append(number)


def beginnings(task):
    return len(BEGINNINGS)


def workers_of(pid):
    """Spawned processes, and those that a fork server has made."""
    workers = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            spawned = "--multiprocessing-fork" in child.cmdline()
            if spawned or any("forkserver" in word for word in child.parent().cmdline()):
                workers.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, AttributeError):
            pass
    return workers

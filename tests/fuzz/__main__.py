"""`python -m tests.fuzz [COUNT] [SEED]`: COUNT inputs (10,000) over all targets; what is not one message is told."""

import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.targets import ONE_MESSAGE, TARGETS


def fuzz(name: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How many inputs were read or refused, and the tracebacks that a user would have seen."""
    target, _ = TARGETS[name]
    counted: Counter[str] = Counter()
    seen = []
    for i in range(count):
        try:
            target(Random(f"{name} {seed} {i}"), folder)
            counted["read"] += 1
        except ONE_MESSAGE:
            counted["refused"] += 1
        except Exception as error:
            counted["traceback"] += 1
            seen.append(f"{name}, seed {seed}, input {i}: {_told(error)}")
    return counted, seen


def _told(error: Exception) -> str:
    """Where it was raised, in our own files, and what it was."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if ".venv" not in frame.filename and "site-packages" not in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{place} {type(error).__name__} {str(error).splitlines()[0][:80] if str(error) else ''}"


def main() -> int:
    """Every target's share of the inputs."""
    count, seed = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 10_000), (2, 0)))
    total: Counter[str] = Counter()
    for name, (_, share) in TARGETS.items():
        with tempfile.TemporaryDirectory() as folder:
            counted, seen = fuzz(name, round(share * count), seed, Path(folder))
        print(f"{name}: {dict(counted)}", flush=True)
        print("".join(f"  {text}\n" for text in {text.partition(": ")[2]: text for text in seen}.values()), end="")
        total += counted
    print(f"{sum(total.values())} inputs: {dict(total)}")
    return 1 if total["traceback"] else 0


if __name__ == "__main__":
    sys.exit(main())

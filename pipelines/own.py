"""Note the hashes of the task files that are a user's own, so that an edited one is prepared again.

    python -m pipelines.own

Of packages DVC knows what fetch has brought; a file stands in params.yaml alone. This stage runs always, prepare where
a hash is new, and what follows where the texts are.
"""

from __future__ import annotations

from pathlib import Path

from openautoglm.artifact import file_sha256
from pipelines import params
from pipelines.errors import stage
from pipelines.files import write_json
from pipelines.params import paths


def main() -> None:
    """Write data/own.json: file -> hash. One that is missing is not in it: prepare tells."""
    named = [str(task.source["path"]) for task in params.load().tasks.values() if "path" in task.source]
    write_json(paths.own, {name: file_sha256(Path(name)) for name in named if Path(name).is_file()})


if __name__ == "__main__":
    stage(main)

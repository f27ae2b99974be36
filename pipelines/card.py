"""Check a method before anything is trained, and say which code and knobs it is. `python -m pipelines.card ROW`.

The card is a firewall for DVC: it depends on whole folders but is cheap, and it changes only with the sources and
knobs of its own method, so that editing one method runs only that method's cells again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pipelines import caged, methods, params
from pipelines.errors import stage
from pipelines.files import read_json, write_json
from pipelines.params import paths

# What turns every student into artifacts: part of the sources of each method.
SHARED = ("openautoglm.export", "openautoglm.architectures.bert")


def main() -> None:
    """Write runs/cards/<method>.json. A submission's module is imported in the sandbox only."""
    row, settings = sys.argv[1], params.load()
    method, _ = settings.method(row)
    if not caged.needed(method):
        caged.enter()
        write_json(Path(sys.argv[2]) if caged.inside() else paths.card(row), card(row, settings))
        return
    with caged.box() as box:
        made = Path(box) / "card.json"
        caged.stage("card", [row, str(made)], Path(box))
        write_json(paths.card(row), read_json(made))


def card(row: str, settings: params.Params) -> dict[str, Any]:
    """What the later stages need to know of a method, its contract checked and its knobs bound."""
    method, knobs = settings.method(row)
    module = methods.load(method)
    assert module.__doc__
    return {
        "name": row,
        "variant_of": None if row == method else method,
        "caption": module.__doc__.strip().splitlines()[0],
        "paper": module.PAPER,
        "kept": module.KEPT,
        "left_out": module.LEFT_OUT,
        "deployments": settings.deployments_of(row),
        "knobs": methods.bind(module, knobs, row) | {"batch_size": settings.batch_size_of(row)},
        "sources_sha256": methods.sources_sha256([module.__name__, *SHARED]),
    }


if __name__ == "__main__":
    stage(main)

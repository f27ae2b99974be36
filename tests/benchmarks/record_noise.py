"""Record the noise that tests of error rates draw from: `python -m tests.benchmarks.record_noise ARTIFACT TEXTS FILE`.

Times two copies of one artifact against a third, launch after launch, as the pipeline does with params.yaml's settings,
and writes their log ratios. What differs in them differs for no reason. Run it beside what other work you please: the
file says what that was (`--beside`). Again with the same FILE adds launches.
"""

from __future__ import annotations

import argparse
import json
from math import log
from pathlib import Path

from pipelines import params
from pipelines.errors import stage
from pipelines.files import read_json, write_text
from pipelines.instruments import machine
from pipelines.measure import read_texts, time_pairs


def main() -> None:
    """Record, and write beside what was recorded before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("texts", type=Path, help="a text file, one a line")
    parser.add_argument("file", type=Path)
    parser.add_argument("--launches", type=int, default=10)
    parser.add_argument("--beside", default="nothing", help="what else ran on the machine")
    given = parser.parse_args()
    settings = params.load().measurement.model_copy(update={"launches": given.launches})
    launches = time_pairs({"copy": given.artifact}, given.artifact, read_texts(given.texts), settings)["copy"]
    here = machine.fingerprint()
    found = read_json(given.file) if given.file.is_file() else {"about": about(settings.launch_s, settings.slot_s)}
    found.setdefault("launches", []).extend(
        {
            "machine": f"{here.cpu}, {here.cores} cores, {here.virtualization or 'not virtual'}",
            "beside": given.beside,
            "control": ratios(launch.control_reference_ms, launch.control_block_ms),
            "candidate": ratios(launch.reference_block_ms, launch.candidate_block_ms),
        }
        for launch in launches
    )
    write_text(given.file, json.dumps(found, indent=1) + "\n")


def about(launch_s: float, slot_s: float) -> str:
    """What the numbers are."""
    what = "Log ratios of two copies of a model against a third, text by text"
    return f"{what}: slots of {slot_s} s, {launch_s} s a launch."


def ratios(reference_ms: list[float], candidate_ms: list[float]) -> list[float]:
    """Of each pair."""
    return [round(log(a / b), 5) for a, b in zip(reference_ms, candidate_ms, strict=True)]


if __name__ == "__main__":
    stage(main)

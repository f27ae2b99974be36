"""A record as a page of Markdown: what the model is, how good, what it costs."""

from __future__ import annotations

from leaderboard.schema import Deployment, Record

HEAD = "| deployment | precision | {metric} | p50 ms | times faster | MB on disk | peak MB | Wh / 1,000 texts |"


def model_card(record: Record) -> str:
    """The card of a method on a task, all seeds."""
    method, runs = record.method, record.runs
    metric = next(iter(next(iter(record.deployments.values())).quality[0].scores))
    energy = sum(run.footprint.energy_kwh.likely for run in runs)
    knobs = "".join(f"- `{key}`: {value}\n" for key, value in method.knobs.items()) or "none\n"
    rows = "\n".join(_row(name, form, metric) for name, form in record.deployments.items())
    how = next(iter(record.deployments.values())).cost.solo.certificate
    return f"""# {method.name} on {record.task}

{method.caption}{f" A variant of {method.variant_of}, with other knobs." if method.variant_of else ""}

- Paper: {method.paper}
- Kept of the recipe: {method.kept or "-"}
- Left out or changed: {method.left_out or "-"}
- Profile {record.profile}, suite {record.suite_version}, seeds {", ".join(str(run.seed) for run in runs)}

## Knobs

{knobs}
## Figures

{HEAD.format(metric=metric)}
|{"---|" * 8}
{rows}

Faster: against the teacher as onnx-fp32, one thread, batch 1. Energy: {how.method}, {how.watts_source}.

## Making it

{sum(run.steps for run in runs)} optimiser steps, {sum(run.footprint.wall_s for run in runs) / 60:.1f} minutes, \
{1000 * energy:.2f} Wh, {sum(run.footprint.emissions_g for run in runs):.2f} g CO2e \
(grid {how.grid} {how.grid_year}, {how.grid_g_per_kwh:g} g per kWh).

## Where

{record.machine.cpu}, {record.machine.cores} cores, {record.machine.memory_gb:.0f} GB; Python {record.machine.python}; \
commit {record.code.commit or "unknown"}{" with changes" if record.code.dirty else ""}; {record.created}.
"""


def _row(name: str, form: Deployment, metric: str) -> str:
    scores = [quality.scores[metric].value for quality in form.quality]
    p50 = form.cost.latency_p50_ms
    cells = [
        name,
        form.precision,
        f"{sum(scores) / len(scores):.4f}",
        f"{p50.value:.2f}" if p50 else "n too small",
        f"{form.cost.speedup.value:.2f} ({form.cost.speedup.low:.2f} to {form.cost.speedup.high:.2f})",
        f"{form.bytes_on_disk / 1e6:.1f}",
        f"{form.cost.peak_memory_mb:.0f}",
        f"{1000 * form.cost.energy_kwh_per_1000.likely:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"

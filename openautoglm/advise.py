"""What limits a run, and what to try: a rule a cause, each with its numbers. Points are hundredths of a score."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from leaderboard.metrics import REGRESSION
from openautoglm.run_facts import Facts, read_run


class Advice(NamedTuple):
    """What was found, with its numbers, and what to try."""

    found: str
    attempt: str


def advise(path: Path) -> str:
    """The advice on a run, in words. UserError where `path` is no run."""
    facts = read_run(path)
    given = [advice for rule in RULES if (advice := rule(facts))]
    if not given:
        return f"{path}: nothing stands out in what this run tells. To go smaller, raise pruning_ratio by 0.1."
    lines = [f"{i}. {advice.found}\n   Try: {advice.attempt}" for i, advice in enumerate(given, start=1)]
    return "\n".join([f"{path}:", *lines])


def costly_step(facts: Facts) -> Advice | None:
    """The step after which dev fell most, where the end is still a point below what it was before that step."""
    scores = facts.dev_scores
    falls = [(before - now, i) for i, ((_, before), (_, now)) in enumerate(pairwise(scores), 1)]
    if not falls or max(falls)[0] <= 0.01:
        return None
    fall, i = max(falls)
    step, lost = scores[i][0], scores[i - 1][1] - scores[-1][1]
    if lost <= 0.01:
        return None
    known = defaultdict(lambda: "unknown", facts.asked)
    parts = [part for part in GENTLER if part in step and (part != "vocabulary" or known["vocabulary_size"])]
    return Advice(
        f"Dev fell by {100 * fall:.1f} points at {step}, and the end is {100 * lost:.1f} points below where it was.",
        "; ".join(GENTLER[part].format_map(known) for part in parts) or "leaving it out",
    )


GENTLER = {
    "pruning": "a lower pruning_ratio (it was {pruning_ratio}), or more pruning_rounds (they were {pruning_rounds})",
    "vocabulary": "a larger vocabulary_size (it was {vocabulary_size}) or more texts in train, whose words it keeps",
    "embedding": "a higher embedding_rank (it was {embedding_rank}), or none: it costs bytes, not time",
    "codes": "more embedding_codes (they were {embedding_codes}) or whole_rows: they cost bytes, not time",
    "distillation": "a lower learning_rate (it was {learning_rate}): training made it worse",
}


def still_rising(facts: Facts) -> Advice | None:
    """The last stage's last score on dev is its best, by more than 0.2 points."""
    scores = _last_stage(facts)
    if len(scores) < 2 or scores[-1] - max(scores[:-1]) <= 0.002:
        return None
    return Advice(
        f"Dev was still rising when training ended: {100 * (scores[-1] - scores[-2]):.1f} points in the last pass.",
        "more --epochs, twice as many",
    )


def overfitted(facts: Facts) -> Advice | None:
    """The best score on dev lies in the first half of the last stage, and the end is half a point lower."""
    scores = _last_stage(facts)
    if len(scores) < 4 or scores.index(max(scores)) >= len(scores) / 2 or max(scores) - scores[-1] <= 0.005:
        return None
    best, fell = scores.index(max(scores)) + 1, 100 * (max(scores) - scores[-1])
    return Advice(
        f"Dev was best after pass {best} of {len(scores)}, and {fell:.1f} points lower at the end (the best was kept).",
        "fewer --epochs, a lower learning_rate, or a higher distill_loss_weight",
    )


def _last_stage(facts: Facts) -> list[float]:
    scored = [point for point in facts.curve if point["dev_score"] is not None]
    return [point["dev_score"] for point in scored if point["stage"] == scored[-1]["stage"]]


def quantisation_loses(facts: Facts) -> Advice | None:
    """The deployed student scores more than 0.2 points below the same student in floating point."""
    whole, rounded = facts.float_score, facts.deployed_score
    if whole is None or rounded is None or whole - rounded <= 0.002:
        return None
    tries = ["qat_share 0.2 (training under the rounding)", "more bits in precision, one group at a time"]
    if not facts.asked.get("rounded_weights"):
        tries += ["rounded_weights", "mixed_precision_loss 0.01 (16 bits where rounding costs most)"]
    return Advice(
        f"Deploying it in fewer bits costs {100 * (whole - rounded):.1f} points ({whole:.4f} to {rounded:.4f}).",
        "; or ".join(tries),
    )


def embedding_dominates(facts: Facts) -> Advice | None:
    """Word table and positions hold more than two fifths of the weights' bytes."""
    whole = sum(facts.part_bytes.values())
    share = facts.part_bytes.get("embedding", 0) / whole if whole else 0.0
    if share <= 0.4:
        return None
    rank, codes, size = (facts.asked.get(knob) for knob in ("embedding_rank", "embedding_codes", "vocabulary_size"))
    width = (facts.report.get("before") or {}).get("embedding_size", 384)
    if codes is not None:  # a piece in half the bytes costs less than cutting its word into other pieces
        tries = [f"fewer embedding_codes than {codes}"]
    else:
        tries = [f"embedding_codes {width // 8}" if rank is None else f"an embedding_rank below {rank}"]
        tries.append("vocabulary_size 8000" if size is None else f"a vocabulary_size below {size}")
    return Advice(
        f"The embedding holds {share:.0%} of the weights' bytes, so pruning the encoder further saves little.",
        " and ".join(tries),
    )


def overhead_bound(facts: Facts) -> Advice | None:
    """Half the work is gone, and the speed-up, in the same number format, is below 0.6 of what that promises."""
    if facts.promised is None or facts.delivered is None or facts.promised < 2:
        return None
    if facts.delivered >= 0.6 * facts.promised:
        return None
    return Advice(
        f"{facts.promised:.1f}x less work made it only {facts.delivered:.1f}x faster than the teacher in the same "
        "number format: what is left is overhead of calls and layers, which thinner layers do not lower.",
        "a structure that drops whole sub-layers ([0, ...]; `openautoglm search` finds one), or batches of texts",
    )


def tokenisation_bound(facts: Facts) -> Advice | None:
    """More than 15 % of the time from text to label passes before the model runs."""
    if facts.tokenize_share is None or facts.tokenize_share <= 0.15:
        return None
    return Advice(
        f"Tokenisation takes {facts.tokenize_share:.0%} of the time, and no compression of the model touches that.",
        "a lower --max-length, texts cut before they are tokenised, or batches",
    )


def hollow_layers(facts: Facts) -> Advice | None:
    """FFNs with less than 5 % of their neurons: they cost a call each and do hardly anything."""
    before, after = ((facts.report.get(when) or {}).get("ffn") for when in ("before", "after"))
    if not isinstance(before, list) or not isinstance(after, list) or len(before) != len(after):
        return None
    hollow = [i for i, (b, a) in enumerate(zip(before, after, strict=True)) if 0 < a < 0.05 * b]
    if not hollow:
        return None
    names = ", ".join(f"{i} ({after[i]} of {before[i]})" for i in hollow)
    return Advice(
        f"The FFN of layer {names} keeps less than 5 % of its neurons.",
        "a structure with 0 neurons there: dropping it whole saves its calls too",
    )


def blurred(facts: Facts) -> Advice | None:
    """The score's own standard error, of a share or of a correlation ((1 - r^2) / sqrt(n)), is above a point."""
    score, n = facts.deployed_score, facts.scored
    if score is None or not n:
        return None
    correlation = facts.metric in REGRESSION
    error = (1 - score**2) / math.sqrt(n) if correlation else math.sqrt(max(0.0, score * (1 - score)) / n)
    if error <= 0.01:
        return None
    return Advice(
        f"{n} texts behind the score: its standard error is about {100 * error:.1f} points, so smaller gaps are noise.",
        "more texts to check with",
    )


RULES: tuple[Callable[[Facts], Advice | None], ...] = (
    costly_step, quantisation_loses, still_rising, overfitted,
    embedding_dominates, overhead_bound, tokenisation_bound, hollow_layers, blurred,
)  # fmt: skip

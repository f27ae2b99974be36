"""Plausible, valid records and task cards for tests: seeded, from two rows to thousands."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from leaderboard import schema
from leaderboard.metrics import METRICS


class Traits(NamedTuple):
    """What a pretended method is like: shape, how often it errs, its speed and size."""

    caption: str
    paper: str
    layers: int
    width: int
    parameters: int
    error: float  # share of wrong classes; the noise of a regression
    speed: float  # times faster than the teacher in the same deployment
    training_s: float
    variant_of: str | None = None
    changed: dict[str, Any] = {}  # noqa: RUF012  # knobs that differ from those of variant_of


METHODS = {
    "teacher": Traits("The fine-tuned teacher: the 100 % row", "none", 6, 384, 22_713_000, 0.13, 1.0, 240.0),
    "distilbert": Traits(
        "Half of the teacher's layers, triple loss",
        "https://arxiv.org/abs/1910.01108",
        3,
        384,
        17_200_000,
        0.14,
        1.9,
        300.0,
    ),
    "tinybert": Traits(
        "Narrow and shallow, distilled layer by layer on augmented text",
        "https://arxiv.org/abs/1909.10351",
        2,
        156,
        5_440_000,
        0.18,
        7.1,
        900.0,
    ),
    "mobilebert": Traits(
        "Deep bottlenecks, transferred layer by layer",
        "https://arxiv.org/abs/2004.02984",
        6,
        384,
        6_090_000,
        0.155,
        1.6,
        800.0,
    ),
    "albert": Traits(
        "One shared layer and a factorised embedding",
        "https://arxiv.org/abs/1909.11942",
        6,
        384,
        3_930_000,
        0.16,
        1.05,
        400.0,
    ),
    "open_autoglm": Traits(
        "Heads and neurons pruned by importance, distilled, INT8 by sensitivity",
        "none",
        6,
        384,
        9_800_000,
        0.138,
        2.6,
        500.0,
    ),
}
TASKS = {
    "movie": (
        "Is a sentence of a movie review positive or negative?",
        "classification",
        ["negative", "positive"],
        ["accuracy"],
    ),
    "bbc": (
        "Which of five topics is a BBC news article about?",
        "classification",
        ["business", "entertainment", "politics", "sport", "tech"],
        ["accuracy", "macro_f1"],
    ),
    "tweets": (
        "How positive is a tweet, from -4 to 4, in the mean of 20 raters?",
        "regression",
        [],
        ["pearson", "spearman"],
    ),
}
ABLATIONS = {
    "teacher": METHODS["teacher"],
    "open_autoglm": METHODS["open_autoglm"],
    **{
        name: METHODS["open_autoglm"]._replace(
            variant_of="open_autoglm", changed=changed, parameters=parameters, error=error, speed=speed
        )
        for name, changed, parameters, error, speed in (
            ("open_autoglm_low_rank_only", {"pruning_ratio": 0.0}, 15_000_000, 0.136, 1.0),
            ("open_autoglm_quantization_only", {"pruning_ratio": 0}, 22_713_000, 0.135, 1.0),
        )
    },
}
KNOBS: dict[str, dict[str, Any]] = {
    "teacher": {},
    "open_autoglm": {
        "pruning_ratio": 0.3,
        "quantize_layers": ["ffn"],
        "distill_loss_weight": 0.7,
        "calibration_steps": 512,
    },
}
DEPLOYMENTS = {"all": ["onnx-fp32", "onnx-int8"], "teacher": ["torch-fp32"], "open_autoglm": ["onnx-plan"]}
MACHINE = schema.Machine(
    id="0123456789ab",
    cpu="AMD EPYC 9B14",
    cpu_flags=["avx2", "avx512_vnni"],
    cores=2,
    memory_gb=7.8,
    gpu=None,
    kernel="6.1.0",
    virtualization="kvm",
    python="3.11.2",
    versions={"onnxruntime": "1.32.0", "torch": "2.13.0"},
)


def write(
    results: Path,
    *,
    methods: dict[str, Traits] = METHODS,
    profile: str = "default",
    examples: int = 400,
    seeds: tuple[int, ...] = (0,),
    deployments: dict[str, list[str]] = DEPLOYMENTS,
    tasks: tuple[str, ...] = tuple(TASKS),
) -> None:
    """Fill `results` with a card a task and a record a (method, task)."""
    for task in tasks:
        labels = exam_labels(task, examples)
        save(results / profile / "tasks" / f"{task}.json", card(task, labels))
        for name, traits in methods.items():
            forms = [*deployments["all"], *deployments.get(name, [])]
            made = record(name, traits, task, labels, profile=profile, seeds=seeds, forms=forms)
            save(results / profile / name / f"{task}.json", made)


def save(path: Path, model: schema.Strict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(model.model_dump_json(), encoding="utf-8")


def many(rows: int) -> dict[str, Traits]:
    """The teacher and as many random methods as make `rows` rows in two deployments."""
    rng = np.random.default_rng(7)
    methods = {"teacher": METHODS["teacher"]}
    for i in range(rows // 2 - 1):
        error, speed = float(rng.uniform(0.12, 0.4)), float(rng.lognormal(0.8, 0.6))
        methods[f"method_{i:04d}"] = Traits(
            f"Generated method {i}",
            "none",
            int(rng.integers(1, 7)),
            384,
            int(rng.integers(2e6, 2e7)),
            error,
            speed,
            300.0,
        )
    return methods


def exam_labels(task: str, examples: int) -> np.ndarray:
    rng = _rng("labels", task)
    classes = TASKS[task][2]
    return (
        rng.integers(0, len(classes), examples).astype(float) if classes else np.round(rng.normal(0, 1.5, examples), 2)
    )


def card(task: str, labels: np.ndarray) -> schema.TaskCard:
    title, kind, classes, metrics = TASKS[task]
    if classes:
        shares = {name: float(np.mean(labels == i)) for i, name in enumerate(classes)}
    else:
        shares = {f"p{q}": float(np.percentile(labels, q)) for q in (0, 25, 50, 75, 100)}
    return schema.TaskCard(
        schema_version=1,
        name=task,
        title=title,
        kind=kind,  # type: ignore[arg-type]
        labels=classes,
        metrics=metrics,
        source="vaderSentiment==3.3.2 on PyPI (Hutto & Gilbert 2014)",
        licence="MIT",
        counts={"train": len(labels) * 7 // 2, "dev": len(labels) // 2, "exam": len(labels)},
        dropped={"duplicate": 37, "near_duplicate": 12},
        label_distribution=shares,
        words={"p50": 18.0, "p90": 34.0, "max": 58.0},
        sha256={split: _sha(task, split) for split in ("train", "dev", "exam")},  # type: ignore[misc]
        exam_labels=labels.tolist(),
        examples=[
            {"text": f"A {name} example, with <b>markup</b> & more.", "label": name} for name in classes or ["1.7"]
        ],
    )


def record(
    name: str, traits: Traits, task: str, labels: np.ndarray, *, profile: str, seeds: tuple[int, ...], forms: list[str]
) -> schema.Record:
    return schema.Record(
        schema_version=1,
        suite_version=1,
        profile=profile,  # type: ignore[arg-type]
        task=task,
        exam_sha256=_sha(task, "exam"),
        created="2026-11-22T19:00:00Z",
        method=_method(name, traits),
        code=schema.Code(commit="e188ab2" * 5 + "e188a", dirty=False, lock_sha256=_sha("lock")),
        machine=MACHINE,
        runs=[_run(name, traits, seed) for seed in seeds],
        deployments={form: _deployment(name, traits, task, labels, form, seeds) for form in forms},
    )


def _method(name: str, traits: Traits) -> schema.Method:
    teacher = name == "teacher"
    shape = {
        "layers": traits.layers,
        "hidden_size": traits.width,
        "heads": 12,
        "ffn": 4 * traits.width,
        "embedding_size": 384,
    }
    if name == "open_autoglm":
        shape |= {"heads": [10, 9, 8, 9, 7, 11], "ffn": [1100, 980, 1040, 900, 860, 1210]}
    report: dict[str, Any] = {}
    if name == "open_autoglm":
        report = {
            "asked": {"pruning_ratio": 0.3, "quantize_layers": ["ffn"], "vocabulary_size": None},
            "sensitivity": [
                {"part": f"layer.{i}.ffn", "change": change, "bytes": share, "loss": round(share * (i + 1) / 100, 4)}
                for i in range(6)
                for change, share in (("int8", 0.25), ("int4", 0.125))
            ],
            "search": [
                {
                    "stage": stage,
                    "params": {},
                    "ms": 1.0 + i,
                    "bytes": 5e6 + i,
                    "loss": 0.3 - i / 10,
                    "dev_score": score,
                }
                for stage, score in (("cheap", None), ("short", 0.8), ("full", 0.85))
                for i in range(2)
            ],
            "precision": {f"layer.{i}.ffn": "int8" if i < 4 else "float32" for i in range(6)},
            "steps": [
                {"step": "vocabulary", "parameters": 14_000_000, "pieces": 8000},
                {
                    "step": "pruning 1/1",
                    "parameters": traits.parameters,
                    "dev_score": 0.871,
                    "heads": [10, 9, 8, 9, 7, 11],
                    "head_importance": [[round(0.1 * (i + j), 3) for j in range(12)] for i in range(6)],
                },
            ],
        }
    return schema.Method(
        name=name,
        caption=traits.caption,
        paper=traits.paper,
        kept="" if teacher else "The student's shape, its initialisation and its losses.",
        left_out="" if teacher else "General distillation on Wikipedia: no such corpus is used.",
        knobs=KNOBS.get(traits.variant_of or name, {"temperature": 2.0, "learning_rate": 5e-5}) | traits.changed,
        variant_of=traits.variant_of,
        sources_sha256=_sha(name),
        shape=shape,  # type: ignore[arg-type]
        report=report,
    )


def _run(name: str, traits: Traits, seed: int) -> schema.Run:
    rng = _rng("run", name, seed)
    steps = 880
    history = [
        schema.HistoryPoint(
            stage="distil",
            step=step,
            loss=float(2.5 * np.exp(-step / 300) + 0.3 + rng.normal(0, 0.02)),
            dev_score=float(1 - traits.error - 0.3 * np.exp(-step / 200) + rng.normal(0, 0.004)),
        )
        for step in range(40, steps + 1, 40)
    ]
    kwh = traits.training_s * 2 * 4.4 / 3.6e6
    footprint = schema.Footprint(
        wall_s=traits.training_s,
        cpu_s=2 * traits.training_s,
        energy_kwh=schema.Range(low=kwh / 2, likely=kwh, high=2 * kwh),
        emissions_g=kwh * 381,
        peak_memory_mb=1400.0,
        certificate=_certificate(kwh, traits.training_s, 2 * traits.training_s),
    )
    return schema.Run(seed=seed, steps=steps, budget_steps=steps, footprint=footprint, history=history)


def _deployment(
    name: str, traits: Traits, task: str, labels: np.ndarray, form: str, seeds: tuple[int, ...]
) -> schema.Deployment:
    small = form in ("onnx-int8", "onnx-plan")
    return schema.Deployment(
        runtime=form.split("-")[0],
        precision="weights int8 per channel, activations int8 dynamic" if small else "float32",
        parameters=traits.parameters,
        bytes_on_disk=int(traits.parameters * (1.1 if small else 4) + 700_000),
        artifact_sha256=_sha(name, task, form),
        quality=[_quality(name, traits, task, labels, form, seed) for seed in seeds],
        cost=_cost(name, traits, task, form, small),
    )


def _quality(name: str, traits: Traits, task: str, labels: np.ndarray, form: str, seed: int) -> schema.Quality:
    rng = _rng("hard", task)  # the same examples are hard for every method
    hardness, direction = rng.random(len(labels)), rng.normal(size=len(labels))
    own = _rng(name, task, form, seed)
    error = traits.error + (0.006 if form == "onnx-int8" else 0.0)
    wobble = hardness + own.normal(0, 0.03, len(labels))
    classes = TASKS[task][2]
    if classes:
        predictions = np.where(wobble < error * (0.3 if task == "bbc" else 1.0), (labels + 1) % len(classes), labels)
    else:
        predictions = labels + 4 * error * (0.9 * direction + 0.4 * own.normal(size=len(labels)))
    scores = {}
    for metric in TASKS[task][3]:
        value = METRICS[metric](predictions, labels)
        scores[metric] = schema.Interval(value=value, low=value - 0.02, high=value + 0.02)
    return schema.Quality(
        seed=seed,
        artifact_sha256=_sha(name, task, form, seed),
        predictions=[round(float(p), 4) for p in predictions],
        scores=scores,
    )


def _cost(name: str, traits: Traits, task: str, form: str, small: bool) -> schema.Cost:
    rng = _rng("cost", name, task, form)
    reference = {"movie": 6.2, "bbc": 21.0, "tweets": 4.8}[task]
    speed = traits.speed * (1.9 if small else 0.6 if form == "torch-fp32" else 1.0)
    calls = reference / speed * rng.lognormal(0, 0.15, 64)
    blocks = (reference * rng.lognormal(0, 0.03, 8)).tolist()
    launch = schema.Launch(
        threads=1,
        first_call_ms=float(3 * calls[0]),
        load_ms=120.0,
        reference_block_ms=blocks,
        candidate_block_ms=[b / speed for b in blocks],
        control_block_ms=blocks,
        control_reference_ms=blocks,
        int8_block_ms=[b / 2.2 for b in blocks],
        call_ms=calls.tolist(),
        tokenize_ms=0.09,
        dropped_pairs=1,
    )
    cpu_s, p50 = float(np.mean(calls)), float(np.median(calls))
    kwh = cpu_s * 4.4 / 3.6e6
    load = 130 + traits.parameters * (1.2 if small else 4.2) / 1e6
    solo = schema.Solo(
        import_mb=90.0,
        load_mb=load,
        peak_mb=load + 25,
        anonymous_mb=load - 60,
        texts=300,
        cpu_s=0.3 * cpu_s,
        wall_s=0.3 * cpu_s,
        throughput_texts_per_s=1900 / cpu_s,
        certificate=_certificate(0.3 * kwh, 0.3 * cpu_s, 0.3 * cpu_s),
    )
    return schema.Cost(
        launches=[launch] * 3,
        solo=solo,
        latency_p50_ms=schema.Interval(value=p50, low=p50 * 0.97, high=p50 * 1.04),
        latency_p90_ms=None
        if task == "bbc" and small
        else schema.Interval(value=p50 * 1.3, low=p50 * 1.2, high=p50 * 1.5),
        speedup=schema.Interval(value=speed, low=speed * 0.97, high=speed * 1.03),
        speedup_int8=schema.Interval(value=speed / 2.2, low=speed / 2.2 * 0.97, high=speed / 2.2 * 1.03),
        noise_floor=0.018,
        noisy=name == "albert" and form == "onnx-fp32",
        first_call_ms=3 * p50,
        tokenize_share=0.09 / p50,
        peak_memory_mb=load - 65,
        peak_memory_absolute_mb=load + 25,
        throughput_texts_per_s=1900 / cpu_s,
        cpu_s_per_1000=cpu_s,
        energy_kwh_per_1000=schema.Range(low=kwh * 0.57, likely=kwh, high=kwh * 2.3),
        emissions_g_per_1000=kwh * 381,
    )


def _certificate(kwh: float, wall_s: float, cpu_s: float) -> schema.Certificate:
    return schema.Certificate(
        method="modelled",
        cpu_watts_per_core=schema.Range(low=2.5, likely=4.4, high=10.0),
        memory_watts_per_gb=schema.Range(low=0.2, likely=0.375, high=0.6),
        watts_source="AMD EPYC 9004 product pages",
        grid="DEU",
        grid_year=2023,
        grid_g_per_kwh=381.0,
        window_s=wall_s,
        cpu_s=cpu_s,
        memory_gb=0.2,
        codecarbon_version="3.3.2",
        codecarbon_kwh=kwh,
        formula_kwh=kwh,
        energy_valid=True,
    )


def _rng(*parts: object) -> np.random.Generator:
    return np.random.default_rng(int(_sha(*parts)[:15], 16))


def _sha(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()

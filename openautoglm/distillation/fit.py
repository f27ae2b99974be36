"""The one training loop: every method's stages run through `fit`."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from openautoglm.distillation import checkpoint
from openautoglm.distillation.data import Batch, Encoded, batch_of, in_order, shuffled
from openautoglm.distillation.session import Point, current
from openautoglm.task import Task

Loss = Callable[[Batch], Tensor]
CHECKPOINT_S = 30.0  # seconds of work that a kill may lose
ATTENTION = "_attn_implementation"  # transformers: a config's choice of the attention's code


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and what to try."""


@dataclass(frozen=True)
class Recipe:
    """How to optimise: AdamW with warm-up (a share of the steps) and decay to zero."""

    steps: int
    learning_rate: float
    batch_size: int = 32
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: float = 0.1
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: float = 1.0

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at `step`, 0 <= step < steps."""
        warm = self.warmup * self.steps
        if step < warm:
            return (step + 1) / (warm + 1)
        done = (step - warm) / max(1.0, self.steps - warm)
        return {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "constant": 1.0}[self.schedule]


def fit(
    model: nn.Module,
    examples: Encoded,
    loss: Loss,
    recipe: Recipe,
    *,
    stage: str,
    score: Callable[[], float] | None = None,
) -> None:
    """Train, in place, the parameters of `model` that require gradients, to minimise `loss(batch)`.

    With `score` (higher is better; called once an epoch and at the end) the best weights are kept, not the last.
    Seeded by the session; with checkpoints it resumes after a kill, to the same end. TrainingError on a loss that is
    not finite.
    """
    session = current()
    session.fits += 1
    session.steps += recipe.steps
    run = _Fit(model, examples, loss, recipe, stage, score)
    folder = session.checkpoints
    path = folder / f"{session.fits:02d}.safetensors" if folder else None
    seed = session.seed * 1000 + session.fits
    torch.manual_seed(seed)
    run.start(seed)
    if path and (found := checkpoint.load(path)):
        run.restore(*found)
    saved = time.monotonic()
    with tqdm(total=recipe.steps, initial=run.step, desc=stage, unit="step", disable=None) as bar:
        while run.step < recipe.steps:
            if point := run.advance():
                session.on_point(point)
            bar.update()
            if path and (time.monotonic() - saved > CHECKPOINT_S or run.step == recipe.steps):
                checkpoint.save(path, *run.state())
                saved = time.monotonic()
    run.finish()
    torch.manual_seed(seed + 500)  # what follows is the same, whether this fit ran or was found finished


class _Fit:
    """The state of one fit: what a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        examples: Encoded,
        loss: Loss,
        recipe: Recipe,
        stage: str,
        score: Callable[[], float] | None,
    ) -> None:
        self.model, self.examples, self.loss = model.to(device()), examples, loss
        self.recipe, self.stage, self.score = recipe, stage, score
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            _decayed(self.trained, recipe.weight_decay),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            fused=True,
        )
        self.attention = _PlainAttention(model)
        self.per_epoch = math.ceil(len(examples) / recipe.batch_size)
        self.step, self.losses, self.counted = 0, 0.0, 0
        self.best_score: float | None = None
        self.best: dict[str, Tensor] | None = None

    def start(self, seed: int) -> None:
        self.seed = seed
        self.model.train()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a resumed fit needs: weights, best weights, optimiser, random state; and where it stands."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (self.best or {}).items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        facts = {"stage": self.stage, "step": self.step, "losses": self.losses, "counted": self.counted}
        return tensors | {"random": torch.get_rng_state()}, facts | {"best_score": self.best_score}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from what `state` gave; the state of another stage or model is left alone."""
        weights, own = checkpoint.under(tensors, "model."), self.model.state_dict()
        same_shapes = {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in own.items()}
        if facts["stage"] != self.stage or not same_shapes:
            return
        self.model.load_state_dict(weights)
        self.best = checkpoint.under(tensors, "best.") or None
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in checkpoint.under(tensors, "optimizer.").items():
            i, key = name.split(".", 1)
            moments.setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.step, self.losses, self.counted = facts["step"], facts["losses"], facts["counted"]
        self.best_score = facts["best_score"]
        torch.set_rng_state(tensors["random"])

    def advance(self) -> Point | None:
        """One optimiser step; a point of the learning curve at each quarter of an epoch."""
        epoch, position = divmod(self.step, self.per_epoch)
        if position == 0 or not hasattr(self, "epoch"):
            order = torch.Generator().manual_seed(self.seed * 7919 + epoch)
            self.epoch = shuffled(self.examples, self.recipe.batch_size, order)
        self._optimise(batch_of(self.examples, self.epoch[position]).to(device()))
        self.step += 1
        last = self.step == self.recipe.steps
        scored = self._score() if self.score and (last or self.step % self.per_epoch == 0) else None
        if scored is None and not last and self.step % max(1, self.per_epoch // 4):
            return None
        point = Point(self.stage, self.step, self.losses / max(1, self.counted), scored)
        self.losses, self.counted = 0.0, 0
        return point

    def _optimise(self, batch: Batch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.recipe.rate(self.step)
        with mixed_precision(), self.attention:
            loss = self.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"{self.stage}: the loss is {value} at step {self.step}; try a lower learning rate.")
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses, self.counted = self.losses + value, self.counted + 1

    def _score(self) -> float:
        assert self.score
        self.model.eval()
        value = self.score()
        self.model.train()
        if self.best_score is None or value > self.best_score:
            self.best_score, self.best = value, copy.deepcopy(self.model.state_dict())
        return value

    def finish(self) -> None:
        """Put the best weights back, where a score chose them."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.eval()


class _PlainAttention:
    """On a CPU, attention as plain products: forward and backward are a quarter faster than PyTorch's fused ones."""

    def __init__(self, model: nn.Module) -> None:
        found = [module.config for module in model.modules() if hasattr(getattr(module, "config", None), ATTENTION)]
        self.before = {id(config): (config, getattr(config, ATTENTION)) for config in found}.values()

    def __enter__(self) -> None:
        if device().type == "cpu":
            for config, _ in self.before:
                setattr(config, ATTENTION, "eager")

    def __exit__(self, *error: object) -> None:
        for config, name in self.before:
            setattr(config, ATTENTION, name)


def _decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """Weight decay for matrices only: biases and normalisation are left alone, as BERT's own optimiser does."""
    matrices = [p for p in parameters if p.dim() > 1]
    vectors = [p for p in parameters if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def device() -> torch.device:
    """Where training runs: a CUDA GPU where PyTorch sees one, the processor elsewhere."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision() -> torch.autocast:
    """bfloat16 autocast where the hardware computes in it (else it would be slower), float32 elsewhere."""
    kind = device().type
    native = torch.cuda.is_bf16_supported(including_emulation=False) if kind == "cuda" else _processor_has_bfloat16()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=native)


def _processor_has_bfloat16() -> bool:
    """oneDNN "supports" bfloat16 on every x86 with AVX-512, but emulates it, four times slower than float32, on those
    without the instructions.
    """
    has = torch.cpu.get_capabilities()
    if has["architecture"] == "x86_64":
        return bool(has["avx512_bf16"] or has["amx_bf16"])
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@torch.inference_mode()
def logits_of(model: nn.Module, examples: Encoded, batch_size: int = 64) -> Tensor:
    """(n, outputs) float32 logits in the order of the examples."""
    training, place = model.training, next(model.parameters()).device
    model.eval()
    rows: Tensor | None = None
    for batch in in_order(examples, batch_size):
        with mixed_precision():
            logits = model(**batch.to(place).inputs).logits.float().cpu()
        if rows is None:
            rows = torch.empty(len(examples), logits.shape[1])
        rows[batch.index] = logits
    model.train(training)
    if rows is None:
        raise ValueError("No examples given: give at least one.")
    return rows


def dev_score(model: nn.Module, task: Task, dev: Encoded) -> float:
    """The task's deciding metric on dev."""
    return task.score(logits_of(model, dev).numpy(), dev.labels.numpy())

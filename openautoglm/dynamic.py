"""Dynamic inference: exits after some layers, trained together with the model's end, and the route that uses them.

Loss and heads after Shallow-Deep Networks (Kaya et al. 2019, arXiv 1810.07052, eq. 1: each exit's loss counts by its
depth) and DeeBERT (Xin et al. 2020, arXiv 2004.12993); every exit learns from the teacher, as the end does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openautoglm import architectures, route
from openautoglm.artifact import ArtifactError
from openautoglm.config import ConfigError
from openautoglm.distillation.data import Batch, Encoded, in_order
from openautoglm.distillation.fit import Recipe, device, fit
from openautoglm.distillation.losses import taught
from openautoglm.route import Route
from openautoglm.task import Task

RIDGE = 0.3  # of an exit's regressions, as a share of the standardised states' variance


class ExitHead(nn.Module):
    """The mean state of a text's pieces, standardised -> logits, and how sure they are.

    The mean and not the first piece's state, which in an early layer is nearly the same for every text, so that the
    rounding of INT8 drowns what is the text's own.

    Classes: the largest probability. Values: minus the logarithm expected of the squared difference from the model's
    end (the regression of Harvey 1976 for unequal variances), for a value by itself says nothing of its error.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, hidden: int, outputs: int, kind: str) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(hidden))
        self.register_buffer("spread", torch.ones(hidden))
        self.classifier = nn.Linear(hidden, outputs)
        self.log_error = nn.Linear(hidden, 1).requires_grad_(False) if kind == "regression" else None

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, hidden) -> logits (batch, outputs) and confidence (batch,)."""
        state = (state - self.mean) / self.spread
        logits = _apply(self.classifier, state)
        if self.log_error is None:
            return logits, logits.softmax(-1).amax(-1)
        return logits, -_apply(self.log_error, state).squeeze(-1)

    @torch.no_grad()
    def start(self, states: Tensor, targets: Tensor) -> None:
        """Begin at the ridge regression of the teacher's logits (n, outputs) on the states (n, hidden), standardised.

        Few steps do not find it: the states of an early layer differ little between texts.
        """
        self.mean.copy_(states.mean(0))
        self.spread.copy_(states.std(0).clamp(min=1e-6))
        self._regress(self.classifier, states, targets)

    @torch.no_grad()
    def finish(self, states: Tensor, ends: Tensor) -> None:
        """Once trained, learn from the model's end (n, 1) on texts (n, hidden) where this exit differs from it."""
        if self.log_error is not None:
            self._regress(self.log_error, states, (self(states)[0] - ends).square().clamp(min=1e-6).log())

    def _regress(self, linear: nn.Linear, states: Tensor, targets: Tensor) -> None:
        x, center = ((states - self.mean) / self.spread).double(), targets.double().mean(0)
        moments = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        linear.weight.copy_(torch.linalg.solve(moments, x.T @ (targets.double() - center)).T)
        linear.bias.copy_(center)


def _apply(linear: nn.Linear, x: Tensor) -> Tensor:
    """(batch, in) -> (batch, out) as a product and a sum: no MatMul, so that a precision plan leaves it in float32.

    The states of an early layer differ by less than a step of INT8.
    """
    return (x[:, None, :] * linear.weight).sum(-1) + linear.bias


class Exits(nn.Module):
    """The exit heads of a model: `after[i]` layers have run where `heads[i]` reads. None is used before `fit_route`."""

    def __init__(self, config: Any, after: Sequence[int], kind: str) -> None:
        super().__init__()
        check_exits(config, after)
        depth = config.num_hidden_layers
        self.after, self.kind = tuple(after), kind
        self.heads: Any = nn.ModuleList([ExitHead(config.hidden_size, config.num_labels, kind) for _ in after])
        self.costs = np.array([*after, depth]) / depth  # the share of the layers that have run at each end
        self.route = Route.only(len(after), len(after))


def check_exits(config: Any, after: Sequence[int]) -> None:
    """ConfigError for a layer that is not inside the model or not in order, and for a model that reads its last piece
    (its positions and its mask are made in the embedding, and a segment has none).
    """
    depth = config.num_hidden_layers
    if not after or list(after) != sorted({int(n) for n in after}) or not 0 < after[0] <= after[-1] < depth:
        raise ConfigError(f"Exits after layers {list(after)}: give ascending numbers from 1 to {depth - 1}.")
    if getattr(architectures.family(config.model_type), "READS", None) != "first":
        raise ConfigError(f"Exits are for encoders, which read their first piece; a {config.model_type} does not.")


class WithExits(nn.Module):
    """A model and its exits: what is trained, and what is exported, as one."""

    def __init__(self, model: Any, exits: Exits) -> None:
        super().__init__()
        self.model, self.exits = model, exits

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, bias: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """(batch, length) ids and mask -> the states (batch, length, hidden) at each exit; logits (batch, outputs) of
        each exit and of the end; confidences (batch,) of each exit.

        `bias` (batch, 1, 1, length) is what the attention scores have added for the mask, where it is given.
        """
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask if bias is None else bias, output_hidden_states=True
        )
        states = [output.hidden_states[after] for after in self.exits.after]
        answers = [
            head(mean_state(state, attention_mask)) for head, state in zip(self.exits.heads, states, strict=True)
        ]
        return states, [*(logits for logits, _ in answers), output.logits], [confidence for _, confidence in answers]


def mean_state(states: Tensor, attention_mask: Tensor) -> Tensor:
    """(batch, length, hidden) and (batch, length) -> (batch, hidden), the mean over the real pieces."""
    mask = attention_mask[:, :, None].to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


def train(
    model: Any,
    examples: Encoded,
    targets: Tensor,
    task: Task,
    recipe: Recipe,
    *,
    after: Sequence[int],
    temperature: float = 3.0,
    soft_weight: float = 0.7,
    dev: Encoded | None = None,
) -> Exits:
    """Give `model` exits after the layers `after`, and train all ends together; the model itself changes in place.

    targets (texts, outputs): the teacher's logits of `examples`. With `dev` the weights whose ends have the best mean
    score are kept. ValueError for layers that the model does not have.
    """
    exits = Exits(model.config, after, task.kind)
    joint = WithExits(model, exits)
    states, _, index = _read(joint, examples)
    for head, read in zip(exits.heads, states, strict=True):
        head.start(read, targets[index].to(read))

    def loss(batch: Batch) -> Tensor:
        logits = joint(**batch.inputs)[1]
        soft = targets[batch.index].to(batch.labels.device)
        parts = [taught(end, soft, batch.labels, task.kind, temperature, soft_weight) for end in logits]
        return (torch.stack(parts) * torch.tensor(exits.costs).to(parts[0])).sum()

    def score() -> float:
        assert dev
        logits = outputs(model, exits, dev)[1]
        return float(np.mean([task.score(end, dev.labels.numpy()) for end in logits]))

    fit(joint, examples, loss, recipe, stage="exits", score=score if dev else None)
    states, ends, _ = _read(joint, examples)
    for head, read in zip(exits.heads, states, strict=True):
        head.finish(read, ends)
    return exits


@torch.no_grad()
def _read(joint: WithExits, examples: Encoded) -> tuple[Tensor, Tensor, Tensor]:
    """One pass over the examples: what every head reads (exits, n, hidden), the end's logits (n, outputs), and which
    example (n,) each is.
    """
    joint.to(device()).eval()
    read, ends, index = [], [], []
    for batch in in_order(examples, 64):
        batch = batch.to(device())
        states, logits, _ = joint(**batch.inputs)
        read.append(torch.stack([mean_state(state, batch.attention_mask) for state in states]))
        ends.append(logits[-1])
        index.append(batch.index)
    return torch.cat(read, 1), torch.cat(ends), torch.cat(index)


@torch.inference_mode()
def outputs(model: Any, exits: Exits, examples: Encoded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the order of the examples: (n,) word pieces, (ends, n, outputs) logits, (exits, n) confidences, in float32."""
    joint, place = WithExits(model, exits), next(model.parameters()).device
    training = model.training
    joint.eval()
    logits, confidences, index = [], [], []
    for batch in in_order(examples, 64):
        _, ends, sure = joint(**batch.to(place).inputs)
        logits.append(torch.stack(ends).float().cpu())
        confidences.append(torch.stack(sure).float().cpu())
        index.append(batch.index)
    joint.train(training)
    order = torch.cat(index).argsort()
    lengths = np.array([len(ids) for ids in examples.ids])
    return lengths, torch.cat(logits, 1)[:, order].numpy(), torch.cat(confidences, 1)[:, order].numpy()


def fit_route(model: Any, exits: Exits, task: Task, dev: Encoded, *, tolerance: float = 0.002) -> Route:
    """Fit the route of `exits` on dev: the most time saved at a score at most `tolerance` (0.002: 0.2 points) lower."""
    lengths, logits, confidences = outputs(model, exits, dev)
    labels = dev.labels.numpy()

    def score(chosen: np.ndarray, rows: slice) -> float:
        return task.score(chosen[rows], labels[rows])

    exits.route = route.fit(lengths, confidences, logits, exits.costs, score, tolerance)
    return exits.route


def save(exits: Exits, folder: Path) -> None:
    """Write exits.json and exits.safetensors beside the model in `folder`."""
    about = {"after": exits.after, "kind": exits.kind, "route": exits.route.describe()}
    (folder / "exits.json").write_text(json.dumps(about), encoding="utf-8")
    save_file(exits.state_dict(), str(folder / "exits.safetensors"))


def load(config: Any, folder: Path) -> Exits | None:
    """The exits saved in `folder` for a model of `config`; None where there are none. ArtifactError for broken ones."""
    if not (folder / "exits.json").exists():
        return None
    try:
        about = json.loads((folder / "exits.json").read_text(encoding="utf-8"))
        exits = Exits(config, about["after"], about["kind"])
        exits.load_state_dict(load_file(str(folder / "exits.safetensors")))
        exits.route = Route.read(about["route"])
    except Exception as error:  # safetensors' own error is no subclass of anything narrower
        raise ArtifactError(f"{folder}: no exits load from exits.json and exits.safetensors ({error}).") from None
    return exits.eval()

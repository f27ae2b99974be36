"""Teacher and Student: a model with its tokenizer. Saved as config.json + model.safetensors + tokenizer.json, and a
student's plan and report as JSON beside them.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from tokenizers import Tokenizer
from torch import nn

from leaderboard.aside import replacing_folder
from leaderboard.metrics import CLASSIFICATION, METRICS, REGRESSION
from openautoglm import architectures
from openautoglm.artifact import ArtifactError, refuse_foreign
from openautoglm.task import Split, Task

SAVED = {f"{name}.json" for name in ("config", "tokenizer", "plan", "report", "exits")} | {
    f"{name}.safetensors" for name in ("model", "exits")
}


@dataclass(frozen=True)
class Teacher:
    """The fine-tuned model that methods compress. Frozen, in eval mode; `copy` gives one that may be changed."""

    model: Any  # an nn.Module; its attributes differ by family
    tokenizer: Tokenizer

    def copy(self) -> Any:
        """A trainable copy of the model."""
        return copy.deepcopy(self.model).requires_grad_(True)


@dataclass
class Student:
    """What a method returns. `plan` maps groups of weights to number formats, for the onnx-plan deployment."""

    model: Any  # an nn.Module; its attributes differ by family
    tokenizer: Tokenizer
    plan: dict[str, str] | None = None
    report: dict[str, Any] = field(default_factory=dict)  # what the method tells its readers, as JSON
    exits: Any = None  # openautoglm.dynamic.Exits, for the onnx-dynamic deployment

    @property
    def max_length(self) -> int:
        """Word pieces that are read of a text, the special ones included: where the tokenizer or the model ends."""
        return (self.tokenizer.truncation or {}).get("max_length") or self.model.config.max_position_embeddings

    def evaluate(self, split: Split) -> dict[str, float]:
        """Every metric of the model's kind on `split`: accuracy and macro_f1, or pearson and spearman."""
        from openautoglm.distillation.data import encode
        from openautoglm.distillation.fit import logits_of

        if not len(split):
            raise ValueError("The split has no texts: give at least one.")
        logits = logits_of(self.model, encode(self.tokenizer, split, self.max_length)).numpy()
        names, answers = (REGRESSION, logits[:, 0]) if logits.shape[1] == 1 else (CLASSIFICATION, logits.argmax(-1))
        return {name: METRICS[name](answers, split.labels) for name in names}

    def export(self, folder: Path | str, deployment: str = "onnx-plan", *, task: Task) -> Path:
        """Write an artifact for openautoglm.runtime.Predictor; the task gives labels and the texts it is checked with.

        An artifact that is there is replaced. ArtifactError for an unknown deployment, where the folder holds other
        things, and where the artifact answers differently; then nothing is replaced.
        """
        from openautoglm.export import export

        return export(self, deployment, Path(folder), task)

    def save(self, folder: Path | str) -> Path:
        """Write config.json, model.safetensors, tokenizer.json, plan.json and report.json, all at once.

        A folder that is there is replaced, if a student was saved in it; ArtifactError where it holds other things.
        """
        from openautoglm import dynamic

        folder = Path(folder)
        refuse_foreign(folder, "plan.json", SAVED)
        with replacing_folder(folder) as aside:
            save_model(self.model, aside)
            self.tokenizer.save(str(aside / "tokenizer.json"), pretty=False)
            for name, value in {"plan.json": self.plan, "report.json": self.report}.items():
                (aside / name).write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            if self.exits is not None:
                dynamic.save(self.exits, aside)
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> Student:
        """What `save` wrote, in eval mode; ArtifactError where a file is missing or broken."""
        from openautoglm import dynamic

        folder = Path(folder)
        model, tokenizer = load_model(folder).eval(), load_tokenizer(folder)
        try:
            plan, report = (json.loads((folder / f).read_text(encoding="utf-8")) for f in ("plan.json", "report.json"))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}: no saved student ({error}).") from None
        return cls(model, tokenizer, plan, report, dynamic.load(model.config, folder))

    def summary(self) -> str:
        """Before and after, layer by layer, the score after each step, and what was measured, as a text table."""
        from openautoglm.summary import summary

        return summary(self.report, self.plan)


def load_teacher(folder: Path) -> Teacher:
    """A saved model, frozen; ArtifactError where the folder is not one."""
    model = load_model(folder).eval().requires_grad_(False)
    return Teacher(model, load_tokenizer(folder))


def save_model(model: Any, folder: Path) -> None:
    """Write config.json and model.safetensors into an existing folder."""
    (folder / "config.json").write_text(model.config.to_json_string(use_diff=False), encoding="utf-8")
    save_weights(model, str(folder / "model.safetensors"))


def load_model(folder: Path) -> Any:
    """The model saved in `folder`; ArtifactError where a file is missing, broken or of another shape."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = architectures.build(config)
        load_weights(model, str(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: no model loads from config.json and model.safetensors ({error}).") from None
    return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved in `folder`."""
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(f"{folder}: no tokenizer loads from tokenizer.json ({error}).") from None


def parameter_count(model: nn.Module) -> int:
    """Stored parameters, shared ones once, and the codes of a coded embedding."""
    codes = [buffer for buffer in model.buffers() if buffer.dtype == torch.uint8]
    return sum(tensor.numel() for tensor in (*model.parameters(), *codes))

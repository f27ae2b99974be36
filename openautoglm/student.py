"""Teacher and Student: a model with its tokenizer. Saved as config.json + model.safetensors + tokenizer.json."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from tokenizers import Tokenizer
from torch import nn

from openautoglm import architectures
from openautoglm.artifact import ArtifactError


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
    """Stored parameters; shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())

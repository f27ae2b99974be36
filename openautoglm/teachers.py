"""Whatever names a fine-tuned model -> Teacher: a folder, a loaded transformers model, a name on the hub, a Teacher."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from openautoglm import architectures
from openautoglm.artifact import ArtifactError
from openautoglm.student import Teacher, load_teacher

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def as_teacher(model: Teacher | nn.Module | str | Path, tokenizer: Any = None) -> Teacher:
    """A frozen teacher. ArtifactError where nothing loads, the model has no trained head, or its family is unknown.

    tokenizer: only for a loaded model, which brings none: a `tokenizers` or a fast transformers tokenizer.
    """
    if isinstance(model, Teacher):
        return model
    if isinstance(model, nn.Module):
        return _loaded(model, tokenizer)
    if not Path(model).is_dir():
        if not HUB_NAME.fullmatch(str(model)):
            raise ArtifactError(f"{model} is no folder. Give one with config.json, model.safetensors, tokenizer.json.")
        return _from_transformers(str(model))
    try:
        return load_teacher(Path(model))
    except ArtifactError as error:
        try:  # sharded weights, a tokenizer without tokenizer.json, buffers of older versions
            return _from_transformers(str(model))
        except ArtifactError:
            raise error from None


def _loaded(model: Any, tokenizer: Any) -> Teacher:
    fast = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise ArtifactError(
            f"The model needs its tokenizer, a `tokenizers` or fast transformers one, not {type(tokenizer).__name__}."
        )
    if (
        not hasattr(getattr(model, "config", None), "num_labels")
        or "ForSequenceClassification" not in type(model).__name__
    ):
        raise ArtifactError(f"{type(model).__name__} has no classification head: give a ...ForSequenceClassification.")
    try:
        made = architectures.adopt(model)
    except ValueError as error:
        raise ArtifactError(str(error)) from None
    return Teacher(made.eval().requires_grad_(False), fast)


def _from_transformers(name: str) -> Teacher:
    """A folder or a name on the hub, by transformers' own loader; safetensors only."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            name, use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # the hub's client and the loaders have no common class
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ArtifactError(f"{name}: no such folder, and transformers loads no such model ({reason}).") from None
    if missing := sorted(found["missing_keys"]):
        raise ArtifactError(f"{name} is not fine-tuned: it has no weights for {', '.join(missing[:3])}.")
    return _loaded(model, tokenizer)

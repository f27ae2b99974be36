"""CompressionConfig: every knob of Open-AutoGLM with its default. An unknown key is refused with the nearest one."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from openautoglm.cost_table import Widths
from openautoglm.errors import UserError
from openautoglm.quantization.plan import GROUPS, Group, check_plan

EXIT_SHARE = 0.3  # of the steps that pruning leaves, where there are exits


class ConfigError(UserError, ValueError):
    """A config that cannot be used: what was given, what is allowed."""


class CompressionConfig(BaseModel):
    """What to do to a model. The article's four keys (`pruning_ratio`, `quantize_layers`, `distill_loss_weight`,
    `calibration_steps`) work as it writes them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    pruning_ratio: float = Field(0.3, ge=0, lt=1, description="share of the encoder's weights to remove; 0: none")
    structure: list[Widths] | None = Field(
        None, description="[heads, neurons] of every layer, as a search found them; null: by `pruning_ratio`"
    )
    importance: Literal["fisher", "taylor", "magnitude"] = Field(
        "fisher", description="how heads and neurons are ranked"
    )
    pruning_rounds: int = Field(2, ge=1, le=8, description="remove in so many rounds, with recovery in between")
    calibration_steps: int = Field(512, ge=1, description="train texts that importance and refitting look at")
    vocabulary_size: int | None = Field(
        None, ge=200, description="keep the most frequent word pieces of train (and every character); null: all"
    )
    embedding_rank: int | None = Field(None, ge=1, description="rank of the word embedding; null: full")
    embedding_codes: int | None = Field(
        None, ge=1, description="bytes of a word piece in product codes; null: whole rows for all"
    )
    whole_rows: int = Field(
        2000, ge=1, description="with `embedding_codes`, so many of the most frequent pieces keep whole rows"
    )
    linear_rank_share: float | None = Field(
        None, gt=0, le=1, description="low-rank linears with this share of the encoder's weights; null: whole"
    )
    branch_ranks: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="ranks of parallel branches in training, fused afterwards (re-parameterisation)"
    )
    exits: list[int] = Field(default=[], description="early exits after these layers (deployment onnx-dynamic)")
    exit_tolerance: float = Field(0.002, ge=0, description="by how much exits may lower the dev score, of 1")
    crossed_texts: int = Field(
        1,
        ge=0,
        le=8,
        description="new texts for each of train, crossed from two, where passes are enough for them",
    )
    distill_loss_weight: float = Field(
        0.7, ge=0, le=1, description="weight of the soft labels; the rest is the task's loss"
    )
    distill_temperature: float = Field(3.0, gt=0, description="temperature of the soft labels")
    hidden_loss_weight: float = Field(30.0, ge=0, description="weight of the layers' hidden states, piece by piece")
    hidden_share: float = Field(1.0, ge=0, le=1, description="share of the steps that aligns hidden states too")
    learning_rate: float = Field(1.5e-4, gt=0, description="highest learning rate, of a cosine schedule")
    quantize_layers: list[Group] = Field(
        default=["embedding", "attention", "ffn", "head"],
        description="groups in INT8; the others are stored in 16 bits",
    )
    precision: dict[str, str] = Field(
        default={}, description="formats that differ: {'embedding': 'int4', 'ffn': 'int3', 'layer.0.ffn': 'fp16'}"
    )
    rounded_weights: bool = Field(
        False, description="distil with weights rounded to their formats, from the end of the pruning on"
    )
    sensitivity_texts: int = Field(
        0,
        ge=0,
        description="measure what rounding, factorising or dropping each part costs on so many texts; 0: no",
    )
    mixed_precision_loss: float | None = Field(
        None,
        ge=0,
        description="choose each part's format by sensitivity, as small as this summed loss allows; `quantize_layers` "
        "is not read then, and `precision` goes before",
    )
    qat_share: float = Field(0.0, ge=0, lt=1, description="share of the steps that trains under the plan's rounding")
    qat_threshold: float = Field(0.002, ge=0, description="no such training where rounding costs dev no more than this")

    @field_validator("precision")
    @classmethod
    def _known_formats(cls, precision: dict[str, str]) -> dict[str, str]:
        check_plan(precision)
        return precision

    @model_validator(mode="after")
    def _one_kind_of_embedding(self) -> CompressionConfig:
        if self.embedding_rank is not None and self.embedding_codes is not None:
            raise ValueError("embedding_rank and embedding_codes are both given: give one of them")
        return self

    @model_validator(mode="after")
    def _leaves_steps_to_distil(self) -> CompressionConfig:
        if self.exits and self.qat_share >= 1 - EXIT_SHARE:
            raise ValueError(
                f"qat_share is {self.qat_share:g}, and exits take {EXIT_SHARE:g} of the steps: give less than "
                f"{1 - EXIT_SHARE:g}"
            )
        return self

    @model_validator(mode="after")
    def _rounds_to_known_formats(self) -> CompressionConfig:
        if self.rounded_weights and (self.mixed_precision_loss is not None or self.branch_ranks):
            raise ValueError(
                "rounded_weights needs formats, and the weights they round, before the training: give it without "
                "mixed_precision_loss and branch_ranks"
            )
        return self

    @model_validator(mode="after")
    def _rounds_what_stays(self) -> CompressionConfig:
        dropped = {
            f"layer.{i}.{part}"
            for i, widths in enumerate(self.structure or [])
            for part, width in zip(("attention", "ffn"), widths, strict=True)
            if not width
        }
        if lost := sorted(dropped & self.precision.keys()):
            raise ValueError(f"precision has {lost}, which structure drops: leave them out")
        return self

    def plan(self) -> dict[str, str]:
        """Number formats of the parts of the model (openautoglm.quantization.plan)."""
        return {g: "int8" if g in self.quantize_layers else "fp16" for g in GROUPS} | self.precision


def read_config(given: dict[str, Any] | str | Path | CompressionConfig | None) -> CompressionConfig:
    """A config from a dict, a JSON file, a config or nothing; ConfigError lists every problem."""
    if given is None or isinstance(given, CompressionConfig):
        return given or CompressionConfig()
    if isinstance(given, (str, Path)):
        try:
            given = json.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{given}: no JSON config ({error}).") from None
    try:
        return CompressionConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError("The config has problems: " + "; ".join(map(_problem, error.errors())) + ".") from None


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(place, CompressionConfig.model_fields, n=1)
        return f"{place}: unknown; " + (
            f"did you mean {close[0]!r}?" if close else f"known: {', '.join(CompressionConfig.model_fields)}"
        )
    if error["type"] == "value_error":  # a validator's own words
        return f"{place}: {str(error['ctx']['error']).removesuffix('.')}".removeprefix(": ")
    return f"{place}: {error['msg']}, given {str(error['input'])[:60]!r}".removeprefix(": ")

"""What a teacher says of each train text, computed once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from openautoglm import architectures
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import mixed_precision


class Targets:
    """What the teacher says of each train text, computed once: logits, and each layer's state that the head reads.

    Only that state ([CLS], or a decoder's last) is aligned: a trimmed vocabulary cuts the same text into other pieces.
    """

    def __init__(self, logits: Tensor, states: Tensor) -> None:
        self.logits = logits  # (texts, outputs)
        self.states = states  # (texts, layers + 1, hidden), bfloat16

    @classmethod
    @torch.inference_mode()
    def of(cls, teacher: nn.Module, examples: Encoded) -> Targets:
        """One pass of the teacher over train, on the device where the teacher is."""
        place = next(teacher.parameters()).device
        logits, states, index = [], [], []
        for batch in tqdm(list(in_order(examples, 64)), desc="teacher's answers", unit="batch", disable=None):
            with mixed_precision():
                output = teacher(**batch.to(place).inputs, output_hidden_states=True)
            logits.append(output.logits.float().cpu())
            states.append(read_states(teacher, output, batch.attention_mask).bfloat16().cpu())
            index.append(batch.index)
        order = torch.cat(index).argsort()
        # clones, because tensors made under inference mode cannot take part in training
        return cls(torch.cat(logits)[order].clone(), torch.cat(states)[order].clone())


def read_states(model: Any, output: Any, attention_mask: Tensor) -> Tensor:
    """The state of every layer that the head reads, the embedding's first: (batch, layers + 1, hidden)."""
    mask = attention_mask.to(output.logits.device)
    return torch.stack([architectures.read_state(model, state, mask) for state in output.hidden_states], 1)

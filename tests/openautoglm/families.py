"""A tiny model of every family that can be compressed, with the irregular weights of a trained one."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from openautoglm import architectures
from openautoglm.student import Teacher
from openautoglm.task import Task
from tests.conftest import tokenizer

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 24,
}
GLM = COMMON | {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6, "hidden_act": "silu"}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "roberta": COMMON,
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 24},
    "albert": COMMON | {"embedding_size": 16},
    "glm": GLM,
}
BYTE_LEVEL = ("roberta", "glm")
FAMILIES = tuple(CONFIGS)
STACKED = tuple(name for name in FAMILIES if name != "albert")  # families with layers of their own at every depth


def byte_level(texts: tuple[str, ...]) -> Tokenizer:
    """A byte-level BPE tokenizer, as RoBERTa's and GLM's are; padding has the id 1, as RoBERTa's."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


def teacher(name: str, task: Task) -> Teacher:
    """A teacher with random weights."""
    made = byte_level(task.train.texts) if name in BYTE_LEVEL else tokenizer()
    sizes = {"vocab_size": made.get_vocab_size(), "pad_token_id": int(name in BYTE_LEVEL), "num_labels": task.outputs}
    torch.manual_seed(0)
    model = architectures.build({"model_type": name, **CONFIGS[name], **sizes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return Teacher(model.eval().requires_grad_(False), made)

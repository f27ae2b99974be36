"""A tiny teacher that has learnt a tiny task: what a method is tried on, whole, in seconds and without a download."""

from __future__ import annotations

import string

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification

from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import Recipe, fit
from openautoglm.distillation.losses import task_loss
from openautoglm.student import Teacher
from openautoglm.task import Split, Task

NEUTRAL = ["film", "plot", "actor", "scene", "music", "story", "ending", "dialogue", "camera", "director"]
MOOD = {"good": 1, "fine": 1, "great": 1, "lovely": 1, "bad": -1, "poor": -1, "awful": -1, "dull": -1}
WORDS = NEUTRAL + list(MOOD)


def tokenizer() -> Tokenizer:
    """Words of the tiny task, and letters for all others."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = special + WORDS + list(string.ascii_lowercase) + ["##" + c for c in string.ascii_lowercase]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.add_special_tokens(special)
    return made


def split(n: int, kind: str, seed: int) -> Split:
    """Sentences whose label is the sum of their words' moods."""
    draw = np.random.default_rng(seed)
    texts: list[str] = []
    values: list[int] = []
    while len(texts) < n:
        words = draw.choice(WORDS, size=draw.integers(3, 8))
        value = sum(MOOD.get(word, 0) for word in words)
        if value or kind == "regression":
            texts.append(" ".join(words))
            values.append(value)
    labels = np.array(values, dtype=np.float32) if kind == "regression" else (np.array(values) > 0).astype(np.int64)
    return Split(tuple(texts), labels)


def make_task(kind: str) -> Task:
    """Is the mood of a sentence good, or how good is it? `kind` as in Task."""
    classification = kind == "classification"
    return Task(
        name="mood",
        kind=kind,  # type: ignore[arg-type]
        labels=("bad", "good") if classification else (),
        metrics=("accuracy",) if classification else ("pearson",),
        max_length=16,
        train=split(192, kind, 0),
        dev=split(64, kind, 1),
    )


def make_teacher(task: Task, hidden: int = 24, layers: int = 6) -> Teacher:
    """A BERT of a few thousand weights, trained on the task."""
    torch.manual_seed(0)
    made = tokenizer()
    config = BertConfig(  # type: ignore[call-arg]  # num_labels goes through **kwargs
        vocab_size=made.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=32,
        num_labels=task.outputs,
    )
    model = BertForSequenceClassification(config)
    train = encode(made, task.train, task.max_length)

    def loss(batch):
        return task_loss(model(**batch.inputs).logits, batch.labels, task.kind)

    fit(model, train, loss, Recipe(150, 3e-3), stage="teacher")
    return Teacher(model.eval().requires_grad_(False), made)

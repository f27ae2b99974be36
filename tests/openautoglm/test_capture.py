"""What is captured inside a model equals what the model itself computes."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from openautoglm.distillation.capture import first_layers, recorded, recorded_scores

CONFIG: Any = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "vocab_size": 40,
    "attn_implementation": "eager",
}
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 3, 0, 0]])
MASK = (IDS != 0).long()


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**CONFIG)).eval().bert


@torch.no_grad()
def test_scores_give_the_models_own_attention(bert):
    with recorded_scores(bert.encoder) as scores:
        attentions = bert(IDS, MASK, output_attentions=True).attentions
    assert len(scores) == len(attentions) == 4
    hidden = (MASK == 0)[:, None, None, :]
    for score, attention in zip(scores, attentions, strict=True):
        torch.testing.assert_close(score.masked_fill(hidden, -torch.inf).softmax(-1), attention)


@torch.no_grad()
def test_recorded_keeps_the_order_of_running_and_leaves_no_hook(bert):
    with recorded([*bert.encoder.layer]) as outputs:
        hidden = bert(IDS, MASK, output_hidden_states=True).hidden_states
    for output, expected in zip(outputs, hidden[1:], strict=True):
        assert torch.equal(output, expected)
    bert(IDS, MASK)
    assert len(outputs) == 4


@torch.no_grad()
def test_first_layers_gives_the_hidden_state_there_and_restores_the_encoder(bert):
    hidden = bert(IDS, MASK, output_hidden_states=True).hidden_states
    with first_layers(bert.encoder, 2):
        cut = bert(IDS, MASK).last_hidden_state
    assert torch.equal(cut, hidden[2])
    assert torch.equal(bert(IDS, MASK).last_hidden_state, hidden[4])

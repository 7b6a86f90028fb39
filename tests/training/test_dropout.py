"""Each item's own dropout: whatever shares the batch, however it is padded, also inside attention."""

import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, GPT2Config
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from tclap.models.base import Tokens
from tclap.models.msclap import Gpt2Head
from tclap.models.towers import FirstTokenHead
from tclap.training.dropout import ItemDropout


def dropped(*shape: int, seed=(0,), start: int = 0, count: int = 1, p: float = 0.3, calls: int = 1):
    with ItemDropout(seed, start, count):
        return [functional.dropout(torch.ones(shape), p) for _ in range(calls)]


def test_a_share_is_dropped_and_the_rest_scaled_so_that_the_mean_stays():
    (found,) = dropped(40, 50, 60)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.7])
    # 120 000 draws: a standard deviation of 0.0013 of the share.
    assert (found == 0).float().mean() == pytest.approx(0.3, abs=0.006)
    assert dropped(5, 4, p=0.0)[0].eq(1).all() and dropped(5, 4, p=1.0)[0].eq(0).all()
    with ItemDropout((0,)):
        assert torch.nn.Dropout(0.5).eval()(found) is found


def test_places_items_views_calls_and_seeds_are_drawn_independently():
    base, again = dropped(6, 4000, start=2, count=3, calls=2)
    (other,) = dropped(6, 4000, seed=(1,), start=2, count=3)
    rows = torch.cat([base, again, other]).sub(1)
    off = torch.corrcoef(torch.cat([rows, rows.roll(1, 1)])).fill_diagonal_(0)
    assert off.abs().max() < 0.07  # 36 rows of 4000: 4.4 standard deviations


def test_an_item_draws_the_same_in_any_piece_and_under_any_padding():
    whole = dropped(2 * 7, 5, 6, count=7)[0].unflatten(0, (2, 7))
    for start, stop, length in ((0, 3, 5), (3, 4, 9), (4, 7, 2)):
        (piece,) = dropped(2 * (stop - start), length, 6, start=start, count=stop - start)
        shared = min(length, 5)
        expected = whole[:, start:stop, :shared].flatten(0, 1)
        assert torch.equal(piece[:, :shared], expected)
    with pytest.raises(RuntimeError, match=r"\[7, 2\]"):  # no multiple of the items
        dropped(7, 2, count=3)


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
def test_attention_drops_its_weights(mask):
    query, key = torch.randn(2, 3, 2, 4, 8, dtype=torch.float64)
    allowed = torch.rand(3, 1, 4, 4) > 0.3
    allowed |= torch.eye(4, dtype=torch.bool)
    options = {
        "none": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": allowed},
        "float": {"attn_mask": torch.zeros(3, 1, 4, 4, dtype=torch.float64).masked_fill(~allowed, -1e9)},
    }[mask]
    identity = torch.eye(4, dtype=torch.float64).expand(3, 2, 4, 4)  # the output is the weights themselves
    plain = functional.scaled_dot_product_attention(query, key, identity, scale=0.2, **options)
    with ItemDropout((0,)):
        same = functional.scaled_dot_product_attention(query, key, identity, scale=0.2, **options)
        found = functional.scaled_dot_product_attention(
            query, key, identity, scale=0.2, dropout_p=0.25, **options
        )
    assert torch.equal(same, plain)
    (kept,) = dropped(3, 2, 4, 4, p=0.25)
    torch.testing.assert_close(found, plain * kept)
    assert 0 < (found == 0).sum() < found.numel()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_layers_of_published_models_draw_by_item(kind):
    torch.manual_seed(0)
    options, nothing = {"attn_implementation": "sdpa"}, torch.nn.Identity()
    if kind == "bert":
        config = BertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=8, **options)
        head = FirstTokenHead(BertLayer(config), nothing)
    else:
        config = GPT2Config(n_embd=16, n_head=2, n_layer=1, **options)
        head = Gpt2Head(GPT2Block(config, layer_idx=0), nothing, nothing)
    head.double().train()
    lengths = torch.tensor([3, 9, 4, 4, 7, 5])
    values = torch.randn(6, 9, 16, dtype=torch.float64)

    def run(start: int, stop: int) -> torch.Tensor:
        own = lengths[start:stop]
        with ItemDropout((3,), start, stop - start):
            return head(Tokens(values[start:stop, : own.max()], own))

    state = torch.get_rng_state()
    whole = run(0, 6)
    assert torch.equal(torch.get_rng_state(), state)
    pieces = torch.cat([run(0, 1), run(1, 3), run(3, 6)])
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)
    assert (whole - head.eval()(Tokens(values, lengths))).abs().max() > 1e-3

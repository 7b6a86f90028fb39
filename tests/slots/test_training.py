"""Training the caption reader: what it learns from a batch, that it learns, and that it is the seed's."""

import torch
from torch.nn.functional import cross_entropy

from tclap import files
from tclap.slots import load_reader
from tclap.slots.captions import Captions, LabelledCaption
from tclap.slots.reader import BEGIN, FIRST, INSIDE, LAST, OUTSIDE, PLAIN, Reader, Span
from tclap.slots.training import IGNORED, losses, main, token_labels, train_reader

TIMED = LabelledCaption("first a lamp, then hail", (Span(6, 12, FIRST), Span(19, 23, LAST)))
OFFSETS = [(0, 0), (0, 5), (6, 7), (8, 12), (12, 13), (14, 18), (19, 23), (0, 0)]


def test_labels_of_tokens_by_hand():
    tags, roles = token_labels(TIMED, OFFSETS)
    assert tags == [IGNORED, OUTSIDE, BEGIN, INSIDE, OUTSIDE, OUTSIDE, BEGIN, IGNORED]
    assert roles == [IGNORED, IGNORED, FIRST, FIRST, IGNORED, IGNORED, LAST, IGNORED]
    # Of a plain caption nobody says where events stand.
    tags, roles = token_labels(LabelledCaption("hail", ()), [(0, 0), (0, 4), (0, 0)])
    assert (tags, roles) == ([IGNORED] * 3, [IGNORED, PLAIN, IGNORED])


def test_a_batchs_loss_is_the_mean_over_captions_of_their_mean_over_tokens():
    reader = Reader(rank=2).eval()
    captions = [TIMED, LabelledCaption("hail", ()), LabelledCaption("a gong of the lamp and a river", ())]
    by_caption = []
    for caption in captions:
        tokens, (offsets,) = reader.tokenize([caption.text])
        tags, roles = reader(tokens)
        by_caption.append(
            [
                cross_entropy(logits[0], torch.tensor(labels), ignore_index=IGNORED)
                for logits, labels in zip((tags, roles), token_labels(caption, offsets), strict=True)
            ]
        )
    tags, roles = losses(reader, captions)
    torch.testing.assert_close(tags, by_caption[0][0])  # of the others there are none
    torch.testing.assert_close(roles, torch.stack([roles for _, roles in by_caption]).mean())


def test_a_reader_learns_and_only_its_adapters_and_heads():
    captions = [TIMED, LabelledCaption("a lamp and hail", ())]

    class Two(Captions):
        def draw(self, generator):
            return captions[generator.integers(2)]

    state = torch.get_rng_state()
    reader, history = train_reader(Two(["lamp"]), steps=25, batch=4, lr=5e-3)
    assert torch.equal(torch.get_rng_state(), state)
    assert history["roles"].tail(5).mean() < 0.3 * history["roles"].head(5).mean()
    fresh = Reader()
    frozen = [name for name, parameter in fresh.named_parameters() if not parameter.requires_grad]
    weights = dict(reader.named_parameters())
    assert all(torch.equal(weights[name], dict(fresh.named_parameters())[name]) for name in frozen)
    found = reader.merge().read([caption.text for caption in captions])
    assert (found[0].relation, found[0].events) == ("forward", ("a lamp", "hail"))
    assert found[1].relation == "plain"


def test_the_file_is_the_seeds(tmp_path, capsys):
    hashes = []
    for n, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{n}.safetensors"
        assert main([str(path), "--seed", str(seed), "--steps", "2"]) == 0
        hashes.append(files.sha256_file(path))
        load_reader(path)
    assert hashes[0] == hashes[1] != hashes[2]
    assert path.stat().st_size < 3e6
    assert main([str(path), "--audiocaps", str(tmp_path / "none"), "--steps", "2"]) == 1
    assert "none" in capsys.readouterr().err

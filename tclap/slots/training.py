"""Makes the caption reader that comes with the package, and with ``--held-out`` the paper's experiment's:

    python -m tclap.slots.training reader.safetensors --audiocaps FOLDER --clotho FOLDER [--seed 0]

Without the folders' captions the made-up ones alone are learned from. ``--held-out`` leaves out all text with
one of the evaluation's unseen wordings or a word of a class name of ESC-50 in it.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tclap.arguments import at_least
from tclap.models import minilm
from tclap.progress import progress
from tclap.slots.captions import (
    Captions,
    LabelledCaption,
    is_held_out,
    labelled_captions,
    unlabelled_captions,
)
from tclap.slots.reader import BEGIN, INSIDE, OUTSIDE, PLAIN, Reader

READER = 50  # RNG stream
IGNORED = -100
STEPS, BATCH, LR = 2000, 40, 2e-3
# Of the probability that a caption is timed, by the first sample of benchmarks/time_labels.csv and five
# seeds: the temperature of the least log loss, and a threshold amid those with the most captions right.
TEMPERATURE, THRESHOLD = 1.5, 0.75


def train_reader(
    captions: Captions,
    *,
    seed: int = 0,
    steps: int = STEPS,
    batch: int = BATCH,
    lr: float = LR,
    bf16: bool = False,
) -> tuple[Reader, pd.DataFrame]:
    """A reader trained on ``captions``, not yet merged, and its history: ``step, tags, roles``.

    AdamW with one cycle of the learning rate. ``bf16`` computes in bfloat16, which is faster on a processor
    that has it. ValueError on numbers below 1.
    """
    at_least(1, steps=steps, batch=batch)
    generator = np.random.default_rng([seed, READER])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = Reader(temperature=TEMPERATURE, threshold=THRESHOLD).train()
        parameters = [parameter for parameter in reader.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, lr, total_steps=max(steps, 2), pct_start=0.1
        )
        history = []
        bar = progress(range(steps), "caption reader", quiet=steps < 20)
        batches = _batches(captions, batch, generator)
        for step in bar:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                tags, roles = losses(reader, next(batches))
            optimiser.zero_grad()
            (tags + roles).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            history.append({"step": step, "tags": float(tags.detach()), "roles": float(roles.detach())})
            bar.on_step(history[-1])
    return reader.eval(), pd.DataFrame(history)


def _batches(
    captions: Captions, size: int, generator: np.random.Generator
) -> Iterator[list[LabelledCaption]]:
    """Batches without an end; captions of like length share one."""
    while True:
        drawn = sorted((captions.draw(generator) for _ in range(8 * size)), key=lambda c: len(c.text))
        for n in generator.permutation(8):
            yield drawn[n * size : (n + 1) * size]


def losses(reader: Reader, captions: Sequence[LabelledCaption]) -> tuple[Tensor, Tensor]:
    """Cross-entropies of tags and roles, each caption's mean over its tokens, averaged over captions.

    A plain caption's events are not labelled: it has no tags to learn, and all its tokens are plain.
    """
    tokens, offsets = reader.tokenize([caption.text for caption in captions])
    by_tag, by_role = reader(tokens)
    tags, roles = (
        torch.tensor(rows, device=by_tag.device)
        for rows in zip(*map(token_labels, captions, offsets), strict=True)
    )
    return _mean(by_tag, tags), _mean(by_role, roles)


def _mean(logits: Tensor, labels: Tensor) -> Tensor:
    values = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    counts = (labels != IGNORED).sum(1)
    return (values.sum(1) / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def token_labels(caption: LabelledCaption, offsets: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Each token's tag and role, ``IGNORED`` where there is none to learn."""
    tags, roles = [], []
    for start, end in offsets:
        within = [span for span in caption.spans if span.start <= start and end <= span.end]
        if end <= start:
            tag = role = IGNORED
        elif not caption.spans:
            tag, role = IGNORED, PLAIN
        elif not within:
            tag, role = OUTSIDE, IGNORED
        else:
            tag, role = BEGIN if start == within[0].start else INSIDE, within[0].role
        tags.append(tag)
        roles.append(role)
    return tags, roles


def any_words() -> list[str]:
    """Words of MiniLM's vocabulary, three letters or more, sorted."""
    vocabulary = minilm.load()[1].get_vocab()
    return sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)


def captions_for(
    audiocaps_root: str | Path | None,
    clotho_root: str | Path | None,
    *,
    real: bool = True,
    held_out: bool = False,
) -> Captions:
    """What a reader learns from: with ``real`` captions too, without what :func:`is_held_out`, see above."""

    def allowed(text: str) -> bool:
        return not (held_out and is_held_out(text))

    labelled = labelled_captions(audiocaps_root, clotho_root) if real else []
    unlabelled = unlabelled_captions(audiocaps_root, clotho_root) if real else []
    return Captions(any_words(), labelled, unlabelled, allowed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a reader and write its file; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tclap.slots.training", description=main.__doc__)
    parser.add_argument("out", help="the file to write, *.safetensors")
    parser.add_argument(
        "--audiocaps", help="folder of its csv files; without it and --clotho: no real captions"
    )
    parser.add_argument("--clotho", help="folder of its csv files")
    parser.add_argument("--held-out", action="store_true", help="leave out unseen wordings and class names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster where there is such")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)  # another number gives other bits
    real = bool(chosen.audiocaps or chosen.clotho)
    try:
        captions = captions_for(chosen.audiocaps, chosen.clotho, real=real, held_out=chosen.held_out)
        reader, _ = train_reader(captions, seed=chosen.seed, steps=chosen.steps, bf16=chosen.bf16)
        card = {"seed": chosen.seed, "steps": chosen.steps, "bf16": chosen.bf16}
        card |= {"labelled captions": len(captions.labelled), "held out": chosen.held_out}
        reader.save(chosen.out, **card)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

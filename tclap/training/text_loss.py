"""A text-only auxiliary loss: what the words for order mean.

"A before B" and "B after A" mean the same. A text tower that has to learn this from audio stays
on an order-blind plateau (loss log 2 an inversion pair, 2-way accuracy 50 %), so its head learns
it from captions before audio comes in, and keeps it by a few captions a step afterwards.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tclap.data.captions import FIRST_SLOT, ORDERED, SECOND_SLOT, SIMULTANEOUS, SINGLE, event_ids
from tclap.data.composites import Phrase
from tclap.losses import temporal_nce
from tclap.models.base import AudioTextModel
from tclap.training.features import TextFeatures

STREAM = 1000  # RNG stream, apart from those of the phases of training
SCALE = 20.0


class TextOnlyLoss:
    """A text-only loss for the words of order.

    Two wordings of each of a pair's three views (its order, the inverse, both at once) meet in
    :func:`tclap.losses.temporal_nce` as if one of them were audio. And a caption must find, among
    the prompts that name one slot ("the first sound is ..."), those that are true of it: "A
    before B" says that A is first and B second, "A while B" that each is either, "A" that it is both.

    ``labels`` are the names of the events; ``ordered`` and ``simultaneous`` the wordings of two, in which
    ``{a}`` sounds first. A step's draw depends on (seed, step) alone.
    """

    def __init__(
        self,
        model: AudioTextModel,
        text: TextFeatures,
        labels: list[str],
        seed: int,
        *,
        ordered: Sequence[str] = ORDERED,
        simultaneous: Sequence[str] = SIMULTANEOUS,
    ) -> None:
        self.model, self.text, self.labels, self.seed = model, text, labels, seed
        self._templates = (ordered, ordered, simultaneous)
        self._slots = [slot.format(a=label) for slot in (FIRST_SLOT, SECOND_SLOT) for label in labels]

    def losses(self, step: int, batch: int) -> dict[str, Tensor]:
        """The terms ``loss_contrast`` and ``loss_slots`` on ``batch`` pairs."""
        count, (pairs, single, captions) = len(self.labels), self._captions(step, batch)
        # In one call, because a recurrent head takes its steps in time whatever the number of captions.
        found = self.model.embed_tokens(self.text(captions + self._slots))
        embeddings, prompts = found[: len(captions)], found[len(captions) :]
        views = embeddings[: 6 * batch].reshape(2, 3, batch, -1)
        events = [p.events for view in self._phrases(pairs) for p in view]
        ids = event_ids(events).reshape(3, batch)
        contrast = temporal_nce(views[0], views[1], SCALE, events=ids)

        one_hot = torch.eye(count, device=found.device)
        i, j = one_hot[pairs[:, 0]], one_hot[pairs[:, 1]]
        alone, both = one_hot[single], (i + j) / 2
        first, second = torch.cat([i, j, both, i, j, both, alone]), torch.cat([j, i, both, j, i, both, alone])
        slots = cross_entropy(SCALE * embeddings @ prompts.T, torch.cat([first, second], dim=1) / 2)
        return {"loss_contrast": contrast, "loss_slots": slots}

    def vocabulary(self, steps: int, batch: int) -> set[str]:
        """Every caption of the losses of ``steps`` steps."""
        return set(self._slots).union(*(self._captions(step, batch)[2] for step in range(steps)))

    def _captions(self, step: int, batch: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Pairs and single events by their labels' indices; captions of both, two for each view of a pair."""
        rng = np.random.default_rng([self.seed, STREAM, step])
        pairs = self._draw(batch, rng)
        single = rng.integers(len(self.labels), size=max(batch // 2, 1))
        captions = self._wordings(pairs, rng) + self._wordings(pairs, rng)
        captions += [SINGLE[rng.integers(len(SINGLE))].format(a=self.labels[k]) for k in single]
        return pairs, single, captions

    def accuracy(self, pairs: int = 200) -> float:
        """Percent of pairs whose wording is nearer to another of its own order than of the inverse."""
        rng = np.random.default_rng([self.seed, STREAM])
        drawn = self._draw(pairs, rng)
        x, y = (
            self.model.embed_tokens(self.text(self._wordings(drawn, rng))).reshape(3, pairs, -1)
            for _ in range(2)
        )
        return 100 * float(((x[0] * y[0]).sum(-1) > (x[0] * y[1]).sum(-1)).float().mean())

    def _draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        count = len(self.labels)
        first = rng.integers(count, size=size)
        return np.stack([first, (first + rng.integers(1, count, size=size)) % count], axis=1)

    def _phrases(self, pairs: np.ndarray) -> list[list[Phrase]]:
        named = [(self.labels[i], self.labels[j]) for i, j in pairs]
        forward = [Phrase(a, "before", b) for a, b in named]
        return [forward, [p.inverted for p in forward], [Phrase(a, "while", b) for a, b in named]]

    def _wordings(self, pairs: np.ndarray, rng: np.random.Generator) -> list[str]:
        captions = []
        for view, templates in zip(self._phrases(pairs), self._templates, strict=True):
            captions += [templates[rng.integers(len(templates))].format(a=p.left, b=p.right) for p in view]
        return captions

"""What an audio trunk makes of composites and single clips, computed once.

Waveforms are rendered as the evaluation plays them, without augmentation, and go through the
frozen trunk in batches. With a store the outputs are kept on disk by what they were made of (the
trunk's weights, the clips' files, the placement, the view), and mapped into memory; without one they
are held in memory in single precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap import files
from tclap.data.composites import ClipAudio, render, render_single
from tclap.data.conditions import Arrangement
from tclap.models.base import AudioTextModel
from tclap.models.windows import Windows
from tclap.progress import progress
from tclap.training.store import FeatureStore, StoredRows, content_key

PLACEMENT = ("policy", "window", "sample_rate", "gap", "cut")
ENDS = tuple(f"{name}_{end}" for name in ("start", "length", "gain") for end in ("i", "j"))


class Whole(NamedTuple):
    """A clip that is no part of a composite, such as a captioned one that retrieval looks for."""

    clip_id: str


Features = Tensor | StoredRows
Item = str | tuple[Mapping, str] | Whole | Arrangement


class AudioFeatures:
    """Trunk outputs of a model; ``[rows] -> [n, T, D]`` float32 on the CPU.

    Args:
        model: whose audio trunk is used; it must not change.
        clips: the clips table, for the files.
        clip_audio: reads the clips at the model's sample rate.
        store: keeps the outputs; None: they are held in memory.
    """

    def __init__(
        self,
        model: AudioTextModel,
        clips: pd.DataFrame,
        clip_audio: ClipAudio,
        store: FeatureStore | None = None,
    ) -> None:
        self.model, self.clip_audio, self.store = model, clip_audio, store
        self._code = files.hash_code("audio.py", "data/composites.py", "models")
        self._conditions_code = files.hash_code("data/conditions.py")
        self._files = dict(zip(clips["clip_id"], clips["path"], strict=True))
        self._file_hash = lru_cache(maxsize=None)(lambda clip_id: files.sha256_file(self._files[clip_id]))

    def outputs(self, items: Sequence[Item], what: str) -> Features:
        """Outputs of items, in order.

        Args:
            items: a clip id is that clip as :func:`tclap.data.composites.render_single` plays it;
                a row of a placed manifest with the name of a view is that composite; a
                :class:`Whole` is a clip as it is, of which the model hears one window; an
                :class:`~tclap.data.conditions.Arrangement` is itself.
            what: shown beside the progress.

        Raises:
            ValueError: when waveforms of one batch differ in length.
        """
        batch = self.model.batch_size
        self.model.eval()

        def make(positions: Sequence[int]) -> Tensor:
            waveforms = torch.from_numpy(np.stack([self._waveform(items[n]) for n in positions]))
            with torch.inference_mode():
                return self.model.audio_trunk(waveforms.to(self.model.log_scale.device)).cpu()

        if self.store is not None:
            return self.store.fetch([self._key(item) for item in items], make, what=what, batch=batch)
        starts = range(0, len(items), batch)
        rows = torch.empty(0)
        for n in progress(starts, what, quiet=len(items) < 512):
            block = make(range(n, min(n + batch, len(items))))
            if n == 0:
                # Filled in place: joining blocks at the end would take the memory twice.
                rows = torch.empty(len(items), *block.shape[1:])
            rows[n : n + len(block)] = block
        return rows

    def _waveform(self, item: Item) -> np.ndarray:
        if isinstance(item, str):
            return render_single(self.clip_audio(item), self.model.window, self.model.sample_rate)
        if isinstance(item, Whole):
            return Windows(self.model.sample_rate, self.model.window).fitted(self.clip_audio(item.clip_id))
        if isinstance(item, Arrangement):
            return item.render(self.clip_audio)
        return render(*item, self.clip_audio)

    def _key(self, item: Item) -> str:
        made_by = (self._code, self.model.audio_trunk.fingerprint)
        if isinstance(item, (str, Whole)):
            kind, clip_id = ("single", item) if isinstance(item, str) else ("whole", item.clip_id)
            played = (self.model.window, self.model.sample_rate)
            return content_key(*made_by, kind, self._file_hash(clip_id), *played)
        if isinstance(item, Arrangement):
            files = [self._file_hash(clip_id) for clip_id in item.clip_ids]
            return content_key(*made_by, self._conditions_code, "arrangement", *files, item.described())
        row, view = item
        placement = {name: row[name] for name in (*PLACEMENT, *ENDS)}
        return content_key(*made_by, view, *(self._file_hash(row[f"clip_{end}"]) for end in "ij"), placement)

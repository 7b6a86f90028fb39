"""What frozen trunks make of audio and captions, computed once and kept in memory or on disk.

Trunks are frozen in post-pretraining, so their outputs change neither from step to step nor from variant
to variant. On disk a list of items is one file, named by the hash of all that its outputs are made of: the
trunk's weights, the code, the items. It is written aside and renamed, mapped into memory when read, and
compared with the hash in its header.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tclap import files
from tclap.data.composites import ClipAudio
from tclap.data.conditions import Arrangement, Sound, waveform_of
from tclap.models.base import AudioTextModel, Tokens
from tclap.models.weights import read_checkpoint, write_checkpoint
from tclap.models.windows import Windows
from tclap.progress import progress
from tclap.training.distributed import Processes

log = logging.getLogger(__name__)

KEPT = "features"  # in the header of a file of a store
MODULES = ("composites", "conditions", "synthesis")  # of data, by which waveforms are rendered
PLACEMENT = ("policy", "window", "sample_rate", "gap", "cut")
ENDS = tuple(
    f"{name}_{end}" for name in ("start", "length", "gain", "start_whole", "gain_whole") for end in "ij"
)


class FeatureStore:
    """Trunk outputs in a folder, which any number of processes may use at once.

    ``dtype`` is what they are rounded to: float16, bfloat16 or float32.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        self.folder, self.dtype = Path(folder), dtype

    def fetch(
        self, made_of: Sequence[Any], make: Callable[[], dict[str, Tensor]], processes: Processes
    ) -> dict[str, Tensor]:
        """Tensors mapped from the file of ``made_of`` (plain values).

        It is made first unless the main process finds it whole: ``make`` is called by all ``processes``, and
        the main one writes. OSError when the file cannot be written, or a process does not see it.
        """
        path = self.folder / f"features-{files.hash_json([*made_of, str(self.dtype)])[:32]}.safetensors"
        if not processes.on_main(lambda: _is_whole(path)):
            made = make()
            processes.on_main(lambda: write_checkpoint(path, KEPT, {}, made))
        found: dict[str, Tensor] = {}
        # Each reads the file, and an error of one is one of all.
        list(processes.share(processes.world_size, lambda _: found.update(load_file(path))))
        return found


def _is_whole(path: Path) -> bool:
    try:
        read_checkpoint(path, KEPT)
    except FileNotFoundError:
        return False
    except ValueError as error:
        log.warning("%s It is made again.", error)
        return False
    return True


def rounded(outputs: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy on the CPU in a dtype; ValueError where a value is too large for it."""
    outputs = outputs.detach().cpu()
    found = outputs.to(dtype, copy=True)
    if found.isinf().any() and not outputs.isinf().any():
        largest = outputs.abs().max().item()
        raise ValueError(f"a trunk output of {largest:g} is too large for {dtype}, use another dtype.")
    return found


class Whole(NamedTuple):
    """A clip that is no part of a composite, such as a captioned one that retrieval looks for."""

    clip_id: str


class Part(NamedTuple):
    """A part of a sound in time, from ``start`` to ``end`` of its duration, as a recording of its own."""

    sound: Sound
    start: float
    end: float


class AudioFeatures:
    """Outputs of a model's audio trunk, of waveforms as the evaluation plays them, without augmentation.

    What a store keeps in bfloat16 is computed in it, which is the faster the larger the trunk is.

    ``clip_audio`` reads the clips at the model's sample rate. Without a ``store`` the outputs are held in
    memory. Of several ``processes`` each computes its part of the batches that one would.
    """

    def __init__(
        self,
        model: AudioTextModel,
        clip_audio: ClipAudio,
        store: FeatureStore | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.clip_audio, self.store = model, clip_audio, store
        self._processes = processes or Processes()
        self._code = files.hash_code("audio.py", *(f"data/{m}.py" for m in MODULES), "models")
        self._last: tuple[Sound, np.ndarray] | None = None  # the sound that was cut last, and its waveform
        self._file_hash = lru_cache(maxsize=None)(
            lambda clip_id: files.sha256_file(clip_audio.paths[clip_id])
        )

    def outputs(self, items: Sequence[Sound | Whole | Part], what: str) -> Tensor:
        """Outputs ``[n, T, D]`` of items, in order, on the CPU, in the store's dtype or float32.

        Of a :class:`Whole` clip one window is taken; fewer items than a batch are not stored. ``what`` is
        shown beside the progress. ValueError when waveforms of one batch differ in length.
        """
        store = self.store
        if store is None or len(items) < self.model.batch_size:
            return self._outputs(items, what, torch.float32)
        played = (self.model.window, self.model.sample_rate)
        made_of: list[Any] = ["audio", self._code, self.model.audio_trunk.fingerprint, played]
        made_of += map(self._described, items)

        def make() -> dict[str, Tensor]:
            return {"rows": self._outputs(items, what, store.dtype)}

        return store.fetch(made_of, make, self._processes)["rows"]

    def _outputs(self, items: Sequence[Sound | Whole | Part], what: str, dtype: torch.dtype) -> Tensor:
        self.model.eval()
        batch, rows = self.model.batch_size, torch.empty(0)
        starts, device = range(0, len(items), batch), self.model.log_scale.device
        faster = torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

        def outputs(number: int) -> Tensor:
            part = items[starts[number] : starts[number] + batch]
            waveforms = torch.from_numpy(np.stack([self._waveform(item) for item in part]))
            with torch.inference_mode(), faster:
                return rounded(self.model.audio_trunk(waveforms.to(device)), dtype)

        blocks = self._processes.share(len(starts), outputs)
        for n, block in zip(progress(starts, what, quiet=len(items) < 512), blocks, strict=True):
            if n == 0:
                # Filled in place: joining blocks at the end would take the memory twice.
                rows = torch.empty(len(items), *block.shape[1:], dtype=dtype)
            rows[n : n + batch] = block
        return rows

    def _waveform(self, item: Sound | Whole | Part) -> np.ndarray:
        model = self.model
        if not isinstance(item, Whole | Part):
            return waveform_of(item, self.clip_audio, model.window)
        windows = Windows(model.sample_rate, model.window, padding=model.padding)
        if isinstance(item, Whole):
            return windows.fitted(self.clip_audio(item.clip_id))
        if self._last is None or self._last[0] is not item.sound:  # parts of one sound follow each other
            self._last = item.sound, self._waveform(item.sound)
        waveform = self._last[1]
        start, end = (round(at * len(waveform)) for at in (item.start, item.end))
        return windows.fitted(waveform[start : max(end, start + 1)])

    def _described(self, item: Sound | Whole | Part) -> list:
        """All that decides what is heard of an item, whatever its clips are called."""
        if isinstance(item, Part):
            return ["part", item.start, item.end, *self._described(item.sound)]
        if isinstance(item, str):
            return ["single", self._file_hash(item)]
        if isinstance(item, Whole):
            return ["whole", self._file_hash(item.clip_id)]
        if isinstance(item, Arrangement):
            return ["arrangement", *map(self._file_hash, item.clip_ids), item.described()]
        row, view = item
        clips = [self._file_hash(row[f"clip_{end}"]) for end in "ij"]
        return [view, *clips, *(row[name] for name in (*PLACEMENT, *ENDS))]


class TextFeatures:
    """A text trunk's outputs by caption, returned as :class:`Tokens` on ``device``.

    A list of captions is encoded in one fixed way, so that the same list gives the same bits whichever
    process does it: a trunk's last bits depend on what shares the batch. Without a ``store`` the outputs
    are held in memory. Of several ``processes`` each encodes its part of the batches of a list that is added.
    """

    BATCH = 128

    def __init__(
        self,
        text_trunk: nn.Module,
        captions: Iterable[str] = (),
        store: FeatureStore | None = None,
        *,
        device: torch.device | str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        self._trunk, self._store, self._device = text_trunk, store, device
        self._processes = processes or Processes()
        self._rows: dict[str, Tensor] = {}
        self._lengths: dict[str, int] = {}
        self.add(captions)

    def add(self, captions: Iterable[str]) -> None:
        """Encode, or read from the store, the captions of a list that are not there yet."""
        self._learn(captions, self._store, self._processes)

    def __call__(self, captions: Sequence[str]) -> Tokens:
        """Right-padded trunk outputs of captions, float32; those not added are encoded and held in memory."""
        self._learn(captions, None, Processes())
        rows = [self._rows[caption] for caption in captions]
        lengths = torch.tensor([self._lengths[caption] for caption in captions])
        return Tokens(pad_sequence(rows, True).to(self._device).float(), lengths.to(self._device))

    def _learn(self, captions: Iterable[str], store: FeatureStore | None, processes: Processes) -> None:
        new = sorted(set(captions) - self._rows.keys())
        if not new:
            return
        if store is None:
            found = self._encoded(new, processes)
        else:
            made_of = [files.hash_code("models"), self._trunk.fingerprint, *new]
            found = store.fetch(made_of, lambda: self._encoded(new, processes), processes)
        lengths = found["lengths"].tolist()
        self._lengths |= zip(new, lengths, strict=True)
        self._rows |= zip(new, found["values"].split(lengths), strict=True)

    @torch.no_grad()
    def _encoded(self, captions: Sequence[str], processes: Processes) -> dict[str, Tensor]:
        """``values [T, D]`` of captions one after the other, and ``lengths``, how many rows each has."""
        rows: dict[str, Tensor] = {}
        dtype = torch.float32 if self._store is None else self._store.dtype
        # Neighbours in length share a batch: little padding.
        ordered = sorted(captions, key=lambda caption: (len(caption.split()), caption))
        batches = [ordered[start : start + self.BATCH] for start in range(0, len(ordered), self.BATCH)]

        def outputs(number: int) -> list[Tensor]:
            values, lengths = self._trunk(batches[number])
            return [
                rounded(row[:length], dtype) for row, length in zip(values, lengths.tolist(), strict=True)
            ]

        shown = progress(batches, "captions through the text trunk", quiet=len(batches) < 8)
        for batch, found in zip(shown, processes.share(len(batches), outputs), strict=True):
            rows |= zip(batch, found, strict=True)
        parts = [rows[caption] for caption in captions]
        return {"values": torch.cat(parts), "lengths": torch.tensor([len(part) for part in parts])}

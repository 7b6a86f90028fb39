"""Does composing cached mel power, and keeping trunk outputs, pay?

One table: milliseconds for 96 four-second composites on one thread, each way of making the audio
head's input, and its ratio to the straightforward way (render waveforms, run the whole trunk) in the
same run.
"""

import tempfile

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from tclap.data.batches import SegmentBank, composite_batch
from tclap.data.clips import load_clips
from tclap.data.composites import ClipAudio, draw_pairs, place, render
from tclap.models.registry import load_model

PAIRS = 32


def milliseconds(function) -> float:
    """Median of the runs of two seconds, after one to warm up."""
    return 1000 * Timer("function()", globals={"function": function}).blocked_autorange(min_run_time=2).median


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = load_clips(
            "synthetic", folder, labels=["dog", "rain", "siren", "engine"], clips_per_class={"post": 20}
        )
        torch.manual_seed(0)
        model = load_model("compact")
        audio = ClipAudio(clips, model.sample_rate)
        pairs = place(draw_pairs(clips, "post", PAIRS, seed=0), audio, model.window)
        bank = SegmentBank(clips, audio, model.audio_trunk.mel, model.window)
        trunk = model.audio_trunk
        rows = [
            (row, view) for row in pairs.to_dict("records") for view in ("forward", "reversed", "overlap")
        ]

        def from_waveforms():
            return trunk(torch.from_numpy(np.stack([render(row, view, audio) for row, view in rows])))

        def from_mel_power():
            return trunk.from_log_mel(composite_batch(bank, pairs, trunk.mel.log, None).log_mel)

        with torch.inference_mode():
            kept = from_mel_power()
            ways = {
                "waveforms, mel, trunk": from_waveforms,
                "mel power composed, trunk": from_mel_power,
                "trunk outputs kept": lambda: kept[torch.randperm(len(kept))],
            }
            times = {name: milliseconds(way) for name, way in ways.items()}
    table = pd.DataFrame({"ms": times})
    table["times faster"] = table["ms"].iloc[0] / table["ms"]
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()

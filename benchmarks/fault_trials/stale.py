"""Stale results: data, a configuration or code that changed beneath a run, and what is made again.

Each change is made to copies of the checkout and of a small data set in a real layout, with the run's stamps
written as if every step were done; a dry run of the graph then says which steps it would make again. Good is:
all steps that depend on the change, and no result is kept that does.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from artifact import paths
from benchmarks.fault_trials.record import Outcome, workshop
from tclap import audio

CODE = ("tclap", "artifact", "figures", "paper", "workflow", "configs", "notebooks")
STAMP_ALL = """
import os
import pandas as pd
from artifact import made, paths, steps
from artifact.config import load_config, settings
data = settings(os.environ)
config = steps.with_folds(load_config(data.profile, data.dataset_options()), data.esc50_root)
content = steps.data_content(config, data.esc50_root) | {"weights": None}
run = paths.run(data.profile, data.base)
(run / "data").mkdir(parents=True)
pd.DataFrame(columns=["path", "sha256"]).to_parquet(run / "data" / "clips.parquet")
for name, fingerprint in steps.fingerprints(config, data.base, content).items():
    made.write(run / "steps" / f"{name}.json", fingerprint, [])
"""


class Copy:
    """A checkout, a root with all stamps, and data sets, of their own."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.root, self.data = (folder / name for name in ("checkout", "root", "data"))
        for name in CODE:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(paths.CHECKOUT / name, self.checkout / name, ignore=ignored)
        with open(self.checkout / "configs" / "esc50.yaml", "a") as config:
            config.write("retrieval_sets: [clotho, audiocaps]\n")
        self.root.mkdir()
        write_esc50(self.data / "esc50")
        found = f"{self.checkout}:{self.checkout / 'workflow'}"
        told = {"TCLAP_ROOT": str(self.root), "PYTHONPATH": found, "PROFILE": "esc50", "BASE": "sfx"}
        self.environ = os.environ | told | {"ESC50_ROOT": str(self.data / "esc50")}
        for name in ("CLOTHO_ROOT", "AUDIOCAPS_ROOT"):
            self.environ.pop(name, None)

    def stamp(self) -> None:
        """Write the stamps of a run that is complete."""
        subprocess.run([sys.executable, "-c", STAMP_ALL], check=True, env=self.environ, cwd=self.root)

    def again(self) -> tuple[dict[str, int], str]:
        """How many jobs of each rule a dry run would do, and what it says."""
        snakefile = str(self.checkout / "workflow" / "Snakefile")
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", str(self.root)]
        command += ["--cores", "1", "--nolock", "--rerun-triggers", "input", "--dry-run", "--", "all"]
        told = {"env": self.environ, "cwd": self.root, "capture_output": True, "text": True}
        done = subprocess.run(command, **told)
        said = done.stdout + done.stderr
        table = re.search(r"^job +count\n[- ]+\n(.*?)^total", said, re.M | re.S)
        rows = dict(line.split() for line in table[1].splitlines()) if table else {}
        return {rule: int(count) for rule, count in rows.items() if rule != "all"}, said


def write_esc50(root: Path) -> None:
    """ESC-50's layout, four classes in five folds, two clips of noise each."""
    rows, rng = [], np.random.default_rng(0)
    for fold in range(1, 6):
        for label in ("dog", "rain", "crow", "siren"):
            for take in "AB":
                name = f"{fold}-{label}-{take}.wav"
                audio.write_wav(root / "audio" / name, rng.uniform(-0.5, 0.5, 4000), 8000)
                rows.append([name, fold, label, True, f"{fold}{label}{take}"])
    (root / "meta").mkdir()
    columns = ["filename", "fold", "category", "esc10", "src_file"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "meta" / "esc50.csv", index=False)


def write_clotho(root: Path) -> None:
    """Three captioned clips in Clotho's layout."""
    names = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    rows = [",".join(names), *(f"{n}.wav,a,b,c,d,e" for n in range(3))]
    for n in range(3):
        audio.write_wav(root / f"{n}.wav", np.full(800, 0.1 * n), 8000)
    (root / "clotho_captions_evaluation.csv").write_text("\n".join(rows))


def write_audiocaps(root: Path) -> None:
    """Three captioned clips in AudioCaps' layout."""
    rows = ["audiocap_id,youtube_id,start_time,caption", *(f"{n},video{n},0,a sound" for n in range(3))]
    for n in range(3):
        audio.write_wav(root / f"video{n}.wav", np.full(800, 0.1 * n), 8000)
    (root / "test.csv").write_text("\n".join(rows))


def replace(path: Path, before: str, after: str) -> None:
    """Change a text in a file, which looks as old as it was."""
    text = path.read_text(encoding="utf-8")
    if before not in text:
        raise ValueError(f"{path} has no {before!r}")
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def audio_replaced(copy: Copy) -> None:
    audio.write_wav(copy.data / "esc50" / "audio" / "1-dog-A.wav", np.full(4000, 0.1), 8000)


def csv_edited(copy: Copy) -> None:
    replace(copy.data / "esc50" / "meta" / "esc50.csv", "2-rain-A.wav,2,rain", "2-rain-A.wav,2,dog")


def audio_gone(copy: Copy) -> None:
    (copy.data / "esc50" / "audio" / "1-dog-A.wav").unlink()


def clotho_appears(copy: Copy) -> None:
    write_clotho(copy.root / "data" / "clotho")


def audiocaps_appears(copy: Copy) -> None:
    write_audiocaps(copy.data / "audiocaps")
    copy.environ["AUDIOCAPS_ROOT"] = str(copy.data / "audiocaps")


def caption_edited(copy: Copy) -> None:
    replace(copy.root / "data" / "clotho" / "clotho_captions_evaluation.csv", "0.wav,a", "0.wav,another")


def config_edited(copy: Copy) -> None:
    replace(copy.checkout / "configs" / "esc50.yaml", "test_pairs: ", "test_pairs: 1")


def loss_edited(copy: Copy) -> None:
    replace(copy.checkout / "tclap" / "losses.py", "import", "# edited\nimport")


def tasks_edited(copy: Copy) -> None:
    replace(copy.checkout / "tclap" / "evaluation" / "tasks.py", "import", "# edited\nimport")


def notebook_edited(copy: Copy) -> None:
    replace(copy.checkout / "notebooks" / "05_order_from_text.ipynb", '"cells"', ' "cells"')


def figure_edited(copy: Copy) -> None:
    replace(copy.checkout / "figures" / "curves.py", "import", "# edited\nimport")


def nothing(copy: Copy) -> None:
    for path in copy.data.rglob("*.wav"):
        path.touch()


# What is changed; what it is changed from; rules that have to run again; rules that must not.
DATA = {"data_construction", "base_model", "post_pretraining", "evaluation", "summary", "tables_and_numbers"}
TRAINED = DATA - {"data_construction"}
EVALUATED = TRAINED - {"base_model", "post_pretraining"}
CHANGES: dict[str, tuple[Callable[[Copy], None], Callable[[Copy], None] | None, set[str], set[str]]] = {
    "nothing but times": (nothing, None, set(), DATA | {"figure"}),
    "an audio file replaced": (audio_replaced, None, DATA, set()),
    "a row of the csv edited": (csv_edited, None, DATA, set()),
    "Clotho appears in its default folder": (clotho_appears, None, DATA, set()),
    "AudioCaps appears by its variable": (audiocaps_appears, None, DATA, set()),
    "a caption of Clotho edited": (caption_edited, clotho_appears, DATA, set()),
    "the configuration edited": (config_edited, None, DATA, set()),
    "code edited: the loss": (loss_edited, None, TRAINED, {"data_construction"}),
    "code edited: the tasks": (tasks_edited, None, DATA, set()),
    "code edited: notebook 05": (notebook_edited, None, {"order_from_text", "summary"}, TRAINED - EVALUATED),
    "code edited: a figure": (
        figure_edited,
        None,
        {"figure", "tables_and_numbers"},
        DATA - {"tables_and_numbers"},
    ),
    "an audio file gone": (audio_gone, None, set(), DATA),
}


def trial(name: str) -> Outcome:
    """Make a change, and say what a dry run would make again."""
    change, before, wanted, unwanted = CHANGES[name]
    folder = workshop() / "stale"
    shutil.rmtree(folder, ignore_errors=True)
    copy = Copy(folder)
    if before is not None:
        before(copy)
    copy.stamp()
    change(copy)
    again, said = copy.again()
    refused = re.findall("^error: (.*)$", said, re.M)
    if name.endswith("gone"):
        good = bool(refused) and "1-dog-A.wav" in refused[0]
        return Outcome(good, "refused, naming the file" if good else said[-300:])
    good = not refused and wanted <= again.keys() and not unwanted & again.keys()
    listed = ", ".join(f"{rule} {count}" if count > 1 else rule for rule, count in sorted(again.items()))
    return Outcome(good, f"made again: {listed or 'nothing'}" if good else f"made again: {listed}; {refused}")

"""What a run was, as macros for the paper: its name and code, which parts it has, its settings and sizes."""

from __future__ import annotations

from collections.abc import Iterator

from figures import controls
from figures.read import has_random_weights
from figures.style import RANDOM_WEIGHTS
from paper import latex
from tclap.training.schedule import PRESETS

SLOTS = ("clap-slots", "t-clap-slots")
STAGES = ("base", "post", "validation", "test")
PHASES = {"warm_up": "WarmUp", "base_training": "BaseTraining", "post_pretraining": "Post", "slots": "Reader"}
SETTINGS = ("steps", "lr", "batch", "replay_batch", "text_loss_batch", "pool_pairs", "pool_items", "pool")
OPTIMISERS = {"adam": "Adam", "adamw": "AdamW"}
PACKAGES = {"torch": "Torch", "numpy": "Numpy", "transformers": "Transformers"}


def words(text: str) -> str:
    """``text_to_audio`` as ``TextToAudio``, ``residual-segments`` as ``ResidualSegments``."""
    return "".join(part.capitalize() for part in text.replace("-", "_").split("_"))


def yes(condition: object) -> str:
    """What a ``has...`` macro prints."""
    return "yes" if condition else ""


def of_run(summary: dict) -> Iterator[tuple[str, str]]:
    """Profile, base, seeds, classes, clips a stage, and the code that made the run."""
    warning = rf"\textbf{{{RANDOM_WEIGHTS}}}" if has_random_weights(summary) else ""
    yield "weightswarning", warning
    yield "profile", latex.escape(summary["profile"])
    yield "base", latex.escape(summary["base"])
    yield "seeds", str(len(summary["seeds"]))
    yield "seedphrase", f"{len(summary['seeds'])} seed{'' if len(summary['seeds']) == 1 else 's'}"
    yield "seedlist", ", ".join(str(seed) for seed in summary["seeds"])
    classes = summary.get("classes")
    yield "classes", latex.number(classes, 0)
    yield "ClassesHalf", latex.number(classes and max(classes // 2, 2), 0)
    clips = summary.get("clips") or {}
    for stage in dict.fromkeys([*STAGES, *(stage for stage in clips if stage.isalpha())]):
        yield f"Clips{stage.capitalize()}", latex.number(clips.get(stage), 0)
    made = summary.get("provenance") or {}
    git = made.get("git") or {}
    yield "commit", (git.get("commit") or latex.DASH)[:12]
    yield "uncommitted", " with uncommitted changes" if git.get("dirty") else ""
    yield "PythonVersion", latex.escape(made.get("python") or latex.DASH)
    for package, word in PACKAGES.items():
        yield f"{word}Version", latex.escape((made.get("packages") or {}).get(package) or latex.DASH)


def of_parts(summary: dict) -> Iterator[tuple[str, str]]:
    """Which parts of the text have something to speak of in this run."""
    post = settings(summary).get("post_pretraining") or {}
    yield "hascontrols", yes(summary.get("controls"))
    yield "hasholdout", yes(controls.entry(summary, "t-clap-half", "hold-out", "none seen"))
    yield "hasslots", yes(set(SLOTS) & set(summary["models"]))
    yield "hasslotablation", yes(summary.get("slot_ablation"))
    yield "haslessons", yes(post.get("text_loss_batch"))
    yield "haspublishedrecipe", yes(post.get("preset") == "published")
    galleries = (summary["models"].get("clap") or {}).get("retrieval") or {}
    yield "hascaptioned", yes({"clotho", "audiocaps"} & set(galleries))


def settings(summary: dict) -> dict:
    """The run's configuration as its provenance has it; empty where it is not known."""
    return (summary.get("provenance") or {}).get("config") or {}


def of_settings(summary: dict) -> Iterator[tuple[str, str]]:
    """Sizes of the evaluation and of each phase of training, the base model's shape and its weights."""
    config = settings(summary)
    for name in ("test_pairs", "validation_pairs", "control_pairs"):
        yield words(name), latex.number(config.get(name), 0)
    for phase, word in PHASES.items():
        values = config.get(phase) or {}
        for name in SETTINGS:
            yield f"{word}{words(name)}", latex.plain(values.get(name))
        preset = PRESETS.get(values.get("preset"), {})
        yield f"{word}Optimiser", OPTIMISERS.get(preset.get("optimiser"), latex.DASH)
        decay = values.get("weight_decay")
        yield f"{word}WeightDecay", latex.plain(preset.get("weight_decay") if decay is None else decay)
        yield f"{word}ClipNorm", latex.plain(preset.get("clip_norm"))
    parts = (config.get("slots") or {}).get("parts")
    yield "SlotParts", latex.enumeration([latex.percent(part) for part in parts or ()])
    model = summary.get("model") or {}
    for name in ("window", "dim", "width", "hidden", "mels"):
        yield f"Model{words(name)}", latex.plain(model.get(name))
    rate = model.get("sample_rate")
    yield "ModelKilohertz", latex.plain(rate and rate / 1000)
    for name in ("n_fft", "hop"):
        yield (
            f"Model{words(name)}Milliseconds",
            latex.plain(model[name] / rate * 1000 if rate and name in model else None),
        )
    weights = summary.get("weights") or {}
    base = weights.get("clap", {})
    for part in ("audio_trunk", "audio_head", "text_head"):
        yield f"Weights{words(part)}", latex.thousands(base.get(part))
    trained = [count for part, count in weights.get("t-clap", {}).items() if part != "audio_trunk"]
    yield "WeightsTrained", latex.thousands(sum(trained) or None)
    yield "WeightsReader", latex.thousands(weights.get("clap-slots", {}).get("reader"))

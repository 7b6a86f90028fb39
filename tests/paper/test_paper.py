"""The paper: what its text may state itself, that all it refers to is there, that it builds for any run."""

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import made_up
import pytest
from matplotlib.figure import Figure

from artifact import compare, paths
from figures import read, scores
from figures.registry import FIGURES, build
from figures.style import COMPARED
from paper import numbers, tables
from tclap.data.captions import FIRST_SLOT, SEEN_WORDINGS, SINGLE, UNSEEN_ORDERED
from tclap.data.composites import BOUNDARY
from tclap.data.datasets import synthetic
from tclap.evaluation import controls, statistics, tasks
from tclap.evaluation.retrieval import DEPTH
from tclap.training.schedule import PRESETS

PAPER = paths.CHECKOUT / "paper"
LATEX = ("latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "main.tex")
OVERFULL = 5.0  # points


def uncommented(path: Path) -> str:
    """A file's TeX without comments."""
    return re.sub(r"(?<!\\)%.*", "", path.read_text(encoding="utf-8"))


SECTIONS = {path.stem: uncommented(path) for path in sorted((PAPER / "sections").glob("*.tex"))}
MAIN = uncommented(PAPER / "main.tex")
TEX = "\n".join([MAIN, *SECTIONS.values()])


def asked(*names: str) -> bool:
    return set(names) <= set(controls.CONDITIONS)


EXPERIMENTS, BOUNDARIES = "experiments", "further results slots slots_ablation"
RESAMPLES = inspect.signature(statistics.bootstrap_interval).parameters["resamples"]
DRAWN = (0.25, 0.75)  # fractions of the time between which the boundary is drawn
# A number that the text states itself is a definition: in which files it may stand, and that the code has it.
DEFINED = {
    r"95\,\%": ("experiments further results", statistics.LEVEL == 0.95),
    "2000": (EXPERIMENTS, RESAMPLES.default == 2000),
    "0.05": (EXPERIMENTS, scores.LEVEL == 0.05),
    r"50\,\%": ("experiments results", scores.NEVER_WHILE == 50),
    "50": ("experiments results", tasks.TASK_4_CANDIDATES == 50),
    "84": (EXPERIMENTS, 2 * tasks.TASK_4_LABELS * (tasks.TASK_4_LABELS - 1) == 84),
    "10": ("experiments slots", DEPTH == 10 and asked("boundary: 10%")),
    r"90\,\%": ("experiments slots", asked("boundary: 90%")),
    r"75\,\%": ("method", BOUNDARY == DRAWN),
    "15": (BOUNDARIES, asked("boundary: 15%")),
    r"85\,\%": (BOUNDARIES, asked("boundary: 85%")),
    "20": ("results slots", asked("level: -20", "level: +20")),
    "25": ("experiments method", synthetic.SNR_DB == (0.0, 25.0) and BOUNDARY == DRAWN),
    r"5\,\%": (EXPERIMENTS, PRESETS["published"]["gamma"] == 0.95),
    "2022": ("background experiments", True),
}
NAMES = re.compile(r"ESC-\d+|CC BY 4\.0|R@\d+|mAP@10|\bClotho\b")
# Arguments that are no prose.
ARGUMENTS = re.compile(
    r"\\(?:res|label|ref|input|includegraphics|cite[tp]?|begin|end|vspace|hspace|setlength)\*?"
    r"(?:\[[^]]*\])?\{[^}]*\}(?:\{@?[^\n]*\})?"
)
NUMERAL = re.compile(r"(?<![\w.@])\d+(?:\.\d+)?(?:\\,\\%|\\%|\s*percent\b)?")


def stated(tex: str) -> list[str]:
    """Numbers of two digits, with decimals or in percent that stand in a text itself.

    One digit is free: it numbers tasks, tables and slots.
    """
    prose = NAMES.sub("", ARGUMENTS.sub("", tex))
    return [found for found in NUMERAL.findall(prose) if len(found) > 1]


def test_the_text_states_no_result_and_the_main_file_nothing_but_its_title():
    for name, text in SECTIONS.items():
        typed = [number for number in stated(text) if name not in DEFINED.get(number, ("",))[0].split()]
        assert not typed, f"sections/{name}.tex types {typed}: results are looked up by key"
    body = MAIN.split(r"\begin{document}")[1]
    assert stated(body.split(r"\end{document}")[0].replace("5pt", "").replace("1.5pt", "")) in ([], ["0.5"])


def test_a_stated_number_is_what_the_code_has():
    for literal, (names, holds) in DEFINED.items():
        assert holds, f"{literal} is not what the code has"
        for name in names.split():
            assert literal in stated(SECTIONS[name]), f"sections/{name}.tex does not state {literal}"


def test_five_of_eight_unseen_wordings_name_the_events_in_order():
    in_order = [w for w in UNSEEN_ORDERED if w.index("{a}") < w.index("{b}")]
    assert (len(in_order), len(UNSEEN_ORDERED)) == (5, 8) and "five of eight" in SECTIONS["results"]


def test_the_captions_are_told_as_they_are():
    text = " ".join(SECTIONS["captions"].split())
    seen, _, unseen = text.partition("Those that neither")
    for wordings, told in (([*SINGLE, *SEEN_WORDINGS, FIRST_SLOT], seen), (UNSEEN_ORDERED, unseen)):
        for wording in wordings:
            assert rf"\says{{{wording.format(a='A', b='B')}}}" in told
    for wording in controls.THREE.values():
        assert rf"\says{{{wording.removeprefix('this is a sound of ').format('A', 'B', 'C')}}}" in unseen


def whole() -> dict:
    """A run of the default profile that has everything: the committed reference."""
    return read.summary(compare.reference_path("synthetic", "compact"))


def bare() -> dict:
    """A run of a published base model that has next to nothing."""
    summary = made_up.summary(("clap", "clap-continued", "t-clap"))
    for key in (
        "readouts",
        "windows",
        "controls",
        "slot_ablation",
        "hold_out",
        "comparisons",
        "clips",
        "classes",
    ):
        del summary[key]
    post = {"batch": 32, "lr": 0.001, "preset": "published", "pool_items": 12800, "text_loss_batch": 0}
    summary |= {"profile": "paper-smoke", "base": "msclap-2022", "seeds": [0], "presets": PRESETS}
    summary |= {"provenance": {"config": {"test_pairs": 10, "post_pretraining": post}, "git": None}}
    summary |= {"origin": {"random_weights": True}}
    summary["models"]["clap"]["retrieval"]["clotho"] = summary["models"]["clap"]["retrieval"]["singles"]
    return summary


def real() -> dict:
    """A run on real recordings."""
    summary = whole() | {"profile": "esc50", "base": "sfx", "rotations": [{"fold": 1}, {"fold": 2}]}
    del summary["slot_ablation"], summary["readouts"], summary["windows"]
    models = {name: summary["models"][name] for name in ("t-clap-slots", "t-clap-no-inversion", *COMPARED)}
    rows = [row for row in summary["comparisons"] if set(row["models"]) <= set(models)]
    for name in models:
        models[name]["zste"]["5"] |= {"first": 60.0, "second": 50.0, "independent": 30.0}
    return summary | {"models": models, "comparisons": rows}


RUNS = {"whole": whole, "bare": bare, "real": real}
# The runs on real recordings there are.
BESIDE = {"whole": {"esc50": real, "esc50-fold4": real}, "bare": {}, "real": {"esc50": real}}


# What the default run cannot have: parts of published models, and captioned data sets.
ABSENT = {"readouts/published/2way_before", "readouts/residual-segments/2way_before"}
ABSENT |= {
    f"{model}/{name}/text_to_audio/R@1" for model in ("clap", "t-clap") for name in ("clotho", "audiocaps")
}


@pytest.mark.parametrize("run", RUNS)
def test_every_number_of_the_paper_exists_for_any_run(run):
    text = numbers.numbers_tex(RUNS[run](), real={profile: make() for profile, make in BESIDE[run].items()})
    found = dict(re.findall(r"^\\setres\{(.*?)\}\{(.*)\}$", text, re.M))
    assert len(found) > 200
    if run == "whole":
        assert {key for key, value in found.items() if value == "--"} == ABSENT
    switches = re.findall(r"^\\newif\\if(\w+)", text, re.M)
    assert not [name for name in switches if rf"\if{name}" not in TEX], "a switch that switches nothing"
    known = {*switches, "dim", "csname", "csname res@"}
    assert {name for name in re.findall(r"\\if([a-z]+)", TEX)} <= known


def test_settings_come_from_the_runs_own_configuration():
    run = whole()
    config, sizes, trained = run["provenance"]["config"], run["model"], run["weights"]["t-clap"]
    trained = sum(trained[part] for part in ("audio_head", "text_head", "logit_scale"))
    settings = {
        "config/post_pretraining/pool_items": (config["post_pretraining"]["pool_items"], r"12\,800"),
        "config/post_pretraining/optimiser": ("AdamW", "Adam"),
        "config/post_pretraining/clip_norm": (PRESETS["cosine"]["clip_norm"], "0.5"),
        "config/warm_up/weight_decay": (PRESETS["cosine"]["weight_decay"], "--"),
        "config/slots/parts": (r"35\,\% and 50\,\%", "--"),
        "model/kHz": (sizes["sample_rate"] / 1000, "--"),
        "model/n_fft ms": (1000 * sizes["n_fft"] / sizes["sample_rate"], "--"),
        "weights/trained": (f"{trained:,}".replace(",", r"\,"), "--"),
        "run/commit": (run["provenance"]["git"]["commit"][:12], "--"),
        "run/number of seeds": ("3 seeds", "1 seed"),
    }
    for key, (value, other) in settings.items():
        shown = value if isinstance(value, str) else f"{value:g}"
        assert (numbers.lookup(run, key), numbers.lookup(bare(), key)) == (shown, other), key
    run["provenance"]["git"]["dirty"] = True
    assert numbers.lookup(run, "run/uncommitted") == " with uncommitted changes"


def test_each_page_names_the_run_and_the_abstract_warns_of_random_weights():
    foot = re.search(r"\\newcommand\{\\runinfoot\}\{(.*?)\}\n\\fancy", MAIN, re.S).group(1)
    for key in ("profile", "base", "seeds", "commit", "uncommitted"):
        assert rf"\res{{run/{key}}}" in foot
    assert r"\res{run/warning}" in SECTIONS["abstract"]


def test_all_figures_tables_and_sections_are_in_the_paper():
    shown = re.findall(r"\\includegraphics\{(\w+)\}", TEX)
    assert sorted([*shown, "similarity"]) == sorted(FIGURES), "that one is for the notebooks alone"
    assert sorted(re.findall(r"\\input\{tables/table_(\w+)\}", TEX)) == sorted(tables.TABLES)
    assert sorted(re.findall(r"\\input\{sections/(\w+)\}", TEX)) == sorted(SECTIONS)


def test_references_are_defined_and_used():
    labels = re.findall(r"\\label\{([^}]+)\}", TEX)
    referred = set(re.findall(r"\\ref\{([^}]+)\}", TEX))
    assert len(labels) == len(set(labels))
    assert referred <= set(labels), sorted(referred - set(labels))
    unused = {label for label in labels if label.startswith(("fig:", "tab:"))} - referred
    assert not unused, f"no sentence speaks of {sorted(unused)}"
    bibliography = (PAPER / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@(?!string)\w+\{(\w+),", bibliography, re.M)
    cited = {key for group in re.findall(r"\\cite[tp]?\{([^}]+)\}", TEX) for key in group.split(",")}
    assert len(keys) == len(set(keys)) > 40
    assert cited == set(keys), sorted(cited ^ set(keys))


@pytest.fixture(scope="module")
def sizes(tmp_path_factory) -> dict[str, tuple[float, float]]:
    """Width and height of every figure, in inches."""
    run = made_up.write(tmp_path_factory.mktemp("run"), whole())
    return {name: tuple(build(name, run).get_size_inches()) for name in FIGURES}


@pytest.mark.parametrize("run", RUNS)
def test_the_paper_builds(run, sizes, tmp_path):
    """With blank figures of the real ones' sizes: what is tested is the text and its layout."""
    if shutil.which("latexmk") is None:
        pytest.skip("latexmk is missing; CI installs it, see .ci/run")
    summary, paper = RUNS[run](), tmp_path / "paper"
    shutil.copytree(PAPER / "sections", paper / "sections")
    for name in ("main.tex", "references.bib"):
        shutil.copy(PAPER / name, paper)
    (paper / "tables").mkdir()
    for name in tables.TABLES:
        text = tables.build(name, summary)
        (paper / "tables" / f"table_{name}.tex").write_text(text, encoding="utf-8")
    text = numbers.numbers_tex(summary, real={profile: make() for profile, make in BESIDE[run].items()})
    (paper / "numbers.tex").write_text(text, encoding="utf-8")
    (tmp_path / "figures").mkdir()
    for name, size in sizes.items():
        Figure(figsize=size).savefig(tmp_path / "figures" / f"{name}.pdf")
    # Once more, as latexmk takes an .aux of the same size and second for the one before it.
    for again in ([], ["-g"]):
        done = subprocess.run([*LATEX, *again], cwd=paper, capture_output=True, text=True, errors="replace")
    log = (paper / "main.log").read_text(encoding="latin-1").replace("\n", "")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (paper / "main.pdf").read_bytes().startswith(b"%PDF")
    overfull = [float(points) for points in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt", log)]
    assert max(overfull, default=0) <= OVERFULL, re.findall(r"Overfull.{120}", log)
    assert not re.findall(r"LaTeX Warning: (?:Citation|Reference|Label|There were).{80}", log)
    assert not re.findall(r"\w+\.\d+pk", log), "a font without outlines"

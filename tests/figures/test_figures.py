import json

import made_up
import matplotlib
import numpy as np
import pandas as pd
import pytest

from artifact import slot_ablation as measured
from artifact.training import BASES
from figures import accuracies, style
from figures import registry as figures
from figures.style import LABELS
from tclap.data.captions import SEEN_WORDINGS, UNSEEN_ORDERED
from tclap.evaluation.controls import CONDITIONS
from tclap.training.variants import NO_TEXT, VARIANTS


def points(axes) -> list[tuple[int, float, float, float]]:
    """Place, accuracy and ends of the interval of each point, read from the drawn artists."""
    found = []
    for dots, _, (bars,) in axes.containers:
        for place, accuracy, interval in zip(*dots.get_data(), bars.get_segments(), strict=True):
            found.append((round(place), accuracy, interval[:, 1].min(), interval[:, 1].max()))
    return sorted(found)


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


# Of each figure: the columns that name panel and place, and the panels.
DRAWN = {
    "tasks": (None, "task", [None]),
    "readouts": ("panel", "task", ["tasks", "silence (% of window)"]),
    "windows": ("task", "policy", accuracies.WINDOW_TASKS),
    "conditions": ("panel", "control", [title.replace("\n", " ") for title in accuracies.CONDITIONS]),
    "wordings": (None, "wording", [None]),
    "hold_out": ("panel", "fraction", [*accuracies.NAMED]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_row_is_a_point_with_its_interval_at_its_place(name, summary):
    (of_panel, of_place, panels), (figure, rows) = DRAWN[name], figures.make(name, summary)
    rows = rows.query("fraction != 'all'") if name == "hold_out" else rows  # without the band
    for axes, panel in zip(figure.axes, panels, strict=True):
        part = rows if of_panel is None else rows[rows[of_panel] == panel]
        ends = part["accuracy"], part["low"], part["high"]
        expected = zip(part[of_place].map([*part[of_place].unique()].index), *ends, strict=True)
        assert len(part)
        assert points(axes) == [pytest.approx(row) for row in sorted(expected)]


def test_places_are_labelled_and_groups_set_apart(summary):
    axes = figures.draw("wordings", summary).axes[0]
    seen, unseen = ({w.format(a="A", b="B") for w in of} for of in (SEEN_WORDINGS, UNSEEN_ORDERED))
    shown = labels(axes.xaxis)
    assert (set(shown[: len(seen)]), set(shown[len(seen) :])) == (seen, unseen)
    assert len(SEEN_WORDINGS) - 0.5 in {line.get_xdata()[0] for line in axes.lines}
    legend = [text.get_text() for text in figures.draw("readouts", summary).legends[0].get_texts()]
    named = ["mean over time", "mean and maximum", "segment means", "attention", "end states"]
    assert legend == [*named, "chance"]


def test_seeds_stand_beside_their_mean(summary):
    summary["readouts"] = {"mean": {"3": made_up.entry(66.0, 33.3) | {"per_seed": [0.0, 99.0, 98.0]}}}
    axes, _ = figures.draw("readouts", summary).axes
    assert [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "_"] == [[0.0, 99.0, 98.0]]


def test_tasks_have_lines_of_chance_and_of_never_saying_while(summary):
    (axes,) = figures.draw("tasks", summary).axes
    assert (3, 92.2, 90.7, 93.7) in points(axes)
    segments = [segment for lines in axes.collections for segment in lines.get_segments()]
    level = sorted((round(s[:, 0].mean()), float(s[0, 1])) for s in segments if s[0, 1] == s[1, 1])
    assert level == sorted([*enumerate(made_up.CHANCE.values()), (3, 50.0), (4, 50.0)])


def test_the_hold_out_has_the_classes_as_places_and_the_band_of_slots(summary):
    figure, rows = figures.make("hold_out", summary)
    for axes, of in zip(figure.axes, ("", ", named"), strict=True):
        assert labels(axes.xaxis) == ["4", "8", "12", "16"]
        band = summary["hold_out"]["slots" + of]
        (box,) = (patch.get_bbox() for patch in axes.patches)
        assert [box.y0, box.y1] == pytest.approx(band["ci95"])
        assert band["accuracy"] in {line.get_ydata()[0] for line in axes.lines}
    assert len(rows) == 4 * 3 * 2 + 2


def test_a_task_that_does_not_apply_is_labelled(summary):
    for groups in summary["models"].values():
        groups["zste"]["4"] = None
    assert [text.get_text() for text in figures.draw("tasks", summary).axes[0].texts] == ["n/a"]


def test_names_are_those_of_the_evaluation_and_of_the_ablation():
    conditions = {control for panel in accuracies.CONDITIONS.values() for control in panel}
    assert conditions <= set(CONDITIONS) <= conditions | set(LABELS["controls"])
    assert accuracies.SEEN_WORDINGS == SEEN_WORDINGS
    assert set(LABELS["slot_columns"]) < set(measured.ABLATION_TASKS)
    assert set(BASES) - {"clap", NO_TEXT} <= set(LABELS["bases"])
    trained = {model for rows in LABELS["factorial"].values() for model in rows}
    assert trained == {*VARIANTS, NO_TEXT} - set(style.COMPARED) | {"t-clap"}
    assert {*VARIANTS, NO_TEXT} <= style.MODELS.keys(), "one without a label is left out"
    for group in LABELS["slot_changes"].keys() - {measured.UNCHANGED}:
        assert f"``{group}``" in measured.__doc__


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_leaves_the_figure_or_is_too_small(name, run):
    figure = figures.build(name, run)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    # A tick outside the limits has a label too, which is never drawn.
    axis = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = [(tick, sorted(a.get_view_interval())) for a in axis for tick in a.get_major_ticks()]
    texts = [tick.label1 for tick, (low, high) in ticks if low <= tick.get_loc() <= high]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, text
        assert text.get_fontsize() >= 7
    for legend in figure.legends:
        assert legend.get_window_extent().y0 >= max(axes.get_window_extent().y1 for axes in figure.axes)


def test_runs_with_few_models_or_without_extras_still_draw():
    small = made_up.summary(("clap", "t-clap"))
    for name in ("readouts", "windows", "comparisons", "controls", "hold_out"):
        del small[name]
    for groups in small["models"].values():
        del groups["prompts"]
    for name in DRAWN:
        figure, rows = figures.make(name, small)
        said = [text.get_text() for text in figure.texts]
        assert said == (["This run did not measure what this figure shows."] if rows.empty else [])
        assert not (rows.empty and name == "tasks")
    with pytest.raises(ValueError, match="mine"):
        figures.draw("tasks", {"models": {"mine": {}}})
    figures.draw("margins", made_up.results().query("model == 'clap'"))
    assert len(figures.draw("similarity", made_up.similarity().query("model == 't-clap'")).axes) == 2


def test_margins_are_percentages_of_the_items_with_zero_as_an_edge():
    rows = made_up.results()
    outlines = [patch for patch in figures.draw("margins", rows).axes[0].patches if not patch.get_fill()]
    for patch, model in zip(outlines, style.MAIN, strict=True):
        values, edges, _ = patch.get_data()
        assert values.sum() == pytest.approx(100) and np.abs(edges).min() < 1e-12
        chosen = rows[(rows["model"] == model) & (rows["task"] == "2way_before")]
        assert values[edges[:-1] >= -1e-12].sum() == pytest.approx(100 * chosen["correct"].mean())


@pytest.mark.parametrize("folds", [(), (2, 3)], ids=["seeds", "seeds of two folds"])
def test_similarity_panels_share_one_scale_and_show_the_first_seed_and_fold(folds):
    rows = made_up.similarity()
    first = rows[rows["seed"] == 0]
    if folds:
        others = [rows.assign(fold=fold, similarity=rows["similarity"] / fold) for fold in folds]
        rows, first = pd.concat(others), others[0].query("seed == 0")
    for axes, model in zip(figures.draw("similarity", rows).axes, ("clap", "t-clap"), strict=False):
        assert axes.images[0].get_clim() == (first["similarity"].min(), first["similarity"].max())
        part = first[first["model"] == model].set_index(["row", "column"])["similarity"]
        assert axes.images[0].get_array()[3, 7] == part[3, 7]


def test_curves_are_means_over_seeds_and_losses_smoothed_within_one():
    history = made_up.history()
    loss, validation = (axes.lines[2] for axes in figures.draw("curves", history).axes[:2])
    assert list(validation.get_xdata()) == [25, 50, 75, 100, 125, 150], "validated steps only"
    rows = history.query("model == 't-clap' and step == 75")
    assert validation.get_ydata()[2] == pytest.approx(rows["validation_two_way"].mean())
    rows = history.query("model == 't-clap' and 11 <= step <= 20")
    assert loss.get_ydata()[19] == pytest.approx(rows["loss"].mean())


def test_curves_of_other_models_are_shown_where_no_main_model_was_trained():
    history = made_up.history()
    renamed = history.query("model == 't-clap'").assign(model="t-clap-distinct")
    assert figures.draw("curves", renamed).axes[1].lines
    for unknown in (history.iloc[:0], history.assign(model="readout-residual-segments")):
        (text,) = figures.draw("curves", unknown).texts
        assert "No training" in text.get_text()


CAPTIONS = {
    "a while b": {"clap": 0.3, "t-clap": 0.0},
    "b before a": {"clap": 0.4, "t-clap": -0.3},
    "a before b": {"clap": 0.5, "t-clap": 0.9},
    "b after a": {"clap": 0.6, "t-clap": 0.8},
}


def test_composite_marks_each_boundary_and_shows_every_cosine():
    mel = np.arange(12.0).reshape(3, 4)
    backward = {caption: {model: -cosine for model, cosine in of.items()} for caption, of in CAPTIONS.items()}
    example = {"first": "a", "second": "b", "frame_seconds": 0.5, "boundary_seconds": 0.5}
    example |= {"forward_mel": mel, "reversed_mel": mel[:, ::-1]}
    example |= {"captions": CAPTIONS, "captions_reversed": backward}
    forward, bars, backward, other_bars = figures.draw("composite", example).axes[:4]
    assert forward.lines[0].get_xdata()[0] == 0.5
    assert backward.lines[0].get_xdata()[0] == 1.5, "2 s less the first half second"
    # Events stand over the middle of their part.
    for axes, expected in ((forward, {"a": 0.25, "b": 1.25}), (backward, {"b": 0.75, "a": 1.75})):
        assert {text.get_text(): text.get_position()[0] for text in axes.texts} == expected
    # What says the composite's order comes first, then what says the inversion's.
    names = ["a before b", "b after a", "b before a", "a while b"]
    for axes, sign, true in ((bars, 1, names[:2]), (other_bars, -1, names[2:3])):
        assert labels(axes.yaxis) == names
        assert true == [t.get_text() for t in axes.get_yticklabels() if t.get_fontweight() == "bold"]
        for line, model in zip(axes.lines, ("clap", "t-clap"), strict=False):
            assert list(line.get_xdata()) == [sign * CAPTIONS[name][model] for name in names]
    assert np.array_equal(forward.images[0].get_array(), mel)


def test_style_applies_within_its_block_only():
    before = matplotlib.rcParams["pdf.fonttype"]
    with style.styled():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.family"] == ["STIXGeneral"]
    assert matplotlib.rcParams["pdf.fonttype"] == before


@pytest.mark.parametrize("random", [True, False, None])
def test_figures_of_random_weights_say_so_across_all_they_show(run, random):
    content = made_up.summary() | {"origin": None if random is None else {"random_weights": random}}
    (run / "summary.json").write_text(json.dumps(content))
    for name in figures.RESULTS if random else ("tasks",):
        figure = figures.build(name, run)
        stamps = [text for text in figure.texts if text.get_text() == style.RANDOM_WEIGHTS]
        assert len(stamps) == bool(random)
        for stamp in stamps:
            box, (width, height) = stamp.get_window_extent(), figure.get_size_inches() * figure.dpi
            assert 0 <= box.x0 < 0.35 * width and 0.65 * width < box.x1 <= width, name
            assert 0 < (box.y0 + box.y1) / 2 < height

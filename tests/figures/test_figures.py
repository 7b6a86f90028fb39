from __future__ import annotations

import colorsys
import json
import os
import subprocess
import sys
from pathlib import Path

import made_up
import matplotlib.colors
import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from artifact import paths
from figures import charts, pictures, read, style
from figures import registry as figures


def intervals(axes, along):
    """``(x, y, low, high)`` of each point with whiskers, read from the drawn artists."""
    column = 0 if along == "x" else 1
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, _, bars = container
            ends = bars[0].get_segments()[0][:, column]
            yield line.get_xdata()[0], line.get_ydata()[0], ends.min(), ends.max()


def test_task_bars_have_the_heights_and_intervals_of_the_summary(summary):
    axes = charts.figure_tasks(summary).axes[0]
    bars = [c for c in axes.containers if isinstance(c, BarContainer)]
    assert len(bars) == 3 * 10
    for model in style.MAIN:
        heights = [bar[0].get_height() for bar in bars if bar.get_label() == model]
        assert heights == list(made_up.ACCURACY[model])
    ends = [point for point in intervals(axes, "y") if point[1] == 92.2]
    assert len(ends) == 1
    assert ends[0][2:] == pytest.approx((90.7, 93.7))
    assert round(ends[0][0]) == 3, "task 3 is the fourth group"


def test_task_chance_lines_and_the_line_of_never_saying_while(summary):
    axes = charts.figure_tasks(summary).axes[0]
    drawn = sorted(
        (round(segment[:, 0].mean()), float(segment[0, 1]))
        for lines in axes.collections
        for segment in lines.get_segments()
        if segment[0, 1] == segment[1, 1]
    )
    chances = [(i, chance) for i, chance in enumerate(made_up.CHANCE.values())]
    assert drawn == sorted([*chances, (3, 50.0), (4, 50.0)])


def test_a_task_that_does_not_apply_is_labelled_and_has_no_bar(summary):
    for groups in summary["models"].values():
        groups["zste"]["4"] = None
    axes = charts.figure_tasks(summary).axes[0]
    assert len([c for c in axes.containers if isinstance(c, BarContainer)]) == 3 * 9
    assert [t.get_text() for t in axes.texts] == ["n/a"]
    assert "n/a" in [t.get_text() for t in charts.figure_ablation(summary).axes[3].texts]


def test_ablation_has_one_row_a_model_and_dots_at_the_accuracies(summary):
    panels = charts.figure_ablation(summary).axes
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == [style.MODELS[name].label for name in made_up.ACCURACY]
    order = list(made_up.CHANCE)
    for axes, task in zip(panels, ("2way_before", "3", "overlap", "4", "5"), strict=True):
        found = [(y, x) for x, y, *_ in intervals(axes, "x")]
        accuracies = [row[order.index(task)] for row in made_up.ACCURACY.values()]
        assert found == list(enumerate(accuracies))


def test_prompts_readouts_and_windows_show_their_entries(summary):
    axes = charts.figure_prompts(summary).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(made_up.TEMPLATES)
    assert sorted(x for x, *_ in intervals(axes, "x")) == sorted(
        made_up.ACCURACY[m][0] - i for m in style.MAIN for i in range(5)
    )
    low, high = axes.get_xlim()
    assert all(low < left and right < high for *_, left, right in intervals(axes, "x"))
    readouts = [y for _, y, *_ in intervals(charts.figure_readouts(summary).axes[0], "y")]
    assert readouts == [93.0, 92.0, 94.0, 51.0, 96.0, 99.0, 50.0, 95.0, 98.0, 41.0, 88.0, 92.0]
    task_3 = charts.figure_windows(summary).axes[1]
    assert [y for _, y, *_ in intervals(task_3, "y")] == [18.5, 20.0, 22.0, 92.2, 90.0, 59.4]


def test_margins_are_percentages_of_the_items_with_zero_as_an_edge():
    rows = made_up.results()
    axes = pictures.figure_margins(rows).axes[0]
    outlines = [patch for patch in axes.patches if not patch.get_fill()]
    assert len(outlines) == 3
    for patch, model in zip(outlines, style.MAIN, strict=True):
        values, edges, _ = patch.get_data()
        assert values.sum() == pytest.approx(100)
        assert np.abs(edges).min() < 1e-12
        chosen = rows[(rows["model"] == model) & (rows["task"] == "2way_before")]
        assert values[edges[:-1] >= -1e-12].sum() == pytest.approx(100 * chosen["correct"].mean())


def test_similarity_panels_share_one_scale_and_show_the_first_seed():
    rows = made_up.similarity()
    images = [axes.images[0] for axes in pictures.figure_similarity(rows).axes[:2]]
    first = rows[rows["seed"] == 0]
    assert images[0].get_clim() == images[1].get_clim()
    assert images[0].get_clim() == (first["similarity"].min(), first["similarity"].max())
    for image, model in zip(images, ("clap", "t-clap"), strict=True):
        part = first[first["model"] == model].set_index(["row", "column"])["similarity"]
        assert image.get_array()[3, 7] == part[3, 7]


def test_curves_are_means_over_seeds_of_validated_steps_only():
    history = made_up.history()
    validation = pictures.figure_curves(history).axes[1]
    curve = validation.lines[2]
    assert list(curve.get_xdata()) == [25, 50, 75, 100, 125, 150]
    rows = history[(history["model"] == "t-clap") & (history["step"] == 75)]
    assert curve.get_ydata()[2] == pytest.approx(rows["validation_two_way"].mean())


def test_curves_smooth_the_loss_within_one_seed():
    history = made_up.history()
    loss = pictures.figure_curves(history, smooth=3).axes[0].lines[2]
    rows = history[(history["model"] == "t-clap") & history["step"].between(8, 10)]
    assert loss.get_ydata()[9] == pytest.approx(rows["loss"].mean())


CAPTIONS = {
    "a while b": {"clap": 0.3, "t-clap": 0.0},
    "b before a": {"clap": 0.4, "t-clap": -0.3},
    "a before b": {"clap": 0.5, "t-clap": 0.9},
    "b after a": {"clap": 0.6, "t-clap": 0.8},
}


def example():
    mel = np.arange(12.0).reshape(3, 4)
    backward = {caption: {model: -cosine for model, cosine in of.items()} for caption, of in CAPTIONS.items()}
    return read.Example("a", "b", mel, mel[:, ::-1].copy(), 0.5, 0.5, CAPTIONS, backward)


def test_composite_marks_each_boundary_and_shows_every_cosine():
    figure = pictures.figure_composite(example())
    forward, bars, backward, other_bars = figure.axes[:4]
    assert forward.lines[0].get_xdata()[0] == 0.5
    assert backward.lines[0].get_xdata()[0] == 1.5, "2 s less the first half second"
    # Events stand over the middle of their part.
    for axes, expected in ((forward, {"a": 0.25, "b": 1.25}), (backward, {"b": 0.75, "a": 1.75})):
        assert {text.get_text(): text.get_position()[0] for text in axes.texts} == expected
    # What says the composite's order comes first, then what says the inversion's.
    names = ["a before b", "b after a", "b before a", "a while b"]
    for axes, sign, right in ((bars, 1, names[:2]), (other_bars, -1, names[2:3])):
        assert [label.get_text() for label in axes.get_yticklabels()] == names
        bold = [label.get_text() for label in axes.get_yticklabels() if label.get_fontweight() == "bold"]
        assert bold == right
        widths = [patch.get_width() for patch in axes.patches]
        assert widths == [sign * CAPTIONS[name][model] for model in ("clap", "t-clap") for name in names]
    assert np.array_equal(forward.images[0].get_array(), example().forward_mel)


def test_runs_with_few_models_or_without_extras_still_draw(summary):
    small = made_up.summary(("clap", "t-clap"))
    for name in ("readouts", "windows", "comparisons"):
        del small[name]
    for groups in small["models"].values():
        del groups["prompts"]
    for build in (charts.figure_tasks, charts.figure_ablation):
        build(small).draw_without_rendering()
    for build in (charts.figure_prompts, charts.figure_readouts, charts.figure_windows):
        assert "This run" in build(small).texts[0].get_text()
    rows = made_up.results()
    pictures.figure_margins(rows[rows["model"] == "clap"])
    history = made_up.history()
    pictures.figure_curves(history[history["model"] == "clap"])
    # A job that trained no main model shows what it trained.
    renamed = history[history["model"] == "t-clap"].assign(model="t-clap-distinct")
    assert pictures.figure_curves(renamed).axes[1].lines
    similarity = made_up.similarity()
    assert len(pictures.figure_similarity(similarity[similarity["model"] == "t-clap"]).axes) == 2


def test_a_run_of_unknown_models_is_refused():
    with pytest.raises(ValueError, match=r"none of the models .* has \['mine'\]"):
        charts.figure_tasks({"models": {"mine": {}}})


@pytest.mark.parametrize("build", [charts.figure_tasks, charts.figure_ablation, charts.figure_prompts])
def test_no_text_leaves_the_figure_or_is_too_small(build, summary):
    figure = build(summary)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    # A tick outside the limits has a label too, which is never drawn.
    texts = [
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    ]
    texts += [t for legend in figure.legends for t in legend.get_texts()]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, text
        assert text.get_fontsize() >= 7
    for legend in figure.legends:
        top = max(axes.get_window_extent().y1 for axes in figure.axes)
        assert legend.get_window_extent().y0 >= top


def test_figures_have_the_widths_of_the_paper(summary):
    assert charts.figure_tasks(summary).get_figwidth() == 7.0
    assert charts.figure_prompts(summary).get_figwidth() == 3.4


def test_main_models_differ_in_grey_and_all_in_marker():
    greys = []
    for name in style.MAIN:
        linear = [c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4
                  for c in matplotlib.colors.to_rgb(style.MODELS[name].colour)]  # fmt: skip
        greys.append(float(np.dot(linear, (0.2126, 0.7152, 0.0722))) ** (1 / 2.2))
    assert np.abs(np.diff(sorted(greys))).min() > 0.15
    for attribute in ("marker", "word", "label", "colour"):
        assert len({getattr(look, attribute) for look in style.MODELS.values()}) == len(style.MODELS)
    assert all(
        colorsys.rgb_to_hsv(*matplotlib.colors.to_rgb(m.colour))[1] > 0.2 for m in style.MODELS.values()
    )


def test_style_applies_within_its_block_only():
    before = matplotlib.rcParams["pdf.fonttype"]
    with style.styled():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.family"] == ["STIXGeneral"]
    assert matplotlib.rcParams["pdf.fonttype"] == before


def test_saved_files_are_the_same_bytes_in_another_process_and_hold_no_date(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import made_up\n"
        "from figures import charts, style\n"
        "style.save(charts.figure_prompts(made_up.summary()), 'prompts', sys.argv[2])"
    )
    # Another hash seed would reorder sets, and with them the fonts and glyphs of a PDF.
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent.parent), str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(paths.CHECKOUT)},
            check=True,
        )
    for suffix in ("pdf", "png"):
        one, two = ((tmp_path / seed / f"prompts.{suffix}").read_bytes() for seed in ("1", "2"))
        assert one == two
        assert b"Date" not in one
        assert sorted(p.name for p in (tmp_path / "1").iterdir()) == ["prompts.pdf", "prompts.png"]


def rewrite(run, **changes):
    """Change entries of a run folder's summary."""
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


STAND_IN = {"path": "/w.pth", "revision": None, "sha256": "0" * 64, "random_weights": True}


def stamps(figure) -> list:
    return [text for text in figure.texts if text.get_text() == style.RANDOM_WEIGHTS]


def test_figures_of_random_weights_say_so_across_all_they_show(run):
    rewrite(run, origin=STAND_IN)
    for name in figures.RESULTS:
        figure = figures.build(name, run)
        (stamp,) = stamps(figure)
        box, (width, height) = stamp.get_window_extent(), figure.get_size_inches() * figure.dpi
        assert 0 <= box.x0 < 0.35 * width and 0.65 * width < box.x1 <= width, name
        assert 0 < (box.y0 + box.y1) / 2 < height


@pytest.mark.parametrize("origin", [STAND_IN | {"random_weights": False}, {"sha256": "0"}, None])
def test_figures_of_other_weights_are_not_stamped(run, origin):
    rewrite(run, origin=origin)
    assert not stamps(figures.build("prompts", run))


def test_a_stamped_file_differs_from_an_unstamped_one(run, tmp_path):
    plain = style.save(figures.build("prompts", run), "plain", tmp_path)
    rewrite(run, origin=STAND_IN)
    stamped = [style.save(figures.build("prompts", run), name, tmp_path) for name in ("one", "two")]
    for a, b, c in zip(plain, *stamped, strict=True):
        assert a.read_bytes() != b.read_bytes() == c.read_bytes()


def test_curves_of_a_run_that_trained_no_compared_model_say_so():
    """A published base has no history, and a job may train readouts alone."""
    nothing = made_up.history().iloc[:0]
    readout = made_up.history().assign(model="readout-residual-segments")
    for history in (nothing, readout):
        (text,) = pictures.figure_curves(history).texts
        assert text.get_text() == "No training of the compared models to show."
    # With an empty history of the base beside the others, those are shown.
    assert pictures.figure_curves(made_up.history().query("model != 'clap'")).axes[1].lines


def test_readouts_of_published_models_have_points_of_their_own(summary):
    entry = made_up.entry
    summary["readouts"] = {
        "published": {"1": entry(60.0, 5.0), "3": entry(33.0, 33.3)},
        "residual-segments": {"1": entry(61.0, 5.0), "3": entry(90.0, 33.3)},
    }
    figure = charts.figure_readouts(summary)
    assert [y for _, y, *_ in intervals(figure.axes[0], "y")] == [60.0, 61.0, 33.0, 90.0]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["as published", "residual segments"]


def test_unknown_and_missing_are_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="no figure 'pie'; the figures are paradigm, "):
        figures.build("pie", tmp_path)
    for name, missing in (
        ("tasks", "summary.json"),
        ("margins", "results.parquet"),
        ("curves", "history.parquet"),
        ("similarity", "similarity.parquet"),
        ("composite", "example.npz"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            figures.build(name, tmp_path)
        assert str(error.value) == f"{tmp_path / missing} does not exist; `make reproduce` makes it."


def test_broken_files_are_told_in_one_sentence(tmp_path, run):
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ValueError, match="summary.json is not valid JSON"):
        read.summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"profile": "x", "base": "y"}')
    with pytest.raises(ValueError, match="has no seeds, models"):
        read.summary(tmp_path)
    made_up.results().drop(columns="margin").to_parquet(run / "results.parquet")
    with pytest.raises(ValueError, match="results.parquet has no column margin"):
        read.rows(run, "results")

"""Figures, tables and numbers of the paper, from the artefacts of a run alone.

Nothing here knows a model, a dataset or a training loop: every function takes ``summary.json`` as a
dictionary, or tidy rows as a data frame, and what it shows is what stands there. ``read`` opens the
files of a run folder, ``figures`` draws, ``tables`` and ``numbers`` write LaTeX, ``compare`` measures
how far a run is from a reference, and ``python -m tclap.reporting`` writes all of it to disk.
"""

"""Readers of the files of public order benchmarks, by name: ``FORMATS[name](file, audio_folder)``.

Each gives the items of :func:`tclap.evaluation.items.evaluate_items`; its module says where the files come
from, under which licence, and how they are laid out. Nothing is downloaded.
"""

from tclap.evaluation.formats.compa import read_compa
from tclap.evaluation.formats.dissecting import read_dissecting
from tclap.evaluation.formats.timed import read_audiotime, read_moments, read_tacos
from tclap.evaluation.formats.trea import read_trea

FORMATS = {
    "compa": read_compa,
    "dissecting": read_dissecting,
    "audiotime": read_audiotime,
    "tacos": read_tacos,
    "moments": read_moments,
    "trea": read_trea,
}

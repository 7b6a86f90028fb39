"""A sense of time from captions alone: slots for any model, and the reader of captions."""

from tclap.slots.model import SlotModel, load
from tclap.slots.reader import Reader, Reading, load_reader

__all__ = ["Reader", "Reading", "SlotModel", "load", "load_reader"]

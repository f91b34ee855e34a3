"""Pictures of a library. Matplotlib is imported in this package only."""

from speakerdb.plots.drawing import FORMATS, form_of
from speakerdb.plots.library import KINDS, PictureKind, Plots, draw_trial

__all__ = ["FORMATS", "KINDS", "PictureKind", "Plots", "draw_trial", "form_of"]

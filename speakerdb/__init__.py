"""speakerdb keeps the voices of a media library searchable while the model that describes them is replaced."""

__version__ = "0.2.0"

"""Transcripts of recordings: whose words they are, kept, shown, removed; and what is said most."""

from speakerdb.transcripts.files import MAX_TRANSCRIPT_BYTES, SUFFIX_OF_TYPE, read_text, text_of
from speakerdb.transcripts.transcripts import FORMS, Form, Shown, Transcripts
from speakerdb.transcripts.words import FILLERS, LONGEST_PHRASE, MOST_FILLERS, Whose

__all__ = [
    "FILLERS",
    "FORMS",
    "LONGEST_PHRASE",
    "MAX_TRANSCRIPT_BYTES",
    "MOST_FILLERS",
    "SUFFIX_OF_TYPE",
    "Form",
    "Shown",
    "Transcripts",
    "Whose",
    "read_text",
    "text_of",
]

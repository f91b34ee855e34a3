"""What was said: reading what transcribers write, giving each word its speaker, and writing it with speakers."""

from speakerdb.core.transcript.labelling import Labelled, Piece, SpokenWord, label
from speakerdb.core.transcript.parsing import parse_transcript
from speakerdb.core.transcript.words import Segment, Transcript, Word

__all__ = ["Labelled", "Piece", "Segment", "SpokenWord", "Transcript", "Word", "label", "parse_transcript"]

"""`doctor`: looks at everything a run depends on, and says what mends what is broken. Changes and creates nothing.

Each check is an answer, also where what it looks at is damaged: a check that fails in a way nobody foresaw is a failed
check with that failure in it, and the others go on.
"""

from speakerdb.doctor.run import examine

__all__ = ["examine"]

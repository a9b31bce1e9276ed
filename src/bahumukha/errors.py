"""The exceptions that Bahumukha raises on purpose. All are one family, so a caller can catch one name:

    BahumukhaError
      ImageError            a picture cannot be read: missing, truncated, too large, not a picture
      ModelError            a model folder is missing, incomplete, or of the wrong kind
      PictureIndexError     the index cannot do what was asked
        ModelMismatch       the index was made with another model
      UsageError            an option or argument has a value that is not allowed
      Interrupted           the user stopped the work; what was finished is kept

Every message is one line that states what was given, what is allowed, and what to do next. The command
line prints that line and exits 1. Anything outside this tree is a bug and keeps its traceback.
"""

from __future__ import annotations


class BahumukhaError(Exception):
    """Base of all errors that are the input's fault rather than ours."""


class ImageError(BahumukhaError):
    """A picture could not be read. The message names the file."""


class ModelError(BahumukhaError):
    """A model could not be found, read, or used for what was asked."""


class PictureIndexError(BahumukhaError):
    """The picture index cannot do what was asked."""


class ModelMismatch(PictureIndexError):
    """The index holds embeddings of another model than the one asked for."""


class UsageError(BahumukhaError):
    """An option or argument has a value that is not allowed."""


class Interrupted(BahumukhaError):
    """Stopped by the user; finished work is kept."""

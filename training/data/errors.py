"""What goes wrong with training data."""

from laco_export.errors import LacoError


class DataError(LacoError):
    """A data file that cannot be read, or a sample that cannot be used."""


class NoSamplesError(DataError):
    """A data file that is sound and empty; a mixture may list it."""


class SampleError(DataError):
    """A sample that cannot be used.

    Args:
        cause: one of :data:`~.causes.CAUSES`, by which broken samples are counted.
        failed, details: as :class:`~laco_export.errors.LacoError` takes them.
    """

    def __init__(self, cause: str, failed: str, **details):
        self.cause = cause
        super().__init__(failed, **details)

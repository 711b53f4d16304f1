"""What goes wrong with training data."""

from laco_export.errors import LacoError


class DataError(LacoError):
    """A data file that cannot be read, or a sample that cannot be used."""


class NoSamplesError(DataError):
    """A data file that is sound and empty; a mixture may list it."""

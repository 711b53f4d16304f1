"""What goes wrong with training data."""

from laco_export.errors import LacoError


class DataError(LacoError):
    """A data file that cannot be read, or a sample that cannot be used."""

"""LaCo Export: export vision-language models whose encoder merges its tokens half-way, with proof.

This package holds three floors: the base (errors, depths, pictures, conversations, bundles; numpy and PIL only),
the LaCo model in :mod:`laco_export.models` (torch and transformers) and the exporter in
:mod:`laco_export.exporter`. Importing :mod:`laco_export` itself imports none of the heavy packages.
"""

__version__ = "0.1.0"

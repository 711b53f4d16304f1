"""The exporter: a checkpoint in, a proven bundle out.

:mod:`.pipeline` runs the steps in order; each step is a file of its own: :mod:`.tracing`, :mod:`.rewrites`,
:mod:`.ranges` and :mod:`.precision` with :mod:`.half_conversion`, :mod:`.structural_gates`, :mod:`.interpreter`,
:mod:`.proof`, :mod:`laco_export.golden`, :mod:`.compile_gate`, :mod:`.decoder`, :mod:`.report`.
"""

"""Engines on disk.

- :mod:`.engine_cache`: found by what they were built from and for;
- :mod:`.engine_choice`: which of them may run here;
- :mod:`.fallback`: the FP16 form that an eight-bit bundle carries beside.
"""

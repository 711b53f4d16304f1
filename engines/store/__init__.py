"""Engines on disk, and the forms of a tower that a bundle holds.

- :mod:`.engine_cache`: found by what they were built from and for;
- :mod:`.engine_choice`: which of them may run here;
- :mod:`.fallback`: the FP16 form that an eight-bit bundle carries beside;
- :mod:`.processor_form`: the form of an eight-bit bundle that this processor's products are exact and fast in.
"""

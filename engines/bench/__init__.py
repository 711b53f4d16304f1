"""Measuring bundles: samples that were not stalled, floors that no run can beat, a table and a picture.

In reading order:

- :mod:`.measure`: bundles in turn: encode time, first token, decoding, memory, energy;
- :mod:`.process_memory`: one bundle's peak memory, in a process of its own;
- :mod:`.results`: what was measured, as records;
- :mod:`.plot`: encode time by depth as a picture.
"""

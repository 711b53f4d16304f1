"""Bundles to engines (``laco-engine build``).

In reading order:

- :mod:`.build_device`: what ``--device`` asks for;
- :mod:`.builder`: look in the store, estimate, refuse what will not fit, build, seal;
- :mod:`.verification`: the new engines beside the golden pictures;
- :mod:`.faster_form`: eight bits or FP16, whichever is faster on this device.
"""

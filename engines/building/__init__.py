"""Bundles to engines: targets, estimates, the cache, the build (``laco-engine build``)."""

"""Measuring bundles: samples that were not stalled, floors that no run can beat, a table and a picture."""

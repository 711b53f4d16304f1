"""The vision graph as a calibration sees it.

- :mod:`.linear_layers`: where the Linear layers are, and the block of each;
- :mod:`.partial_runner`: parts of the graph by torch's kernels, with MatMuls swapped.
"""

"""Outlier channels moved from a Linear's input into its weights.

- :mod:`.fold`: scales folded into what computes the tensor;
- :mod:`.search`: the strength of each block, by trying.
"""

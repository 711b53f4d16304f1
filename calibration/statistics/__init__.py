"""What the pictures show of each tensor.

- :mod:`.histogram`: one tensor's distribution, streamed;
- :mod:`.thresholds`: from a histogram to the range that is kept;
- :mod:`.records`: all tensors of a graph, saved, merged and compared;
- :mod:`.observer`: runs the graph over the pictures.
"""

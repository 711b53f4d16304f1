"""What a graph costs by arithmetic, before anything runs.

- :mod:`.graph_cost`: operations, weights, activations of an ONNX file;
- :mod:`.decoder_cost`: the same of a pass of the language model;
- :mod:`.roofline`: the floor under a latency on given peaks;
- :mod:`.estimate`: what a build and its engine will need.
"""

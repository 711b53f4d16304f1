"""What a graph costs by arithmetic, before anything runs.

- :mod:`.graph_cost`: operations, weights, activations of an ONNX file;
- :mod:`.roofline`: the floor under a latency on given peaks;
- :mod:`.estimate`: what a build and its engine will need.
"""

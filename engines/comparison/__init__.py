"""What runs here beside what PyTorch computed.

- :mod:`.golden_check`: a runtime against the bundle's golden pictures;
- :mod:`.marked_graph`: every block of the graph on ONNX Runtime;
- :mod:`.pytorch_reference`: the checkpoint's own modules on the same pictures.
"""

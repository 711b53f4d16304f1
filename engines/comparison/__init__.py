"""What runs here beside what PyTorch computed.

- :mod:`.golden_check`: a runtime against the bundle's golden pictures;
- :mod:`.part_check`: the verdict on one part;
- :mod:`.logits_check`: logits and best tokens, step by step of an answer;
- :mod:`.decoder_check`: the embedding, a prefill, and steps through the KV cache;
- :mod:`.marked_graph`: every block of the graph on ONNX Runtime;
- :mod:`.pytorch_reference`: the checkpoint's own modules on the same pictures.
"""

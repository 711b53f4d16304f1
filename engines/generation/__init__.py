"""From a prompt's embeddings to text, by Optimum ONNX Runtime and transformers' ``generate``.

Only :mod:`.options` and :mod:`.prefix_cache` can be imported without torch. In reading order:

- :mod:`.options`: how an answer is generated;
- :mod:`.decoder`: the language model on Optimum ONNX Runtime, fed with embeddings;
- :mod:`.kv_cache`: keys and values in buffers that ONNX Runtime writes into;
- :mod:`.prefix_cache`: KV caches of earlier prompts;
- :mod:`.streaming`: text while it is generated, and where it ends;
- :mod:`.generator`: answers to prompts whose pictures are encoded.
"""

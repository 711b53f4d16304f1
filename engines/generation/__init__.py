"""From a prompt's embeddings to text, by a text runtime: Optimum ONNX Runtime, or ONNX Runtime alone.

Only :mod:`.optimum_runtime`, :mod:`.decoder` and :mod:`.kv_cache` import torch and transformers. In reading order:

- :mod:`.options`: how an answer is generated;
- :mod:`.text_runtime`: what every text runtime offers, and which is taken;
- :mod:`.language_files`: what both read of a bundle beside the graph;
- :mod:`.logits_processors`: what looks at a step's logits;
- :mod:`.token_logprobs`: how likely what was said is, and what might have been;
- :mod:`.token_bytes`: the bytes that a token stands for;
- :mod:`.streaming`: text while it is generated, and where it ends;
- :mod:`.optimum_runtime`: transformers' ``generate`` on Optimum;
- :mod:`.decoder`: the language model on Optimum ONNX Runtime, fed with embeddings;
- :mod:`.kv_cache`: keys and values in buffers that ONNX Runtime writes into;
- :mod:`.lean_runtime`: a decoding loop without PyTorch;
- :mod:`.lean_decoder`: the language model in ONNX Runtime alone;
- :mod:`.lean_cache`: its keys and values;
- :mod:`.prompt_lookup`: drafts of what comes next, copied from the conversation;
- :mod:`.pass_costs`: what a pass over several positions takes and gives;
- :mod:`.draft_width`: how many positions the next pass reads;
- :mod:`.drafted_steps`: a decoder's steps, several at a time;
- :mod:`.sampling`: its choice of the next token;
- :mod:`.prefix_cache`: KV caches of earlier prompts;
- :mod:`.generator`: answers to prompts whose pictures are encoded.
"""

"""The tiny recipe's own material: drawn pictures, their questions, a small tokenizer, and stage 0.

`laco-train --recipe tiny` uses it to start from nothing; the real sizes start from published encoders and LLMs.
"""

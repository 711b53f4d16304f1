"""Language models in the engines that decoder_peers.py compares, behind one interface.

Each class opens a model on one thread for greedy answers about token ids:

- ``generate(ids, count, note)``: ``count`` new tokens, whatever ends an answer; ``note()`` is called as each is known;
- ``negative_log_likelihood(ids)``: the sum of -ln p of each token after the first; None where there are no logits.
"""

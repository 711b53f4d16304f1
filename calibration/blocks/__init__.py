"""What each block costs in accuracy and gains in time in few bits, and the choice of blocks.

- :mod:`.fake_quant`: MatMuls with rounded inputs and weights;
- :mod:`.block_errors`: the points of a block alone and of any set of blocks, on the worst picture;
- :mod:`.block_times`: a block cut out and timed in both forms;
- :mod:`.choice`: the fastest set within the budget.
"""

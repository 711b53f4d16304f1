"""``laco-engine plan``: which depth, precision, batch and language model, for a time, a memory and answers to keep.

In reading order:

- :mod:`.planner`: from bundles and limits to a plan;
- :mod:`.space`: what there is to choose from: each bundle at each depth, batch sizes, threads;
- :mod:`.figures`: a number and how it is known: measured, recorded, predicted, or only bounded;
- :mod:`.limits`: the limits, which quantity the time is of, and by how much a figure misses one;
- :mod:`.floors`: the least time of each part by arithmetic, here and on other devices;
- :mod:`.measurements`: what was measured on this machine, kept for the next time;
- :mod:`.spans`: how many times its floor a run takes on a device, by public figures;
- :mod:`.gauges`: where figures come from: here the timer of ``laco-engine bench``;
- :mod:`.predictions`: and for a device elsewhere;
- :mod:`.quality`: points of answers lost beside a reference, from the one source that the user names;
- :mod:`.search`: the best choice by as few measurements as prove it;
- :mod:`.verdict`: the choice, why each better one fails, and what to type;
- :mod:`.pareto`: time against answers kept, as a picture.
"""

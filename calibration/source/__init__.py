"""What a calibration starts from.

- :mod:`.source_bundle`: the FP32 bundle, given or exported first;
- :mod:`.picture_set`: the pictures and the questions about them;
- :mod:`.variety`: those that are neither of one colour nor nearly equal to another;
- :mod:`.held_out`: which pictures judge and which are observed.
"""

"""INT8 calibration of bundles. Installed as ``laco_calibration``; the command is ``laco-calibrate``.

From an FP32 bundle and real pictures to a bundle whose vision graph computes its Linear layers in eight bits wherever
that is faster and accurate enough, or to the reason why there is none:

statistics of every Linear's input → outliers moved into the weights → each block judged alone, in error and in time →
the fastest choice within the budget → the graph in the form that its runtime wants → proof → bundle.
"""

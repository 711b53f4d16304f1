"""INT8 calibration of bundles. Installed as ``laco_calibration``.

Nothing is built here yet: a bundle is FP32 or FP16. The package stands so that the installed names and the floors
(calibration may import engines, the exporter and the models; nothing imports calibration) are fixed from the start.
"""

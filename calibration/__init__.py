"""INT8 calibration of bundles. Installed as ``laco_calibration``; the command is ``laco-calibrate``.

From an FP32 bundle and real pictures to a bundle whose vision graph computes its Linear layers in eight bits wherever
that is faster and accurate enough, or to the reason why there is none. In the order of the work:

- :mod:`.cli`: the command;
- :mod:`.options`: what it is asked to do, and for which target;
- :mod:`.refusals`: what is refused before anything heavy is imported;
- :mod:`.pipeline`: the steps in order;
- :mod:`.source`, a folder: the FP32 bundle, the pictures, and which of them judge;
- :mod:`.context`: what every step is given;
- :mod:`.graph`, a folder: where the graph's Linear layers are, and parts of it by torch's kernels;
- :mod:`.statistics`, a folder: what the pictures show of each tensor, and the ranges cut from that;
- :mod:`.earlier_statistics`: those of an interrupted run or of other calibrations;
- :mod:`.smoothing`, a folder: outlier channels moved into the weights;
- :mod:`.observation`: smoothing and observation, the first two steps;
- :mod:`.range_choice`: which method cuts the ranges of each block;
- :mod:`.quantizing`, a folder: the quantised graph, in the form that a target wants;
- :mod:`.blocks`, a folder: errors and times of blocks, and the fastest choice of them;
- :mod:`.answers`: what the language model still says, and right answers of whole bundles;
- :mod:`.sensitivity`: each block alone, in error and in time;
- :mod:`.verification`: a finished graph against FP32 and PyTorch;
- :mod:`.twin`: the graph for processors whose product of uint8 and int8 saturates;
- :mod:`.selection`: blocks chosen and quantized until the file is within the budget;
- :mod:`.tensorrt_gate`: what TensorRT reads in the graphs;
- :mod:`.record`: the manifest's record;
- :mod:`.plot`: error and time by block as a picture;
- :mod:`.report`: what the user is told;
- :mod:`.errors`: what calibration refuses.

Floors, where an import points down only: graph, source < statistics < smoothing < quantizing < blocks < the modules
above, of which the folders import :mod:`.errors` alone.
"""

import laco_export  # noqa: F401 - telemetry is off before anything here imports ONNX Runtime

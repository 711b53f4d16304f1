"""The exporter: a checkpoint in, a proven bundle out.

- :mod:`.options`: what an export is asked to do;
- :mod:`.refusals`: what is refused before PyTorch is imported;
- :mod:`.targets`: who reads the graph, and what it may look like for them;
- :mod:`.operator_support`: the ONNX operators that TensorRT reads, by version;
- :mod:`.pipeline`: the steps in order, what each needs and gives;
- :mod:`.freed_memory`: what a step took and the next does not need, back to the system;
- :mod:`.report`: what the user is told when all is done.

The checkpoint and the pictures:

- :mod:`.loaded_checkpoint`: the checkpoint in memory, at its depth;
- :mod:`.golden_pictures`: the pictures that are measured and compared on, drawn or read;
- :mod:`.depth_names`: what a depth's files and steps are called;
- :mod:`.tower`: the part of the model that becomes the vision graph, its boundaries named.

From PyTorch to files:

- :mod:`.tracing`: PyTorch to a GraphSurgeon graph;
- :mod:`.rewrites`: the graph rewrites, one per file;
- :mod:`.ranges`: what every tensor holds on the pictures;
- :mod:`.precision`: which nodes stay FP32, and why;
- :mod:`.half_formats`: FP16 and bfloat16: what they hold, how they round;
- :mod:`.half_conversion`: an FP32 graph to a strongly typed one in half;
- :mod:`.islands`: more FP32 where rounding added up;
- :mod:`.batching`: the same graph at another batch size;
- :mod:`.external_data`: ONNX files over one weight file;
- :mod:`.vision_graph`: traced, converted, in the target's forms, written;
- :mod:`.written_tower`: the graph files of a bundle that is being built;
- :mod:`.tower_export`: all of that at one depth, with its proof and its gates;
- :mod:`.n_bits`: weights to the blocks of ``MatMulNBits`` and back.

The proof:

- :mod:`.kernels`: ONNX operators as torch kernels;
- :mod:`.interpreter`: a graph, node by node, in the arithmetic that is written into it;
- :mod:`.runners`: PyTorch, the interpreter and ONNX Runtime as Polygraphy runners;
- :mod:`.boundaries`: what is compared at each boundary, how strictly;
- :mod:`.proof`: the comparisons with PyTorch;
- :mod:`.witnesses`: what both sides of a comparison share, computed once more without it;
- :mod:`.rewrite_proof`: the rewritten graph compared, its ranges measured;
- :mod:`.verdict`: the written tower judged, widened, confirmed;
- :mod:`.bisection`: ``--bisect``, where a graph leaves PyTorch's path;
- :mod:`.error_plot`: the errors by boundary as a picture.

The gates:

- :mod:`.structural_gates`: what a graph file must look like;
- :mod:`.compile_gate`: does a TensorRT build it;
- :mod:`.engine_builder`: a TensorRT engine, built in a process of its own;
- :mod:`.tensorrt_messages`: TensorRT's messages, condensed.

The rest of the bundle:

- :mod:`.decoder`: the language model as ONNX;
- :mod:`.decoder_export`: it is written and compared once, and asked at each depth;
- :mod:`.pytorch_answers`: PyTorch's answers to the golden questions, which the finished bundle is asked;
- :mod:`.remarks`: what is no reason to refuse a bundle and should be known of it;
- :mod:`.bundle_manifest`: the files that a bundle carries, and its manifest.
"""

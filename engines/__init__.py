"""Running bundles: pictures and questions in, answers out. Installed as ``laco_engines``; command ``laco-engine``.

A Python user starts with four names::

    from laco_export.bundle import open_bundle       # a bundle, verified against its hashes
    from laco_engines.answering import Answerer      # a loaded one: answerer.answer(["cat.png"], "What is this?")
    from laco_engines.chat import Chat               # a conversation with it: chat.ask("And its colour?")
    from laco_engines.runtimes import open_runtime   # the vision tower alone: pictures to visual embeddings

An *engine* is a TensorRT plan: one vision graph, built for one device. An import points down these floors, never up or
sideways::

    E8  cli
    E7  commands
    E6  report · plan · attribution                 on a page; which to take; what drift comes from
    E5  serving · bench · evaluation · chat · trial · bundle_check · doctor    what is done with a bundle
    E4  answering · building                        questions to answers; bundles to engines
    E3  picture_encoder · comparison                pictures to embeddings; a runtime beside PyTorch
    E2  runtimes · generation                       the vision tower; the language model
    E1  store · cost · prompts · answer             engines on disk; arithmetic on a graph; what the model reads
    E0  devices · providers · packages · graph_picture · governor
        asked_question · answer_likeness · score_intervals · same_model    what bundles are compared by

In reading order, the way of an answer first:

- :mod:`.answering`: from a bundle to an answer;
- :mod:`.answer`: what an answer is, and where its time went;
- :mod:`.prompts`: pictures, videos and words to what the model reads;
- :mod:`.picture_encoder`: pictures to visual embeddings, each picture once;
- :mod:`.runtimes`: the vision tower on TensorRT or ONNX Runtime;
- :mod:`.generation`: a prompt's embeddings to text;
- :mod:`.chat`: a conversation that computes each turn once;
- :mod:`.governor`: which depth answers the next request, of a bundle of several;
- :mod:`.serving`: ``laco-engine serve``, a bundle behind OpenAI's API;
- :mod:`.building`: ``laco-engine build``, bundles to engines;
- :mod:`.store`: engines on disk;
- :mod:`.asked_question`: a question about pictures with what is known of its answer;
- :mod:`.answer_likeness`: how alike two answers are where nobody knows the right one;
- :mod:`.score_intervals`: how far a share of so many answers may be off;
- :mod:`.comparison`: what runs here beside what PyTorch computed, part by part;
- :mod:`.trial`: a finished bundle asked its golden questions, before it gets its name and later;
- :mod:`.bundle_check`: ``laco-engine diff``, all parts of a bundle compared;
- :mod:`.attribution`: ``laco-engine diff --attribute``, which part of a bundle its drift comes from;
- :mod:`.bench`: ``laco-engine bench``, bundles measured beside each other;
- :mod:`.evaluation`: ``laco-engine evaluate``, the paper's benchmarks by lmms-eval;
- :mod:`.plan`: ``laco-engine plan``, which of them to take for given limits;
- :mod:`.same_model`: whether bundles are of one model, so that they may be compared;
- :mod:`.report`: ``laco-engine report``, what bundles answer on a page to read and to sign;
- :mod:`.cost`: what a graph costs by arithmetic;
- :mod:`.devices`: what machine this is, and what is known of others;
- :mod:`.doctor`: ``laco-engine doctor``, what this machine has, lacks and would use;
- :mod:`.providers`: ONNX Runtime's execution providers;
- :mod:`.packages`: the packages that running a bundle can use;
- :mod:`.graph_picture`: ``laco-engine inspect --graph``, the merge as a picture;
- :mod:`.commands`: the subcommands of ``laco-engine``, one file each;
- :mod:`.cli`: its entry point.
"""

import laco_export  # noqa: F401 - telemetry is off before anything here imports ONNX Runtime

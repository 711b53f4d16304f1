"""A checkpoint or a bundle on the paper's 33 benchmarks: ``laco-engine evaluate``, by lmms-eval.

lmms-eval asks and scores; here a question is answered, by PyTorch or by what is shipped, and scores are put beside the
paper's. It finds both models by the entry points ``lmms_eval.models``. In reading order:

- :mod:`.benchmarks`: the paper's columns, and which of lmms-eval's tasks fills each;
- :mod:`.paper_tables`: the rows of the paper's Tables 1 to 9;
- :mod:`.task_files`: lmms-eval's task files, and the groups over local copies of their data;
- :mod:`.asked`: a benchmark's question as a model is asked it;
- :mod:`.pytorch_answerer`: a checkpoint that answers questions as an ``Answerer`` does;
- :mod:`.answer_file`: answers kept as they come, so that an interrupted run goes on;
- :mod:`.lmms_models`: the models ``laco`` and ``laco_bundle`` (the only module that imports lmms-eval);
- :mod:`.registration`: what the entry points name;
- :mod:`.lmms_run`: lmms-eval's own command in processes of its own;
- :mod:`.scores`: a row of the paper's columns from what lmms-eval wrote;
- :mod:`.evaluating`: all of it for one group, and its table.
"""

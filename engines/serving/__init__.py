"""``laco-engine serve``: a bundle behind an HTTP endpoint of OpenAI's chat-completions form.

::

    request ─▶ access ─▶ place ─▶ body ─▶ preparation thread ─▶ worker thread ─▶ answer or event stream
               Host,     429 when  413,    JSON, pictures,       one answer at
               Origin,   all are   408     prompt: 400           a time
               key       taken

The event loop only moves bytes: one thread prepares prompts and one thread runs the models. A request takes its place
in the queue before its body is read, so the memory that clients can fill is bounded: places times the body's limit.
"""

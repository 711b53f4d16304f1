"""``laco-engine serve``: a bundle behind an HTTP endpoint of OpenAI's chat-completions form.

::

    request ─▶ access ─▶ place ─▶ body ─▶ preparation thread ─▶ worker thread ─▶ answer or event stream
               Host,     429 when  413,    JSON, pictures,       one answer at
               Origin,   all are   408     prompt: 400           a time
               key       taken

The event loop only moves bytes: one thread prepares prompts and one thread runs the models. A request takes its place
in the queue before its body is read, so the memory that clients can fill is bounded: places times the body's limit.

In the order of a request's way:

- :mod:`.settings`: what ``serve`` may be told;
- :mod:`.server`: the socket, the signals and the end;
- :mod:`.app`: routes, middleware, and errors in OpenAI's form;
- :mod:`.access`: who may use the server;
- :mod:`.service`: takes requests in, prepares and queues them;
- :mod:`.body`: reads a body within its limits;
- :mod:`.chat_request`: OpenAI's fields, those that are honoured;
- :mod:`.depth_choice`: the depth that it asks for, of a bundle of several;
- :mod:`.governed`: that depth where it names none, by the queue, the clock and what is watched;
- :mod:`.image_urls`: the pictures of a request;
- :mod:`.fetching`: pictures from the web, where that is allowed;
- :mod:`.prompting`: messages to the prompt that the model reads;
- :mod:`.worker`: the one thread that runs the models, and its jobs;
- :mod:`.chat_response`: answers in OpenAI's form with ``usage`` and ``timings``, whole or as a stream;
- :mod:`.logprobs`: the log-probabilities of their tokens;
- :mod:`.errors`: what a client is told where it is not answered;
- :mod:`.metrics`: counters for Prometheus.

The page that the server shows is ``page/`` (HTML, CSS, JavaScript).
"""

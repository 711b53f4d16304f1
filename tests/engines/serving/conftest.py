"""The application in this process, driven without a socket."""

import asyncio
import threading

import pytest

from .client import Client

pytest.importorskip("fastapi", reason="needs the extra 'serve'")


@pytest.fixture
def gated(answerer):
    """The tiny bundle's answerer, which begins an answer, and goes on after each token, when it is let."""
    from laco_engines.answering import Answerer

    class Gated(Answerer):
        def __init__(self):
            self.bundle, self.prompter = answerer.bundle, answerer.prompter
            self.vision, self.text = answerer.vision, answerer.text
            self.gate = threading.Event()
            self.begun = threading.Semaphore(0)
            self.asked = []

        def generate(self, prompt, options=None, *, on_text=None, cancelled=None, **fields):
            self.asked.append(prompt)
            self.begun.release()
            while not self.gate.wait(0.005):
                if cancelled():
                    break
            return answerer.generate(prompt, options, on_text=on_text, cancelled=cancelled, **fields)

    return Gated()


@pytest.fixture
def running(gated, bundle):
    """``running(check, **settings)``: run ``check(client, service)`` on an application in front of ``gated``."""
    from laco_engines.serving.app import make_app
    from laco_engines.serving.service import Service
    from laco_engines.serving.settings import ServeSettings

    def run(check, load=lambda: gated, **settings):
        async def main():
            service = Service(bundle, gated.prompter, ServeSettings(**settings), load=load, model="tiny")
            app = make_app(service)
            service.start()
            try:
                while service.status == "loading":
                    await asyncio.sleep(0.001)
                return await asyncio.wait_for(check(Client(app), service), 60)
            finally:
                gated.gate.set()
                service.cancel_all()
                service.stop(30)

        return asyncio.run(main())

    return run

"""Class e: two processes, and folders that are somebody else's."""

from __future__ import annotations

import os
import time

from .attempts import Fault, Verdict, answered, fork, refused
from .workshop import Workshop


def _two_exports_to_one_output(shop: Workshop) -> Verdict:
    """Neither with ``--force``: one wins, the other is told."""
    output = shop.place("bundle")
    words = ["--model", str(shop.checkpoint), "--fp32", "--no-compile", "--no-llm", "--output", str(output)]

    def both() -> int:
        from laco_export.cli import main

        child = os.fork()
        code = main(words)
        if not child:
            os._exit(code)
        codes = sorted((code, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        print(f"exit statuses {codes}")
        return 0 if codes[0] == 0 < codes[1] else 3

    verdict = answered(fork(both, seconds=180))
    return verdict if (output / "laco.json").is_file() else Verdict(False, f"no bundle; {verdict.happened}")


def _force_on_a_folder_with_any_manifest(shop: Workshop) -> Verdict:
    folder = shop.place("mine")
    folder.mkdir()
    (folder / "laco.json").write_text("{}")
    (folder / "thesis.txt").write_text("years")
    ended = shop.export(shop.checkpoint, "--no-llm", "--force", output=folder)
    verdict = refused(ended, "thesis.txt")
    return verdict if (folder / "thesis.txt").exists() else Verdict(False, f"thesis.txt is gone; {ended}")


def _black_calibration(shop: Workshop) -> Verdict:
    pictures = str(shop.picture_folder(20, colour="black"))
    return refused(shop.calibrate(shop.bundle, "--images", pictures, seconds=240), "of one colour")


def _junk_engine(shop: Workshop) -> Verdict:
    """An engine with a matching sidecar, in a cache that anybody may write to: it is no engine of ours."""

    def work() -> int:
        from laco_engines.store.engine_cache import EngineCache, EngineKey
        from laco_export.errors import LacoError

        cache = EngineCache(shop.place("engines"))
        key = EngineKey("a" * 64, "tensorrt", "10.3", "", (), {})
        cache.path_of(key).parent.mkdir(parents=True)
        cache.path_of(key).write_bytes(b"junk")
        cache.seal(key, {})
        for path in (cache.folder, *cache.folder.rglob("*")):
            path.chmod(0o777)
        try:
            stored = cache.find(key)
            reason = "it is not found" if stored is None else stored.damage()
        except LacoError as error:
            reason = str(error)
        print(reason or "it is sound")
        return 0 if reason else 3

    return answered(fork(work))


def _a_folder_replaced_while_it_is_read(shop: Workshop) -> Verdict:
    """``run`` on a name under which an export ends at that moment: one of the two bundles answers."""
    bundle = shop.copy_of(shop.bundle)

    def work() -> int:
        from laco_engines.cli import main as engine
        from laco_export.cli import main as export

        child = os.fork()
        if not child:
            words = ["--model", str(shop.checkpoint), "--fp32", "--no-compile", "--force", "--output", str(bundle)]
            os._exit(export(words))
        words = ["run", str(bundle), "--image", str(shop.picture), "--question", "What?", "--max-new-tokens", "2"]
        codes = set()
        while not os.waitpid(child, os.WNOHANG)[0]:
            codes.add(engine(words))
            time.sleep(0.2)
        print(f"exit statuses {codes}")
        return 0 if codes <= {0, 1} and 0 in codes else 3

    return answered(fork(work, seconds=240))


FAULTS = (
    Fault("e", "two exports to one output, neither with --force", "answered", _two_exports_to_one_output),
    Fault("e", "--force on a folder with any laco.json", "refused", _force_on_a_folder_with_any_manifest),
    Fault("e", "20 black calibration pictures", "refused", _black_calibration),
    Fault("e", "a junk engine in a cache that others may write", "answered", _junk_engine),
    Fault("e", "run while the folder is replaced", "answered", _a_folder_replaced_while_it_is_read),
)

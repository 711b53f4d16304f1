"""The vision tower on ONNX Runtime, by any of its execution providers: numpy in, numpy out, no torch."""

from __future__ import annotations

import numpy as np

from laco_export.bundle import Bundle, VisionGraph
from laco_export.errors import BundleError, telling_line
from laco_export.machine import default_threads
from laco_export.onnx_session import open_session
from laco_export.verified_files import BundleChangedError

from ..providers import (
    PROVIDERS,
    ProviderMissingError,
    check_provider,
    choose_provider,
    load_libraries,
    runtime_title,
)
from ..store.processor_form import form_for_processor, multiplies_exactly
from .protocol import RuntimeMissingError, check_pictures, encode_in_batches, split_batch

_ON_CPU = ("CPUExecutionProvider", "OpenVINOExecutionProvider", "DnnlExecutionProvider", "XnnpackExecutionProvider")
"""Providers that compute on the CPU unless told otherwise, which nothing here does."""


class OnnxRuntimeVision:
    """:class:`~laco_engines.runtimes.VisionRuntime` on ONNX Runtime.

    One session per static batch size, opened when that size is first needed. Where the bundle was replaced by then, the
    sizes that are open serve any number of pictures, and none of the new bundle's.

    Args:
        bundle: a verified bundle.
        threads: threads of one operator on the CPU; default: :func:`~laco_export.machine.default_threads`.
        provider: an execution provider by name (:func:`~laco_engines.providers.choose_provider`), insisted on: ONNX
            Runtime's silent fall to the CPU is refused then. None takes the best that starts.
        shared_weights: compute with the weight file's own pages, which all sessions over it share, and not with a copy
            that is repacked for this processor: less memory where several are open, and slower. Roundings differ.

    Raises:
        RuntimeMissingError: ONNX Runtime is not installed, or it lacks the provider or cannot start it.
        BundleError: a graph does not have the tensors that the manifest states.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        provider: str | None = None,
        shared_weights: bool = False,
    ):
        try:
            import onnxruntime
        except ImportError:
            raise RuntimeMissingError("ONNX Runtime is not installed", todo=PROVIDERS["cpu"].install) from None
        self._onnxruntime = onnxruntime
        self._bundle, another_form = form_for_processor(bundle)
        self._threads, self._shared_weights = threads or default_threads(), shared_weights
        self._graphs = {graph.batch: graph for graph in self._bundle.manifest.vision.graphs}
        self._sessions: dict[int, object] = {}
        self.precision = bundle.manifest.vision.precision
        self.passed_over: tuple[str, ...] = () if another_form is None else (another_form,)
        try:
            self._provider = choose_provider(provider)
            session = self._first_session(may_fall_back=provider is None)
            if provider is not None:
                check_provider(session, self._provider)
        except ProviderMissingError as error:
            raise RuntimeMissingError(error.failed, given=error.given, todo=error.todo) from None
        running = session.get_providers()[0]
        self.on_cpu = running in _ON_CPU
        if running != self._provider.execution_provider:
            self.passed_over += (f"ONNX Runtime's {self._provider.execution_provider} does not start here",)
        self.name = runtime_title(running)
        if self._bundle.manifest.vision.products != bundle.manifest.vision.products:
            self.name += ", weights of seven bits"

    @property
    def batch_sizes(self) -> list[int]:
        """Batch sizes with a graph."""
        return sorted(self._graphs)

    def prepare(self, num_images: int) -> None:
        """See :meth:`VisionRuntime.prepare`."""
        try:
            for batch in split_batch(num_images, list(self._graphs)):
                self._session(batch)
        except BundleChangedError as error:
            self._leave_out_unopened(error)

    def encode(self, pixel_values: np.ndarray) -> np.ndarray:
        """See :meth:`VisionRuntime.encode`.

        Raises:
            UsageError: the pictures are not of the size that the graph was exported for.
        """
        check_pictures(pixel_values, next(iter(self._graphs.values())).input.shape[1:])
        try:
            return encode_in_batches(self._run, list(self._graphs), pixel_values)
        except BundleChangedError as error:
            self._leave_out_unopened(error)
            return encode_in_batches(self._run, list(self._graphs), pixel_values)

    def _leave_out_unopened(self, error: BundleChangedError) -> None:
        left_out = sorted(self._graphs.keys() - self._sessions.keys())
        self._graphs = {batch: self._graphs[batch] for batch in self._sessions}
        self.passed_over += (f"graphs for {', '.join(map(str, left_out))} pictures: {error.failed}",)

    def _run(self, batch: int, pixel_values: np.ndarray) -> np.ndarray:
        graph = self._graphs[batch]
        feed = {graph.input.name: pixel_values.astype(graph.input.dtype, copy=False)}
        (features,) = self._session(batch).run([graph.output.name], feed)
        return features.astype(np.float32, copy=False)

    def _first_session(self, *, may_fall_back: bool):
        """The smallest graph's, on the CPU where the chosen provider fails (no memory on the device, say)."""
        try:
            return self._session(min(self._graphs))
        except BundleError as error:
            if isinstance(error, BundleChangedError) or self._provider is PROVIDERS["cpu"]:
                raise
            reason = f"ONNX Runtime's {self._provider.execution_provider} does not start: {error.failed}"
            if not may_fall_back:
                raise RuntimeMissingError(reason, given=error.given, todo="leave --provider out") from None
            self.passed_over += (reason,)
            self._provider = PROVIDERS["cpu"]
            return self._session(min(self._graphs))

    def _session(self, batch: int):
        if batch not in self._sessions:
            # ONNX Runtime's Q/DQ passes would move float8 through a Transpose, which the CPU provider has not.
            config = {"session.disable_quant_qdq": "1"} if self.precision == "fp8" else {}
            if self._shared_weights:
                config["session.disable_prepacking"] = "1"
            graph = self._graphs[batch]
            try:
                load_libraries(self._provider)
                with self._bundle.unchanged(graph.file, self._bundle.manifest.vision.weights):
                    session = open_session(
                        self._bundle.file(graph.file),
                        providers=self._provider.session_providers(),
                        threads=self._threads,
                        exact_products=not multiplies_exactly(self._bundle),
                        config=config,
                    )
            except BundleChangedError:
                raise
            except Exception as error:  # onnxruntime raises many kinds
                raise BundleError(
                    f"ONNX Runtime cannot load '{self._bundle.file(graph.file)}': {telling_line(error)}",
                    given=f"opset {self._bundle.manifest.vision.opset}, onnxruntime {self._onnxruntime.__version__}",
                    todo="update onnxruntime, or export the bundle again",
                ) from error
            _check(session, graph)
            self._sessions[batch] = session
        return self._sessions[batch]


def _check(session, graph: VisionGraph) -> None:
    tensors = (*session.get_inputs(), *session.get_outputs())
    actual = {value.name: f"{_DTYPES.get(value.type, value.type)} {list(value.shape)}" for value in tensors}
    stated = {spec.name: f"{spec.dtype} {list(spec.shape)}" for spec in (graph.input, graph.output)}
    if actual != stated:
        raise BundleError(f"'{graph.file}' does not have the tensors of its manifest", given=actual, allowed=stated)


_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16"}

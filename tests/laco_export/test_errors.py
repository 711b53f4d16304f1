"""The line of another library's error that a person can use."""

import pytest

from laco_export.errors import is_panic, telling_line

MODEL = "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model("
SIGNATURE = "onnx::ModelProto&&, const std::unordered_map<std::basic_string<char>, int>&, const ModelOptions& (*)(int))"
LONG = "the weights of block 17 are not those of its scales, " * 8


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            f"[ONNXRuntimeError] : 1 : FAIL : {MODEL}{SIGNATURE} Unsupported model IR version: 99, max: 13\n",
            "Unsupported model IR version: 99, max: 13",
        ),
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Load model from /b/v.onnx failed:{MODEL}int) const Node (x) has no type\n"
            "Stacktrace: 0x7f",
            "Load model from /b/v.onnx failed:Node (x) has no type",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Conv(22)",
            "Could not find an implementation for Conv(22)",
        ),
        ("\n\n  a plain one  \nand more", "a plain one"),
        (LONG, LONG.strip()),
        ("", "ValueError"),
    ],
)
def test_the_line_is_whole_and_without_source_positions(text, line):
    assert telling_line(ValueError(text)) == line


def test_a_real_error_of_onnx_runtime_says_what_is_wrong():
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper = onnx.helper
    values = [helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 99
    with pytest.raises(Exception, match="IR version") as error:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert len(str(error.value)) > 200
    assert telling_line(error.value).startswith("Unsupported model IR version: 99")


def test_a_panic_is_known_by_its_name():
    assert is_panic(type("PanicException", (BaseException,), {})()) and not is_panic(SystemExit())

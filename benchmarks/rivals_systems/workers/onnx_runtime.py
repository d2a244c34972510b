"""ONNX Runtime: the export of optimum, its fusions for GPT-2, and a plain greedy loop.

The loop binds the new cache of a step as the old cache of the next, so nothing is copied between
steps but what the model itself concatenates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import onnxruntime

from .serve import Rows, Task, left_padded, main, versions

Batch = dict[str, Any]


def convert(task: Task) -> None:
    """Export with a cache, fuse what ONNX Runtime knows of GPT-2, keep the last logits only."""
    import onnx
    from onnxruntime.transformers.optimizer import optimize_model
    from optimum.exporters.onnx import main_export
    from transformers import AutoConfig

    if task.dtype != "float32":
        _require_products(onnx.helper, onnx.TensorProto.BFLOAT16)
    main_export(
        task.checkpoint,
        output=task.converted,
        task="text-generation-with-past",
        dtype={"float32": "fp32", "bfloat16": "bf16"}[task.dtype],
        do_validation=False,
        no_post_process=True,
    )
    config = AutoConfig.from_pretrained(task.checkpoint)
    path = str(Path(task.converted, "model.onnx"))
    fused = optimize_model(
        path,
        model_type="gpt2",
        num_heads=config.n_head,
        hidden_size=config.n_embd,
        opt_level=0,  # the session does the rest, for this machine
    )
    _last_logits_only(fused.model.graph, onnx.helper)
    fused.save_model_to_file(path)


def _require_products(helper: Any, dtype: int) -> None:
    """Load a single product of this dtype; raises what ONNX Runtime says when it has none."""
    values = [helper.make_tensor_value_info(name, dtype, [2, 2]) for name in "abc"]
    product = helper.make_node("MatMul", ["a", "b"], ["c"], name="product")
    model = helper.make_model(
        helper.make_graph([product], "product", values[:2], values[2:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _last_logits_only(graph: Any, helper: Any) -> None:
    """Cut the hidden states before the last product: one position of a prompt is enough."""
    product = next(node for node in graph.node if "logits" in node.output)
    for name, value in (("last_from", -1), ("last_to", 2**31 - 1), ("last_axis", 1)):
        graph.initializer.append(helper.make_tensor(name, 7, [1], [value]))  # 7: int64
    cut = helper.make_node(
        "Slice", [product.input[0], "last_from", "last_to", "last_axis"], ["last_hidden"]
    )
    product.input[0] = "last_hidden"
    graph.node.insert(list(graph.node).index(product), cut)
    logits = next(value for value in graph.output if value.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_value = 1


class OnnxRuntime:
    def __init__(self, task: Task) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(
            str(Path(task.converted, "model.onnx")), options, providers=["CPUExecutionProvider"]
        )
        inputs = {value.name: value for value in self.session.get_inputs()}
        self.pasts = {name: inputs[name].shape for name in inputs if name.startswith("past")}
        self.presents = [name.replace("past_key_values", "present") for name in self.pasts]

    def describe(self) -> dict[str, str]:
        return versions("onnxruntime", "optimum-onnx", "transformers")

    def prepare(self, prompts: Rows, longest: int) -> Batch:
        ids, mask = (numpy.array(rows, dtype=numpy.int64) for rows in left_padded(prompts))
        positions = numpy.maximum(mask.cumsum(axis=1) - 1, 0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}

    def generate(self, batch: Batch, new_tokens: int) -> Rows:
        step, pasts = batch, self._empty_cache(len(batch["input_ids"]))
        found = []
        for _ in range(new_tokens):
            logits, pasts = self._run(step, pasts)
            token = logits[:, -1].argmax(axis=1)[:, None]
            found.append(token)
            mask = step["attention_mask"]
            step = {
                "input_ids": token,
                "attention_mask": numpy.concatenate((mask, numpy.ones_like(token)), axis=1),
                "position_ids": step["position_ids"][:, -1:] + 1,
            }
        rows: Rows = numpy.concatenate(found, axis=1).tolist()
        return rows

    def _run(self, step: Batch, pasts: list[Any]) -> tuple[Any, list[Any]]:
        binding = self.session.io_binding()
        for name, array in step.items():
            binding.bind_cpu_input(name, numpy.ascontiguousarray(array))
        for name, value in zip(self.pasts, pasts, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in ("logits", *self.presents):
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        logits, *presents = binding.get_outputs()
        return logits.numpy(), presents

    def _empty_cache(self, rows: int) -> list[Any]:
        def empty(shape: list[Any]) -> Any:
            array = numpy.zeros((rows, shape[1], 0, shape[3]), dtype=numpy.float32)
            return onnxruntime.OrtValue.ortvalue_from_numpy(array)

        return [empty(shape) for shape in self.pasts.values()]


if __name__ == "__main__":
    main(OnnxRuntime, convert)

// The Python module `masked_attn._C`: what the dispatcher can't carry. Build facts, instruction
// sets and the kernels' own plan; no tensors, no torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "build_info.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/plan.h"

namespace py = pybind11;

namespace masked_attn {
namespace {

std::vector<std::string> supported_sets() {
  std::vector<std::string> names;
  for (int32_t i = 0; i < cpu::kIsaCount; ++i) {
    const cpu::Isa isa = static_cast<cpu::Isa>(i);
    if (cpu::isa_supported(isa)) names.emplace_back(cpu::isa_name(isa));
  }
  return names;
}

std::vector<std::string> built_sets() {
  std::vector<std::string> names;
  for (int32_t i = 0; i < cpu::kIsaCount; ++i) {
    const cpu::Isa isa = static_cast<cpu::Isa>(i);
    if (cpu::isa_built(isa)) names.emplace_back(cpu::isa_name(isa));
  }
  return names;
}

std::string selected_set() {
  const cpu::IsaSelection& selection = cpu::selected_isa();
  if (selection.kernels != nullptr) return cpu::isa_name(selection.isa);
  char text[cpu::kIsaErrorBytes];
  cpu::describe_isa_error(text);
  throw std::runtime_error(text);
}

// None where no set is used, or where it has all loops of its own.
std::optional<std::string> mixed_set() {
  const cpu::IsaSelection& selection = cpu::selected_isa();
  const char* name = selection.kernels != nullptr ? cpu::isa_mixes(selection.isa) : nullptr;
  return name != nullptr ? std::optional<std::string>(name) : std::nullopt;
}

py::dict build_facts() {
  py::dict facts;
  facts["version"] = build_info::kVersion;
  facts["torch_version"] = build_info::kTorchVersion;
  facts["torch_cuda"] = build_info::kTorchCuda;
  facts["python_tag"] = build_info::kPythonTag;
  facts["compiler"] = build_info::kCompiler;
  facts["build_type"] = build_info::kBuildType;
  facts["instruction_sets"] = built_sets();
  facts["cxx11_abi"] = build_info::kCxx11Abi;
  facts["cuda"] = build_info::kCuda;
  facts["cuda_reason"] = build_info::kCudaReason;
  return facts;
}

const char* path_name(cpu::Path path) {
  switch (path) {
    case cpu::Path::kZero:
      return "zero";
    case cpu::Path::kFew:
      return "few";
    default:
      return "tiled";
  }
}

// `key_mask` is any two-dimensional buffer of bytes, [batch, keys].
py::list visibility_plan(const py::buffer& key_mask, int64_t queries, bool causal,
                         std::optional<int64_t> window) {
  const py::buffer_info info = key_mask.request();
  if (info.ndim != 2 || info.itemsize != 1) {
    throw py::value_error("visibility_plan: key_mask must be a [batch, keys] buffer of bytes");
  }
  if (queries < 0 || window.value_or(1) < 1) {
    throw py::value_error("visibility_plan: queries must not be negative, window at least 1");
  }
  MaskParams mask{};
  mask.queries = queries;
  mask.keys = info.shape[1];
  mask.key_mask = static_cast<const uint8_t*>(info.ptr);
  mask.key_mask_strides[0] = info.strides[0];
  mask.key_mask_strides[1] = info.strides[1];
  mask.causal = causal;
  mask.window = window.value_or(0);
  py::list rows;
  for (int64_t row = 0; row < info.shape[0]; ++row) {
    const cpu::VisiblePlan plan = cpu::visible_plan(mask, row);
    py::dict facts;
    facts["first_key"] = plan.keys.begin;
    facts["last_key"] = plan.keys.end - 1;
    facts["path"] = path_name(plan.path);
    facts["tiles_visited"] = plan.tiles_visited;
    facts["tiles_skipped"] = plan.tiles_skipped;
    rows.append(facts);
  }
  return rows;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Build facts, instruction sets and the visibility plan of masked_attn's kernels.";
  m.def("build_info", build_facts, "Versions and options of this build, as a dict.");
  m.def("instruction_sets", supported_sets,
        "Instruction sets that both this build and this CPU have, from the lowest to the highest.");
  m.def("selected_instruction_set", selected_set,
        "The instruction set in use; raises if MASKED_ATTN_ISA names one that can't be used.");
  m.def("mixed_instruction_set", mixed_set,
        "The instruction set whose loops the one in use takes for what is not its own, or None.");
  m.def("visibility_plan", visibility_plan, py::arg("key_mask"), py::kw_only(), py::arg("queries"),
        py::arg("causal") = false, py::arg("window") = py::none(),
        "For each batch row: first and last visible key (-1 when there is none), the path taken, "
        "and how many tiles (48 queries by 64 keys) hold something visible and how many do not. A "
        "row on the few-query path is counted as if it were tiled.");
  m.attr("key_tile") = kKeyTile;
  m.attr("query_tile") = cpu::kQueryTile;
  m.attr("few_keys") = kFewKeys;
}

}  // namespace masked_attn

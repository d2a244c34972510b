// What tensors on a GPU hear from a library without CUDA kernels. It works with a CUDA build of
// torch, on tensors of the CPU. Left out where there are CUDA kernels.
#include <torch/library.h>

namespace {

void no_cuda(const c10::OperatorHandle& op, torch::jit::Stack*) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      false, op.schema().name(),
      ": this library has no CUDA kernels, since when it was built " MASKED_ATTN_CUDA_REASON
      ". Move the tensors to the CPU, or install a CUDA build of torch and the CUDA toolkit (nvcc) "
      "of the same version, and build masked_attn again");
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CUDA, m) {
  for (const char* name :
       {"expand_mask", "masked_softmax", "masked_attention", "_masked_attention_forward",
        "packed_attention", "_packed_attention_forward", "cached_attention",
        "cached_attention.device", "linear"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&no_cuda>());
  }
}

// From tensors to the Params of the CPU kernels: views, masks, threads, scratch memory.
#pragma once

#include <ATen/ATen.h>

#include "../../kernels/cpu/isa.h"
#include "../../kernels/params.h"

namespace masked_attn::cpu {

// The kernels of the selected instruction set; raises when MASKED_ATTN_ISA can't be met.
const Kernels& kernels();

// Raises if the threads reported an error.
void check_status(const char* op, int32_t status);

DType to_dtype(at::ScalarType dtype);

// The tensor itself if its last dimension is contiguous, else a copy.
at::Tensor rows_contiguous(const at::Tensor& tensor);

// A view of a 4-dimensional tensor whose rows are contiguous.
TensorView view_of(const at::Tensor& tensor);

// `attn_mask` must already have four dimensions of the full size (see expand_attn_mask).
MaskParams mask_params(const std::optional<at::Tensor>& key_mask,
                       const std::optional<at::Tensor>& attn_mask, int64_t queries, int64_t keys,
                       bool causal, std::optional<int64_t> window);

// Broadcasts the mask to `sizes` with strides of 0; copies nothing.
std::optional<at::Tensor> expand_attn_mask(const std::optional<at::Tensor>& attn_mask,
                                           at::IntArrayRef sizes);

// torch's own threads; one inside a parallel region, and one for so little work (multiply-adds, or
// elements written) that waking the others takes longer. No bit of a result depends on it.
Threads torch_threads(double work);

// Scratch memory, kept by the calling thread from call to call while it is small.
class Scratch {
 public:
  Scratch(WorkspaceSize size, const Threads& threads);
  const Workspace& workspace() const { return workspace_; }

 private:
  at::DataPtr own_;  // only when the memory is too large to keep
  Workspace workspace_;
};

}  // namespace masked_attn::cpu

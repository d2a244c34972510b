// What a call of a CPU kernel needs besides its Params: the kernels, threads, scratch memory.
#pragma once

#include <ATen/ATen.h>

#include "../../kernels/cpu/isa.h"
#include "../../kernels/params.h"

namespace masked_attn::cpu {

// The kernels of the selected instruction set; raises when MASKED_ATTN_ISA can't be met.
const Kernels& kernels();

// Raises if the threads reported an error.
void check_status(const char* op, int32_t status);

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

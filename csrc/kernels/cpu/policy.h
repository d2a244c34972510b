// Which loop a call takes. The only home of such choices: they are made by measured tables
// (docs/cpu_kernels.md), and none of them changes a bit of a result.
#pragma once

#include "plan.h"
#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

enum class LinearLoop : int32_t {
  kStream,  // very few rows, a weight [K, N] in place (linear_stream.h)
  kPanels,  // packed on the way (linear_panels.h)
};

inline LinearLoop linear_loop(const LinearParams& p) {
  const bool few = p.rows <= cpu::kStreamRows && p.inputs > 0;
  return p.transposed && few ? LinearLoop::kStream : LinearLoop::kPanels;
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

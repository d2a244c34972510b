// Which loop a call takes. The only home of such choices: they are made by measured tables
// (docs/cpu_kernels.md), and none of them changes a bit of a result.
#pragma once

#include "plan.h"
#include "tiles.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Bfloat16 that is not multiplied in tiles is converted to float32 where there are tiles: on an
// Intel Xeon with AMX attention over pairs of bfloat16 (`vdpbf16ps`) took 1.4 times as long.
constexpr bool kUsesPairs = kHasPairs && !kHasTiles;

// Rows of x up to which the sums of tiles are computed by vectors: four rows' sums and operands
// fill 32 registers. Not measured: no AMX was at hand.
constexpr int kVectorRows = 4;

enum class LinearLoop : int32_t {
  kStream,  // very few rows, a weight [K, N] in place (linear_stream.h)
  kPanels,  // packed on the way (linear_panels.h)
  kPairs,   // the same with pairs of bfloat16: other sums, so all of a dtype take it or none
  kTiles,   // the same in tiles (linear_tiles.h), likewise
};

inline LinearLoop linear_loop(const LinearParams& p) {
  if (p.input.dtype == DType::kBFloat16 && p.weight.dtype == DType::kBFloat16) {
    if (kHasTiles) return LinearLoop::kTiles;
    if (kUsesPairs) return LinearLoop::kPairs;
  }
  const bool few = p.rows <= cpu::kStreamRows && p.inputs > 0;
  return p.transposed && few ? LinearLoop::kStream : LinearLoop::kPanels;
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

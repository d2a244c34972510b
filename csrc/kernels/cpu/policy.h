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
  kStream,   // very few rows, a weight [K, N] in place (linear_stream.h)
  kSquares,  // very few rows, a weight [N, K] in place (linear_squares.h)
  kLanes,    // few rows, a weight [N, K] in place, rows are lanes (linear_lanes.h)
  kPanels,   // packed on the way (linear_panels.h)
  kTiles,    // the same in tiles (linear_tiles.h): sums of their own, so for any number of rows
};

// Rows as lanes: more than squares take, and a weight that is multiplied as it is stored. Longer
// vectors than eight floats are left to the panels: not measured.
inline bool takes_lanes(const LinearParams& p) {
  const bool is_double = p.weight.dtype == DType::kFloat64;
  if (p.transposed || (!is_double && p.weight.dtype != DType::kFloat32)) return false;
  const int64_t lanes = is_double ? Vec<double>::kLanes : Vec<float>::kLanes;
  return lanes <= 8 && p.rows > cpu::kSquareRows && p.rows <= cpu::kLaneVectors * lanes;
}

inline LinearLoop linear_loop(const LinearParams& p) {
  const bool bfloat16 = p.input.dtype == DType::kBFloat16 && p.weight.dtype == DType::kBFloat16;
  if (kHasTiles && bfloat16) return LinearLoop::kTiles;
  if (p.inputs == 0) return LinearLoop::kPanels;
  if (takes_lanes(p)) return LinearLoop::kLanes;
  const int64_t most = p.transposed ? cpu::kStreamRows : cpu::kSquareRows;
  if (p.rows > most) return LinearLoop::kPanels;
  return p.transposed ? LinearLoop::kStream : LinearLoop::kSquares;
}

// What is packed of a weight at a time. Part of no definition.
struct PanelShape {
  bool few;         // rows are packed once, and chains may end behind a panel's parts
  int64_t inputs;   // divides a panel
  int64_t outputs;  // whole strips
  int64_t ahead;    // inputs from the part in use to the one that is asked for
};

inline PanelShape panel_shape(const LinearParams& p, int64_t strip, int64_t element_bytes) {
  constexpr int64_t kPanel = cpu::kInputPanel;
  // Tiles read whole blocks of packed rows, so rows lie where there is room for them.
  if (p.rows > cpu::kFewRows || linear_loop(p) == LinearLoop::kTiles) {
    return {false, kPanel, cpu::kLinearOutputs, kPanel};
  }
  if (!p.transposed) return {true, kPanel, strip, kPanel};
  // Two cache lines of each row of a [K, N] weight, which the memory delivers together. A part
  // stays in the first-level cache; rows 12 KB apart that are asked for too early push each other
  // out of the second.
  return {true, 64, max_of(128 / element_bytes, strip), 192};
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

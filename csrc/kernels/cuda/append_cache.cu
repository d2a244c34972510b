// Writes new keys or values into their slots of a cache, in the cache's own dtype: one warp for
// each row. The first slot may be known to the device only.
#include "kernels.h"
#include "warp.h"

namespace masked_attn::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerBlock = kThreads / kWarp;

template <class Element>
MASKED_ATTN_INLINE void copy_row(const AppendParams& p, int64_t from, int64_t to) {
  for (int64_t column = lane_index(); column < p.columns; column += kWarp) {
    static_cast<Element*>(p.cache.data)[to + column] =
        static_cast<const Element*>(p.source.data)[from + column];
  }
}

template <class T>
MASKED_ATTN_KERNEL append(AppendParams p) {
  const int64_t flat = block_index() * kRowsPerBlock + warp_index();
  if (flat >= p.batch * p.heads * p.rows) return;
  const int64_t row = flat % p.rows;
  const int64_t head = flat / p.rows % p.heads;
  const int64_t batch = flat / (p.rows * p.heads);
  const int64_t position = first_slot(p.position, p.device_position, p.capacity, p.rows);
  const int64_t from = row_offset(p.source, batch, head, row);
  const int64_t to = row_offset(p.cache, batch, head, position + row);
  // Of the same dtype every bit is kept, also those of a NaN.
  if (p.source.dtype == p.cache.dtype) {
    if (sizeof(T) == sizeof(double)) return copy_row<uint64_t>(p, from, to);
    if (p.cache.dtype == DType::kFloat32) return copy_row<uint32_t>(p, from, to);
    return copy_row<uint16_t>(p, from, to);
  }
  for (int64_t column = lane_index(); column < p.columns; column += kWarp) {
    store_element(p.cache, to + column, load_element<T>(p.source, from + column));
  }
}

}  // namespace

Status append_cache(const AppendParams& p, Stream stream) {
  const int64_t blocks = ceil_div(p.batch * p.heads * p.rows, kRowsPerBlock);
  const bool wide = p.source.dtype == DType::kFloat64;
  return launch(wide ? append<double> : append<float>, blocks, kThreads, 0, stream, p);
}

}  // namespace masked_attn::cuda

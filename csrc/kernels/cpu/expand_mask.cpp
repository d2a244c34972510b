// expand_mask on the CPU: elements are copied as bits, so one code serves every dtype of a size.
#include "kernels.h"
#include "parallel.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {
namespace {

constexpr int64_t kRowsPerTask = 32;

template <class Element>
void expand_row(const MaskView& mask, int64_t batch, int64_t query, Element masked, Element* out) {
  for (int64_t key = 0; key < mask.keys(); key += kKeyTile) {
    const int64_t count = min_of(kKeyTile, mask.keys() - key);
    const uint64_t position = mask.position_bits(query, key, count);
    const uint64_t bits = position ? position & mask.key_bits(batch, key, count) : 0;
    Element* tile = out + key;
    if (bits == low_bits(count)) {
      memset(tile, 0, count * sizeof(Element));
    } else if (bits == 0) {
      for (int64_t j = 0; j < count; ++j) tile[j] = masked;
    } else {
      for (int64_t j = 0; j < count; ++j) tile[j] = bits >> j & 1 ? Element{0} : masked;
    }
  }
}

template <class Element>
int32_t run(const ExpandParams& p) {
  const MaskView mask(p.mask);
  const int64_t total = p.batch * p.mask.queries;
  const Element masked = static_cast<Element>(p.fill_bits);
  Element* out = static_cast<Element*>(p.out);
  return for_each_task(p.threads, ceil_div(total, kRowsPerTask), [&](int64_t task, int64_t) {
    const int64_t end = min_of((task + 1) * kRowsPerTask, total);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      expand_row(mask, row / p.mask.queries, row % p.mask.queries, masked, out + row * p.mask.keys);
    }
  });
}

}  // namespace

int32_t expand_mask(const ExpandParams& params) {
  switch (params.element_bytes) {
    case 2:
      return run<uint16_t>(params);
    case 4:
      return run<uint32_t>(params);
    default:
      return run<uint64_t>(params);
  }
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

// expand_mask on the GPU: one thread for each element; elements are written as bits, so one code
// serves every dtype of a size.
#include "kernels.h"
#include "warp.h"

namespace masked_attn::cuda {
namespace {

constexpr int kThreads = 256;

template <class Element>
MASKED_ATTN_KERNEL expand(ExpandParams p) {
  const MaskView mask(p.mask);
  const int64_t total = p.batch * mask.queries() * mask.keys();
  const int64_t flat = block_index() * kThreads + thread_index();
  if (flat >= total) return;
  const int64_t key = flat % mask.keys();
  const int64_t query = flat / mask.keys() % mask.queries();
  const int64_t row = flat / (mask.keys() * mask.queries());
  const bool seen = mask.key_bits(row, key, 1) && mask.position_bits(query, key, 1);
  static_cast<Element*>(p.out)[flat] = seen ? Element{0} : static_cast<Element>(p.fill_bits);
}

template <class Element>
Status run(const ExpandParams& p, Stream stream) {
  const int64_t total = p.batch * p.mask.queries * p.mask.keys;
  return launch(expand<Element>, ceil_div(total, kThreads), kThreads, 0, stream, p);
}

}  // namespace

Status expand_mask(const ExpandParams& params, Stream stream) {
  switch (params.element_bytes) {
    case 2:
      return run<uint16_t>(params, stream);
    case 4:
      return run<uint32_t>(params, stream);
    default:
      return run<uint64_t>(params, stream);
  }
}

}  // namespace masked_attn::cuda

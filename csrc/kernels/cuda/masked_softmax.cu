// masked_softmax on the GPU: one block for each row of scores. Threads take keys counted from the
// row's first visible key, so that padding changes no bit.
#include "kernels.h"
#include "query_rows.h"

namespace masked_attn::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

template <class T>
MASKED_ATTN_INLINE void add_score(SoftmaxPart<T>* part, T score) {
  if (score > part->max) {
    part->sum = part->sum * rescale_factor(part->max, score);
    part->max = score;
  }
  part->sum = part->sum + weight_of(score - base_of(part->max));
}

template <class T>
MASKED_ATTN_INLINE SoftmaxPart<T> reduce_block(SoftmaxPart<T> own) {
  const Shared<T> shared(kRangeBytes, 2 * kWarps);
  const T warp_top = warp_max(own.max);
  const T warp_total = warp_sum(own.sum * rescale_factor(own.max, warp_top));
  if (lane_index() == 0) {
    shared.set(2 * warp_index(), warp_top);
    shared.set(2 * warp_index() + 1, warp_total);
  }
  block_barrier();
  SoftmaxPart<T> all{negative_infinity(T{}), T{0}};
  for (int warp = 0; warp < kWarps; ++warp) {
    const T top = shared.get(2 * warp);
    all.max = top > all.max ? top : all.max;
  }
  for (int warp = 0; warp < kWarps; ++warp) {
    const T factor = rescale_factor(shared.get(2 * warp), all.max);
    all.sum = all.sum + shared.get(2 * warp + 1) * factor;
  }
  return all;
}

template <class T>
MASKED_ATTN_KERNEL softmax(SoftmaxParams p) {
  const MaskView mask(p.mask);
  const int64_t query = block_index() % mask.queries();
  const int64_t head = block_index() / mask.queries() % p.heads;
  const int64_t batch = block_index() / (mask.queries() * p.heads);
  const Range visible = block_row_range(mask, batch, 0);
  const Range seen = intersect(mask.position_range(query), visible);
  const int64_t from = row_offset(p.scores, batch, head, query);
  const int64_t to = row_offset(p.out, batch, head, query);
  const auto score_of = [&](int64_t key) {
    T score = load_element<T>(p.scores, from + key) * static_cast<T>(p.scale);
    if (mask.has_bias()) mask.add_bias(batch, head, query, key, 1, &score);
    return score;
  };
  SoftmaxPart<T> own{negative_infinity(T{}), T{0}};
  const int64_t skipped = max_of(seen.begin - visible.begin, 0) / kThreads * kThreads;
  for (int64_t key = visible.begin + skipped + thread_index(); key < seen.end; key += kThreads) {
    if (sees(mask, batch, head, query, key)) add_score(&own, score_of(key));
  }
  const SoftmaxPart<T> row = reduce_block(own);
  const T normalizer = row.sum == T{0} ? T{0} : T{1} / row.sum;
  for (int64_t key = thread_index(); key < mask.keys(); key += kThreads) {
    const bool inside = key >= seen.begin && key < seen.end;
    T weight = T{0};
    if (inside && sees(mask, batch, head, query, key)) {
      weight = weight_of(score_of(key) - base_of(row.max)) * normalizer;
    }
    store_element(p.out, to + key, weight);
  }
}

}  // namespace

Status masked_softmax(const SoftmaxParams& p, Stream stream) {
  if (p.mask.keys == 0) return 0;
  const int64_t rows = p.batch * p.heads * p.mask.queries;
  const bool wide = p.scores.dtype == DType::kFloat64;
  const int64_t shared_bytes = kRangeBytes + 2 * kWarps * sizeof(double);
  return launch(wide ? softmax<double> : softmax<float>, rows, kThreads, shared_bytes, stream, p);
}

}  // namespace masked_attn::cuda

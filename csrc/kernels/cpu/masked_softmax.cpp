// masked_softmax on the CPU: each row is read once, held in float32 (float64 for float64) scratch
// while its maximum and sum are found, and written once.
#include "kernels.h"
#include "online_softmax.h"
#include "parallel.h"
#include "plan.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {
namespace {

// Rows of scores that one task takes.
constexpr int64_t kRowsPerTask = 32;

template <class T>
class RowSoftmax {
 public:
  RowSoftmax(const SoftmaxParams& params, const MaskView& mask, T* scratch)
      : p_(params), mask_(mask), scratch_(scratch) {}

  template <class S>
  void run(int64_t batch, int64_t head, int64_t query, Range visible, const S* scores,
           S* out) const {
    // Tiles are counted from the row's first visible key, so that padding changes no bit.
    const Range seen = intersect(mask_.position_range(query), visible);
    const int64_t skipped = length(seen) ? (seen.begin - visible.begin) / kKeyTile * kKeyTile : 0;
    const int64_t begin = visible.begin + skipped;
    const int64_t count = length(seen) ? seen.end - begin : 0;
    OnlineSoftmax<T> state;
    state.reset();
    for (int64_t j = 0; j < count; j += kKeyTile) {
      load_tile(batch, head, query, begin + j, min_of(kKeyTile, count - j), scores + begin + j,
                scratch_ + j);
    }
    normalize(&state, count);
    memset(out, 0, begin * sizeof(S));
    store_scaled(scratch_, state.normalizer(), count, out + begin);
    memset(out + begin + count, 0, (mask_.keys() - begin - count) * sizeof(S));
    // The weight of a masked key is 0 also where a visible NaN made the whole row NaN.
    if (state.sum != state.sum) clear_masked(batch, head, query, begin, count, out);
  }

 private:
  uint64_t visible_bits(int64_t batch, int64_t head, int64_t query, int64_t key,
                        int64_t count) const {
    return mask_.key_bits(batch, key, count) & mask_.position_bits(query, key, count) &
           mask_.attn_bits(batch, head, query, key, count);
  }

  template <class S>
  void clear_masked(int64_t batch, int64_t head, int64_t query, int64_t begin, int64_t count,
                    S* out) const {
    for (int64_t j = 0; j < count; ++j) {
      if (!visible_bits(batch, head, query, begin + j, 1)) out[begin + j] = S{};
    }
  }

  template <class S>
  void load_tile(int64_t batch, int64_t head, int64_t query, int64_t key, int64_t count,
                 const S* scores, T* tile) const {
    const uint64_t bits = visible_bits(batch, head, query, key, count);
    load_values(scores, count, tile);
    scale_in_place(tile, static_cast<T>(p_.scale), count);
    if (mask_.has_bias()) mask_.add_bias(batch, head, query, key, count, tile);
    if (bits != ~uint64_t{0}) hide_masked(tile, bits, kKeyTile);
  }

  void normalize(OnlineSoftmax<T>* state, int64_t count) const {
    if (count <= 0) return;
    const int64_t columns = ceil_div(count, kKeyTile) * kKeyTile;
    state->update(scratch_, columns);
  }

  const SoftmaxParams& p_;
  const MaskView& mask_;
  T* scratch_;
};

template <class T>
int32_t run(const SoftmaxParams& p) {
  if (p.mask.keys == 0) return 0;
  const MaskView mask(p.mask);
  Range* rows = reinterpret_cast<Range*>(p.workspace.shared);
  cpu::plan_rows(p.mask, p.batch, rows);
  const int64_t total = p.batch * p.heads * p.mask.queries;
  return for_each_task(p.threads, ceil_div(total, kRowsPerTask), [&](int64_t task, int64_t worker) {
    T* scratch = reinterpret_cast<T*>(p.workspace.workers + worker * p.workspace.worker_bytes);
    const RowSoftmax<T> softmax(p, mask, scratch);
    const int64_t end = min_of((task + 1) * kRowsPerTask, total);
    for (int64_t flat = task * kRowsPerTask; flat < end; ++flat) {
      const int64_t query = flat % p.mask.queries;
      const int64_t head = flat / p.mask.queries % p.heads;
      const int64_t batch = flat / (p.mask.queries * p.heads);
      with_stored_type<T>(p.out, [&](auto* out) {
        const auto* scores = static_cast<decltype(out)>(p.scores.data);
        softmax.run(batch, head, query, rows[batch],
                    scores + row_offset(p.scores, batch, head, query),
                    out + row_offset(p.out, batch, head, query));
      });
    }
  });
}

}  // namespace

int32_t masked_softmax(const SoftmaxParams& params) {
  return params.scores.dtype == DType::kFloat64 ? run<double>(params) : run<float>(params);
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

// Where the results of few queries go: to the output or, of a row of more than one chunk of keys,
// as parts into the shared workspace. Whoever finishes a row's last part merges them in the order
// of the chunks, so the bits depend on no thread and no batch.
#pragma once

#include "../scores.h"
#include "online_softmax.h"
#include "overflow.h"
#include "plan.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// Where a row of a group's queries lies in the batch.
struct FewPlace {
  int64_t batch;
  int64_t head;
  int64_t query;
};

template <class T>
class FewResults {
 public:
  FewResults(const AttentionParams& params, const cpu::SharedLayout& layout)
      : p_(params), group_(params.heads / params.kv_heads), layout_(layout) {}

  FewPlace place(const cpu::Item& item, int64_t kv_head, int64_t row) const {
    const int64_t queries = length(item.queries);
    return {item.row, kv_head * group_ + row / queries, item.queries.begin + row % queries};
  }

  // Of row r after one chunk.
  void keep(const cpu::Item& item, int64_t kv_head, int64_t r, int64_t chunk,
            const OnlineSoftmax<T>& state, const T* values, bool small) const {
    if (item.chunks == 1) return store(place(item, kv_head, r), state, values, small);
    const Part p = part(item, kv_head, r, chunk);
    *p.state = state;
    memcpy(small ? p.small : p.values, values, p_.value_dim * sizeof(T));
  }

  bool is_last_part(const cpu::Item& item, int64_t kv_head, int64_t finished) const {
    int32_t* counters = reinterpret_cast<int32_t*>(p_.workspace.shared + layout_.counters);
    int32_t* done = counters + item.row * p_.kv_heads + kv_head;
    return __atomic_add_fetch(done, static_cast<int32_t>(finished), __ATOMIC_ACQ_REL) ==
           item.chunks;
  }

  // Of row r of a group's queries, by way of `out`.
  void merge(const cpu::Item& item, int64_t kv_head, int64_t r, T* out) const {
    const OnlineSoftmax<T> total = add_parts(item, kv_head, r, false, out);
    store(place(item, kv_head, r), total, out, false);
    if (!overflowed(out, p_.value_dim, total.sum)) return;
    add_parts(item, kv_head, r, true, out);
    store(place(item, kv_head, r), total, out, true);
  }

 private:
  // What one chunk leaves for the merge.
  struct Part {
    OnlineSoftmax<T>* state;
    T* values;
    T* small;  // the same with smaller weights, if `values` overflowed
  };

  // `small`: only mends what is stored.
  void store(const FewPlace& at, const OnlineSoftmax<T>& state, const T* values, bool small) const {
    const T sink = head_value(p_.sinks, negative_infinity(T{}), at.batch, at.head);
    const T normalizer = state.normalizer(sink);
    with_stored_type<T>(p_.out, [&](auto* data) {
      auto* out = data + row_offset(p_.out, at.batch, at.head, at.query);
      if (small) return mend_stored(values, normalizer, p_.value_dim, out);
      store_scaled(values, normalizer, p_.value_dim, out);
    });
    if (p_.logsumexp.data == nullptr) return;
    const int64_t offset = row_offset(p_.logsumexp, at.batch, at.head, at.query);
    static_cast<T*>(p_.logsumexp.data)[offset] = state.logsumexp();
  }

  // Of head r of a group: only rows of one query have more than one chunk.
  Part part(const cpu::Item& item, int64_t kv_head, int64_t r, int64_t chunk) const {
    static_assert(sizeof(OnlineSoftmax<T>) == 2 * sizeof(T), "plan.cpp counts on it");
    const int64_t unit = chunk_slot(p_.mask, item.row, chunk) * p_.kv_heads + kv_head;
    const int64_t index = unit * group_ + r;
    char* begin = p_.workspace.shared + layout_.partials + index * layout_.partial_bytes;
    T* values = reinterpret_cast<T*>(begin + sizeof(OnlineSoftmax<T>));
    return {reinterpret_cast<OnlineSoftmax<T>*>(begin), values, values + p_.value_dim};
  }

  OnlineSoftmax<T> add_parts(const cpu::Item& item, int64_t kv_head, int64_t r, bool small,
                             T* out) const {
    OnlineSoftmax<T> total;
    total.reset();
    fill(out, T{0}, p_.value_dim);
    for (int64_t chunk = 0; chunk < item.chunks; ++chunk) {
      const Part p = part(item, kv_head, r, chunk);
      const bool has_small = small && overflowed(p.values, p_.value_dim, p.state->sum);
      const T* values = has_small ? p.small : p.values;
      T part_factor;
      const T factor = total.merge(*p.state, &part_factor);
      if (small && !has_small) part_factor *= static_cast<T>(kSmaller);
      for (int64_t d = 0; d < p_.value_dim; ++d) {
        out[d] = out[d] * factor + values[d] * part_factor;
      }
    }
    return total;
  }

  const AttentionParams& p_;
  int64_t group_;
  const cpu::SharedLayout& layout_;
};

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

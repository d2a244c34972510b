// masked_attention on the CPU: plans the work, then lets each path do its items.
#include "attention_few.h"
#include "attention_tiled.h"
#include "kernels.h"
#include "parallel.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {
namespace {

// The queries of the item, in all heads.
template <class T>
void write_zeros(const AttentionParams& p, const cpu::Item& item) {
  const int64_t queries = length(item.queries);
  const bool heads_together = p.out.head_stride == p.value_dim;
  const bool all_together = heads_together && p.out.row_stride == p.heads * p.value_dim;
  const int64_t run = all_together     ? queries * p.out.row_stride
                      : heads_together ? p.heads * p.value_dim
                                       : p.value_dim;
  const int64_t row_step = all_together ? queries : 1;
  const int64_t head_step = heads_together ? p.heads : 1;
  with_stored_type<T>(p.out, [&](auto* data) {
    for (int64_t i = item.queries.begin; i < item.queries.end; i += row_step) {
      for (int64_t head = 0; head < p.heads; head += head_step) {
        memset(data + row_offset(p.out, item.row, head, i), 0, run * sizeof(*data));
      }
    }
  });
  if (p.logsumexp.data == nullptr) return;
  T* logsumexp = static_cast<T*>(p.logsumexp.data);
  for (int64_t head = 0; head < p.heads; ++head) {
    fill(logsumexp + row_offset(p.logsumexp, item.row, head, item.queries.begin),
         negative_infinity(T{}), queries);
  }
}

template <class T>
int32_t run(const AttentionParams& p) {
  cpu::Item* items = reinterpret_cast<cpu::Item*>(p.workspace.shared);
  const int64_t count = cpu::plan_attention(p, items);
  const int64_t group = p.heads / p.kv_heads;
  const cpu::SharedLayout layout = cpu::shared_layout(p);
  memset(p.workspace.shared + layout.counters, 0, p.batch * p.kv_heads * 4);
  return for_each_task(p.threads, count * p.heads, [&](int64_t task, int64_t worker) {
    const cpu::Item& item = items[task / p.heads];
    const int64_t head = task % p.heads;
    char* workspace = p.workspace.workers + worker * p.workspace.worker_bytes;
    const MaskView mask(p.mask, item.row);
    switch (item.path) {
      case cpu::Path::kZero:
        if (head == 0) write_zeros<T>(p, item);
        return;
      case cpu::Path::kTiled:
        return TiledAttention<T>(p, mask, workspace).run(item, head);
      case cpu::Path::kFew:
        // The first head of a group works for all of it.
        if (head % group != 0) return;
        FewQueryAttention<T>(p, mask, layout).run(item, head / group, workspace);
    }
  });
}

}  // namespace

int32_t attention(const AttentionParams& params) {
  return params.query.dtype == DType::kFloat64 ? run<double>(params) : run<float>(params);
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

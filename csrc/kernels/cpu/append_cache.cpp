// Writes new keys or values into their slots of a cache, in the cache's own dtype.
#include "kernels.h"
#include "parallel.h"
#include "vec.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {
namespace {

template <class S, class C>
void append_head(const AppendParams& p, int64_t batch, int64_t head, const S* source, C* cache) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const S* from = source + row_offset(p.source, batch, head, i);
    C* to = cache + row_offset(p.cache, batch, head, p.position + i);
    if constexpr (sizeof(S) == sizeof(C)) {
      memcpy(to, from, p.columns * sizeof(S));
    } else {
      store_scaled(from, S{1}, p.columns, to);
    }
  }
}

template <class T>
int32_t run(const AppendParams& p) {
  const int64_t heads = p.batch * p.heads;
  return for_each_task(p.threads, heads, [&](int64_t task, int64_t) {
    with_stored_type<T>(p.cache, [&](auto* cache) {
      if (p.source.dtype == p.cache.dtype) {
        append_head(p, task / p.heads, task % p.heads, static_cast<decltype(cache)>(p.source.data),
                    cache);
      } else {
        append_head(p, task / p.heads, task % p.heads, static_cast<T*>(p.source.data), cache);
      }
    });
  });
}

}  // namespace

int32_t append_cache(const AppendParams& params) {
  return params.cache.dtype == DType::kFloat64 ? run<double>(params) : run<float>(params);
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn

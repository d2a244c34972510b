// On meta tensors an operator is its checks.
#include "operators.h"

TORCH_LIBRARY_IMPL(masked_attn, Meta, m) {
  masked_attn::for_each_operator([&]<class Entry>(Entry) {
    using masked_attn::checked_result;
    constexpr auto kernel = &checked_result<typename Entry::Result, typename Entry::Op>;
    m.impl(Entry::full_name().c_str(), Entry::template flat<kernel>);
  });
}

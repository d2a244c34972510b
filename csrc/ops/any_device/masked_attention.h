#pragma once

#include "../masked_attention.h"
#include "attend.h"

namespace masked_attn {

template <class Device, class Result>
Result run(const MaskedAttention& op) {
  Result result = checked_result<Result>(op);
  Device::check_head_sizes(op.kName, op.query.size(3), op.value.size(3));
  attend<Device>({op.kName, op.query, op.key, op.value, op.options}, out_of(result),
                 logsumexp_of(result));
  return result;
}

}  // namespace masked_attn

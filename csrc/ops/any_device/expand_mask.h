#pragma once

#include "../expand_mask.h"
#include "../params.h"

namespace masked_attn {

template <class Device, class Result>
Result run(const ExpandMask& op) {
  at::Tensor out = checked_output(op);
  if (out.numel() == 0) return out;
  Call<ExpandParams> call = expand_call(op, out);
  Device::run(op.kName, call.params, op.mask);
  return out;
}

}  // namespace masked_attn

#pragma once

#include "../masked_softmax.h"
#include "../params.h"

namespace masked_attn {

template <class Device, class Result>
Result run(const MaskedSoftmax& op) {
  at::Tensor out = checked_output(op);
  if (out.numel() == 0) return out;
  Call<SoftmaxParams> call = softmax_call(op, out);
  Device::run(op.kName, call.params, op.scores);
  return out;
}

}  // namespace masked_attn

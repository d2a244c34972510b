#pragma once

#include "../packed_attention.h"
#include "attend.h"

namespace masked_attn {

template <class Device, class Result>
Result run(const PackedAttention& op) {
  Result result = checked_result<Result>(op);
  Device::check_head_sizes(op.kName, op.query.size(2), op.value.size(2));
  const PackedLengths lengths =
      packed_lengths(op.cu_seqlens, op.max_seqlen, op.cu_seqlens_k, op.max_seqlen_k);
  Device::check_offsets(op.kName, lengths, op.query.size(0), op.key.size(0));
  const at::Tensor logsumexp = logsumexp_of(result);
  attend<Device>({op.kName, heads_first(op.query), heads_first(op.key), heads_first(op.value),
                  op.options, &lengths},
                 heads_first(out_of(result)),
                 logsumexp.defined() ? logsumexp.unsqueeze(0) : logsumexp);
  return result;
}

}  // namespace masked_attn

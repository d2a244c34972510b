// Every line of the schema, for what is registered for all of them.
#pragma once

#include "cached_attention.h"
#include "dispatch.h"
#include "expand_mask.h"
#include "linear.h"
#include "masked_attention.h"
#include "masked_softmax.h"
#include "packed_attention.h"

namespace masked_attn {

// Calls `visit` with an Entry for each.
template <class Visit>
void for_each_operator(const Visit& visit) {
  visit(Entry<ExpandMask, at::Tensor>());
  visit(Entry<MaskedSoftmax, at::Tensor>());
  visit(Entry<MaskedAttention, at::Tensor>());
  visit(Entry<MaskedAttention, OutAndLogsumexp>());
  visit(Entry<PackedAttention, at::Tensor>());
  visit(Entry<PackedAttention, OutAndLogsumexp>());
  visit(Entry<CachedAttention<c10::SymInt>, at::Tensor>());
  visit(Entry<CachedAttention<const at::Tensor&>, at::Tensor>());
  visit(Entry<Linear, at::Tensor>());
}

}  // namespace masked_attn

// Every operator on one device. A `Device` runs kernels on Params, and answers what differs:
//   run(op, params, tensor)      one overload for each Params, on the device of `tensor`
//   check_head_sizes, check_offsets: raise before anything is written
//   slots(position, queries, capacity): where a position that lies on the device is looked at
//   linear(op, out)
#pragma once

#include "../operators.h"
#include "cached_attention.h"
#include "expand_mask.h"
#include "linear.h"
#include "masked_attention.h"
#include "masked_softmax.h"
#include "packed_attention.h"

namespace masked_attn {

template <class Device>
void register_kernels(torch::Library& m) {
  for_each_operator([&]<class Op, class Result>(Entry<Op, Result>) {
    m.impl(Entry<Op, Result>::full_name().c_str(),
           Entry<Op, Result>::template flat<&run<Device, Result>>);
  });
}

}  // namespace masked_attn

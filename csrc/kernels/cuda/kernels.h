// The doors of the CUDA kernels. Pointers in the Params are device memory; work is put on `stream`
// and nothing waits for it. All return 0, or the code of a CUDA error.
#pragma once

#include "../params.h"

struct CUstream_st;

namespace masked_attn::cuda {

using Status = int32_t;
using Stream = CUstream_st*;  // cudaStream_t, without the CUDA headers

// The largest head that the attention kernels take.
constexpr int64_t kMaxHeadDim = 256;

// Bytes of device memory that `attention` needs in `params.workspace.shared`.
int64_t attention_workspace(const AttentionParams& params);

Status attention(const AttentionParams& params, Stream stream);
Status masked_softmax(const SoftmaxParams& params, Stream stream);
Status expand_mask(const ExpandParams& params, Stream stream);
Status append_cache(const AppendParams& params, Stream stream);

}  // namespace masked_attn::cuda

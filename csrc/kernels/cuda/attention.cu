// masked_attention on the GPU: sends each row of the batch down the path that its own length asks
// for. Which rows are short is known to the device only, so both kernels run and leave each other's
// rows alone.
#include "attention.h"

namespace masked_attn::cuda {

int64_t attention_workspace(const AttentionParams& p) {
  if (max_chunks(p.mask) == 1) return 0;
  const int64_t element = p.query.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
  const int64_t parts = chunk_slots(p.mask, p.batch) * p.heads;
  return parts * part_elements(p) * element;
}

Status attention(const AttentionParams& p, Stream stream) {
  const bool many = p.mask.queries > 1;
  if (many) {
    const Status status = attention_tiled(p, stream);
    if (status != 0) return status;
  }
  // With a position on the device, all that is known is that there are as many keys as queries.
  const int64_t least_keys = p.device_position != nullptr ? p.mask.queries : p.mask.keys;
  const bool may_be_short =
      p.mask.key_mask != nullptr || is_packed(p.mask) || least_keys <= kFewKeys;
  return many && !may_be_short ? 0 : attention_few(p, stream);
}

}  // namespace masked_attn::cuda

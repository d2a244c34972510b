// masked_attention on the GPU: sends each row of the batch down the path that its own length asks
// for. Which rows are short is known to the device only, so both kernels run and leave each other's
// rows alone.
#include "attention.h"

namespace masked_attn::cuda {

int64_t attention_workspace(const AttentionParams& p) {
  if (max_chunks(p.mask) == 1) return 0;
  const int64_t element = p.query.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
  const int64_t parts = chunk_slots(p.mask, p.batch) * p.heads * split_queries(p);
  return parts * part_elements(p) * element;
}

Status attention(const AttentionParams& p, Stream stream) {
  const bool many = p.mask.queries > kFewQueries;
  if (many) {
    const Status status = attention_tiled(p, stream);
    if (status != 0) return status;
  }
  const bool may_be_short =
      p.mask.key_mask != nullptr || is_packed(p.mask) || p.mask.keys <= kFewQueries;
  return many && !may_be_short ? 0 : attention_few(p, stream);
}

}  // namespace masked_attn::cuda

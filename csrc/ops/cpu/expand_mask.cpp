#include "../expand_mask.h"

#include <ATen/Dispatch_v2.h>
#include <torch/library.h>

#include <cstring>
#include <limits>

#include "launch.h"

namespace masked_attn::cpu {
namespace {

// The masked value as it lies in memory.
uint64_t fill_bits(at::ScalarType dtype, std::optional<double> fill) {
  uint64_t bits = 0;
  AT_DISPATCH_V2(dtype, "expand_mask", AT_WRAP([&] {
                   const double value = fill.value_or(-std::numeric_limits<double>::infinity());
                   const scalar_t stored = static_cast<scalar_t>(value);
                   std::memcpy(&bits, &stored, sizeof(stored));
                 }),
                 AT_EXPAND(AT_FLOATING_TYPES), at::kHalf, at::kBFloat16);
  return bits;
}

at::Tensor expand_mask_cpu(const at::Tensor& mask, at::ScalarType dtype,
                           std::optional<c10::SymInt> query_length, bool causal,
                           std::optional<int64_t> window, std::optional<double> fill) {
  at::Tensor out = expand_mask_meta(mask, dtype, std::move(query_length), causal, window, fill);
  if (out.numel() == 0) return out;
  const at::Tensor seen = mask.scalar_type() == at::kBool ? mask : mask.ne(0);
  ExpandParams params{};
  params.batch = out.size(0);
  params.out = out.mutable_data_ptr();
  params.element_bytes = out.element_size();
  params.fill_bits = fill_bits(dtype, fill);
  params.mask = mask_params(seen, std::nullopt, out.size(2), out.size(3), causal, window);
  params.threads = torch_threads(static_cast<double>(out.numel()));
  check_status("expand_mask", kernels().expand_mask(params));
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(masked_attn, CPU, m) { m.impl("expand_mask", expand_mask_cpu); }

}  // namespace masked_attn::cpu

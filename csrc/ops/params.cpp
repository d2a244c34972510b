#include "params.h"

#include <ATen/Dispatch_v2.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "checks.h"
#include "masked_attention.h"

namespace masked_attn {
namespace {

DType to_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kHalf:
      return DType::kFloat16;
    case at::kBFloat16:
      return DType::kBFloat16;
    default:
      return DType::kBool;
  }
}

Activation to_activation(std::optional<std::string_view> name) {
  if (!name.has_value()) return Activation::kNone;
  return *name == "gelu_tanh" ? Activation::kGeluTanh
         : *name == "gelu"    ? Activation::kGelu
         : *name == "silu"    ? Activation::kSilu
                              : Activation::kRelu;
}

// What a kernel only reads: a lazy clone stays one. The one place where const is cast away.
void* read_only(const at::Tensor& tensor) { return const_cast<void*>(tensor.const_data_ptr()); }

// A view of a tensor of 4 dimensions whose rows are contiguous, or of 3, at `data`.
TensorView view_at(void* data, const at::Tensor& tensor) {
  return {data, to_dtype(tensor.scalar_type()), tensor.stride(0), tensor.stride(1),
          tensor.stride(2)};
}

TensorView read_view(const at::Tensor& tensor) { return view_at(read_only(tensor), tensor); }

// A lazy clone gets memory of its own.
TensorView write_view(const at::Tensor& tensor) {
  return view_at(tensor.mutable_data_ptr(), tensor);
}

// The attention mask is broadcast to `sizes` with strides of 0, which copies nothing.
MaskParams mask_params(const std::optional<at::Tensor>& key_mask,
                       const std::optional<at::Tensor>& attn_mask, at::IntArrayRef sizes,
                       bool causal, std::optional<int64_t> window) {
  MaskParams params{};
  params.queries = sizes[2];
  params.keys = sizes[3];
  params.causal = causal;
  params.window = window.value_or(0);
  if (key_mask.has_value()) {
    params.key_mask = static_cast<const uint8_t*>(key_mask->const_data_ptr());
    params.key_mask_strides[0] = key_mask->stride(0);
    params.key_mask_strides[1] = key_mask->stride(1);
  }
  if (attn_mask.has_value()) {
    const at::Tensor full = attn_mask->expand(sizes);
    params.attn_mask = full.const_data_ptr();
    params.attn_mask_dtype = to_dtype(full.scalar_type());
    for (int64_t i = 0; i < 4; ++i) params.attn_mask_strides[i] = full.stride(i);
  }
  return params;
}

// Kept in `tensors`, in the dtype of the sums. [heads], or [batch, heads].
HeadValues head_values(const std::optional<at::Tensor>& values, at::ScalarType dtype,
                       std::vector<at::Tensor>& tensors) {
  if (!values.has_value()) return {};
  tensors.push_back(rows_contiguous(values->to(dtype)));
  const at::Tensor& kept = tensors.back();
  return {kept.const_data_ptr(), kept.dim() == 2 ? kept.stride(0) : 0};
}

// One sequence behind the other: the batch is in the offsets, not in the tensors.
void pack(const PackedLengths& lengths, AttentionParams& p) {
  MaskParams& mask = p.mask;
  mask.packed = {lengths.query_offsets.const_data_ptr<int64_t>(),
                 lengths.key_offsets.const_data_ptr<int64_t>(), mask.queries, mask.keys};
  mask.queries = std::min(lengths.max_queries, mask.queries);
  mask.keys = std::min(lengths.max_keys, mask.keys);
  p.batch = lengths.batch();
  for (TensorView* view : {&p.out, &p.logsumexp, &p.query, &p.key, &p.value}) {
    view->batch_stride = 0;
  }
}

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

}  // namespace

at::Tensor rows_contiguous(const at::Tensor& tensor) {
  return tensor.size(-1) <= 1 || tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

at::Tensor heads_first(const at::Tensor& tensor) { return tensor.transpose(0, 1).unsqueeze(0); }

PackedLengths packed_lengths(const at::Tensor& cu_seqlens, const c10::SymInt& max_seqlen,
                             const std::optional<at::Tensor>& cu_seqlens_k,
                             const std::optional<c10::SymInt>& max_seqlen_k) {
  const auto as_offsets = [](const at::Tensor& t) { return t.to(at::kLong).contiguous(); };
  const auto as_length = [](const c10::SymInt& n) { return n.guard_int(__FILE__, __LINE__); };
  const at::Tensor offsets = as_offsets(cu_seqlens);
  return {offsets, cu_seqlens_k.has_value() ? as_offsets(*cu_seqlens_k) : offsets,
          as_length(max_seqlen), as_length(max_seqlen_k.value_or(max_seqlen))};
}

Call<AttentionParams> attention_call(const Attention& attention, const at::Tensor& out,
                                     const at::Tensor& logsumexp) {
  const auto& [op, query, key, value, options, packed, device_position] = attention;
  Call<AttentionParams> call{
      {rows_contiguous(query), rows_contiguous(key), rows_contiguous(value)}};
  AttentionParams& p = call.params;
  p.batch = query.size(0);
  p.heads = query.size(1);
  p.kv_heads = key.size(1);
  p.head_dim = query.size(3);
  p.value_dim = value.size(3);
  p.out = write_view(out);
  if (logsumexp.defined()) p.logsumexp = write_view(logsumexp);
  p.query = read_view(call.tensors[0]);
  p.key = read_view(call.tensors[1]);
  p.value = read_view(call.tensors[2]);
  p.mask =
      mask_params(options.key_mask, options.attn_mask,
                  {p.batch, p.heads, query.size(2), key.size(2)}, options.causal, options.window);
  p.device_position = device_position;
  p.scale = attention_scale(options.scale, p.head_dim);
  p.softcap = options.softcap.value_or(0.0);
  const at::ScalarType sums = checks::dtype_of_sums(query);
  p.sinks = head_values(options.sinks, sums, call.tensors);
  p.alibi_slopes = head_values(options.alibi_slopes, sums, call.tensors);
  if (packed != nullptr) pack(*packed, p);
  return call;
}

Call<SoftmaxParams> softmax_call(const MaskedSoftmax& op, const at::Tensor& out) {
  const SoftmaxOptions& options = op.options;
  Call<SoftmaxParams> call{{rows_contiguous(op.scores)}};
  SoftmaxParams& p = call.params;
  p.batch = out.size(0);
  p.heads = out.size(1);
  p.out = write_view(out);
  p.scores = read_view(call.tensors[0]);
  p.mask =
      mask_params(options.key_mask, options.attn_mask, out.sizes(), options.causal, options.window);
  p.scale = options.scale;
  return call;
}

Call<ExpandParams> expand_call(const ExpandMask& op, const at::Tensor& out) {
  const at::Tensor& mask = op.mask;
  Call<ExpandParams> call{{mask.scalar_type() == at::kBool ? mask : mask.ne(0)}};
  ExpandParams& p = call.params;
  p.batch = out.size(0);
  p.out = out.mutable_data_ptr();
  p.element_bytes = out.element_size();
  p.fill_bits = fill_bits(out.scalar_type(), op.options.fill);
  p.mask =
      mask_params(call.tensors[0], std::nullopt, out.sizes(), op.options.causal, op.options.window);
  return call;
}

Call<AppendParams> append_call(const at::Tensor& source, const at::Tensor& cache,
                               const CacheSlots& slots) {
  Call<AppendParams> call{{rows_contiguous(source)}};
  AppendParams& p = call.params;
  p.batch = source.size(0);
  p.heads = source.size(1);
  p.rows = source.size(2);
  p.columns = source.size(3);
  p.position = slots.position;
  p.device_position = slots.device_position;
  p.capacity = cache.size(2);
  p.cache = write_view(cache);
  p.source = read_view(call.tensors[0]);
  return call;
}

Call<LinearParams> linear_call(const Linear& op, const at::Tensor& out) {
  const auto& [input, weight, bias, options] = op;
  at::Tensor matrix = weight;
  bool transposed = options.transposed;
  if (weight.stride(1) != 1 && weight.stride(0) == 1) {
    matrix = weight.t();
    transposed = !transposed;
  }
  Call<LinearParams> call;
  const auto read = [&](const at::Tensor& tensor, int64_t row_stride) {
    call.tensors.push_back(tensor);
    return TensorView{read_only(tensor), to_dtype(tensor.scalar_type()), 0, 0, row_stride};
  };
  const int64_t inputs = input.size(-1);
  const int64_t outputs = out.size(-1);
  const at::Tensor rows = rows_contiguous(input.reshape({out.numel() / outputs, inputs}));
  matrix = rows_contiguous(matrix);
  LinearParams& params = call.params;
  params.rows = rows.size(0);
  params.inputs = inputs;
  params.outputs = outputs;
  params.out = {out.mutable_data_ptr(), to_dtype(out.scalar_type()), 0, 0, params.outputs};
  params.input = read(rows, rows.stride(0));
  params.weight = read(matrix, matrix.stride(0));
  if (bias.has_value()) params.bias = read(bias->contiguous(), 0);
  if (options.multiplier.has_value()) {
    const at::Tensor factors = rows_contiguous(options.multiplier->reshape({params.rows, outputs}));
    params.multiplier = read(factors, factors.stride(0));
  }
  params.activation = to_activation(options.activation);
  params.transposed = transposed;
  return call;
}

}  // namespace masked_attn

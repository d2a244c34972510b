// Every operator on one screen. The contract of each is in the header of its name.
#include <torch/library.h>

TORCH_LIBRARY(masked_attn, m) {
  m.set_python_module("masked_attn.functional");
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};

  m.def(
      "expand_mask(Tensor mask, *, ScalarType dtype, SymInt? query_length=None, bool causal=False, "
      "int? window=None, float? fill=None) -> Tensor",
      tags);
  m.def(
      "masked_softmax(Tensor scores, *, Tensor? key_mask=None, Tensor? attn_mask=None, "
      "bool causal=False, int? window=None, float scale=1.0) -> Tensor",
      tags);
  m.def(
      "masked_attention(Tensor query, Tensor key, Tensor value, *, Tensor? key_mask=None, "
      "Tensor? attn_mask=None, bool causal=False, int? window=None, float? scale=None, "
      "float dropout_p=0.0) -> Tensor",
      tags);
  m.def(
      "_masked_attention_forward(Tensor query, Tensor key, Tensor value, *, "
      "Tensor? key_mask=None, Tensor? attn_mask=None, bool causal=False, int? window=None, "
      "float? scale=None, float dropout_p=0.0) -> (Tensor out, Tensor logsumexp)",
      tags);
  m.def(
      "packed_attention(Tensor query, Tensor key, Tensor value, Tensor cu_seqlens, "
      "SymInt max_seqlen, *, Tensor? cu_seqlens_k=None, SymInt? max_seqlen_k=None, "
      "bool causal=False, int? window=None, float? scale=None) -> Tensor",
      tags);
  m.def(
      "_packed_attention_forward(Tensor query, Tensor key, Tensor value, Tensor cu_seqlens, "
      "SymInt max_seqlen, *, Tensor? cu_seqlens_k=None, SymInt? max_seqlen_k=None, "
      "bool causal=False, int? window=None, float? scale=None) "
      "-> (Tensor out, Tensor logsumexp)",
      tags);
  m.def(
      "cached_attention(Tensor query, Tensor new_key, Tensor new_value, Tensor(a!) key_cache, "
      "Tensor(b!) value_cache, *, SymInt position, Tensor? key_mask=None, "
      "Tensor? attn_mask=None, int? window=None, float? scale=None) -> Tensor",
      tags);
  m.def(
      "cached_attention.device(Tensor query, Tensor new_key, Tensor new_value, "
      "Tensor(a!) key_cache, Tensor(b!) value_cache, *, Tensor position, "
      "Tensor? key_mask=None, Tensor? attn_mask=None, int? window=None, float? scale=None) "
      "-> Tensor",
      tags);
  m.def(
      "linear(Tensor input, Tensor weight, Tensor? bias=None, *, bool transposed=False, "
      "str? activation=None, Tensor? multiplier=None) -> Tensor",
      tags);
}

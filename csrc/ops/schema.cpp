// Every operator on one screen. The contract of each is in the header of its name; what is
// registered for all of them goes through the list in operators.h.
#include <torch/library.h>

#include <string>

TORCH_LIBRARY(masked_attn, m) {
  m.set_python_module("masked_attn.functional");
  const auto define = [&](const std::string& schema) {
    m.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  };
  const std::string masks = "Tensor? key_mask=None, Tensor? attn_mask=None, ";
  const std::string positions = "bool causal=False, int? window=None, ";
  const std::string scores =
      "float? scale=None, float? softcap=None, Tensor? sinks=None, Tensor? alibi_slopes=None";
  const std::string one = " -> Tensor";
  const std::string two = " -> (Tensor out, Tensor logsumexp)";

  define("expand_mask(Tensor mask, *, ScalarType dtype, SymInt? query_length=None, " + positions +
         "float? fill=None)" + one);
  define("masked_softmax(Tensor scores, *, " + masks + positions + "float scale=1.0)" + one);

  const std::string masked = "(Tensor query, Tensor key, Tensor value, *, " + masks + positions +
                             scores + ", float dropout_p=0.0)";
  define("masked_attention" + masked + one);
  define("_masked_attention_forward" + masked + two);

  const std::string packed =
      "(Tensor query, Tensor key, Tensor value, Tensor cu_seqlens, SymInt max_seqlen, *, "
      "Tensor? cu_seqlens_k=None, SymInt? max_seqlen_k=None, " +
      positions + scores + ")";
  define("packed_attention" + packed + one);
  define("_packed_attention_forward" + packed + two);

  const std::string cached =
      "(Tensor query, Tensor new_key, Tensor new_value, Tensor(a!) key_cache, "
      "Tensor(b!) value_cache, *, ";
  const std::string cached_options = " position, " + masks + "int? window=None, " + scores + ")";
  define("cached_attention" + cached + "SymInt" + cached_options + one);
  define("cached_attention.device" + cached + "Tensor" + cached_options + one);

  define(
      "linear(Tensor input, Tensor weight, Tensor? bias=None, *, bool transposed=False, "
      "str? activation=None, Tensor? multiplier=None)" +
      one);
}

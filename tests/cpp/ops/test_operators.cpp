// The operators as a LibTorch program calls them: through the dispatcher, compared with torch's
// own.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "ops/cached_attention.h"
#include "ops/expand_mask.h"
#include "ops/linear.h"
#include "ops/masked_attention.h"
#include "ops/masked_softmax.h"
#include "ops/packed_attention.h"
#include "support/catch.h"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes, at::kFloat); }

// 8 rows that are padded on the left by 0 to 7 keys.
at::Tensor left_padded(int64_t batch, int64_t keys) {
  return at::arange(keys).unsqueeze(0).ge(at::arange(batch).unsqueeze(1));
}

at::Tensor causal_pairs(int64_t queries, int64_t keys) {
  return at::ones({queries, keys}, at::kBool).tril(keys - queries);
}

at::Tensor eager(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                 const at::Tensor& seen) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(query.size(3)));
  const at::Tensor scores =
      at::matmul(query.to(at::kDouble) * scale, key.to(at::kDouble).transpose(2, 3))
          .masked_fill(seen.logical_not(), -kInf);
  const at::Tensor weights = scores.softmax(-1).masked_fill(seen.logical_not(), 0.0);
  return at::matmul(weights, value.to(at::kDouble));
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

}  // namespace

TEST_CASE("masked_attention equals eager attention in double") {
  at::manual_seed(1);
  const int64_t queries = GENERATE(1, 8, 9, 65, 130);
  const at::Tensor query = random({8, 4, queries, 32});
  const at::Tensor key = random({8, 4, 130, 32});
  const at::Tensor value = random({8, 4, 130, 48});
  const at::Tensor key_mask = left_padded(8, 130);
  const at::Tensor seen =
      key_mask.unsqueeze(1).unsqueeze(1).logical_and(causal_pairs(queries, 130));
  const at::Tensor out =
      masked_attn::masked_attention(query, key, value, {.key_mask = key_mask, .causal = true});
  REQUIRE(out.sizes() == at::IntArrayRef({8, 4, queries, 48}));
  CHECK(distance(out, eager(query, key, value, seen)) < 2e-6);
  // A control: without the mask the result is another one.
  const at::Tensor unmasked = masked_attn::masked_attention(query, key, value, {.causal = true});
  CHECK(distance(unmasked, eager(query, key, value, seen)) > 1e-3);
}

TEST_CASE("masked_attention_forward gives the log-sum-exp of the visible scores") {
  const at::Tensor zeros = at::zeros({1, 1, 3, 4});
  const auto [out, logsumexp] = masked_attn::masked_attention_forward(
      zeros, zeros, at::ones({1, 1, 3, 4}),
      {.key_mask = at::tensor({0, 1, 1}).unsqueeze(0).to(at::kBool), .causal = true});
  const float* values = logsumexp.const_data_ptr<float>();
  CHECK(values[0] == -kInf);
  CHECK(values[1] == 0.0f);
  CHECK(std::abs(values[2] - std::log(2.0f)) < 1e-6f);
  CHECK(out[0][0][0].abs().max().item<float>() == 0.0f);
}

TEST_CASE("masked_softmax equals torch's softmax where both see something") {
  at::manual_seed(2);
  const at::Tensor scores = random({8, 2, 5, 70});
  const at::Tensor key_mask = left_padded(8, 70);
  const at::Tensor hidden = key_mask.logical_not().unsqueeze(1).unsqueeze(1);
  const at::Tensor expected = scores.to(at::kDouble).masked_fill(hidden, -kInf).softmax(-1);
  CHECK(distance(masked_attn::masked_softmax(scores, {.key_mask = key_mask}), expected) < 1e-6);
}

TEST_CASE("expand_mask writes 0 and the fill") {
  const at::Tensor mask = at::tensor({0, 1, 1}).unsqueeze(0);
  const at::Tensor out =
      masked_attn::expand_mask(mask, at::kFloat, {.query_length = 2, .causal = true});
  REQUIRE(out.sizes() == at::IntArrayRef({1, 1, 2, 3}));
  const at::Tensor seen = out.flatten().eq(0.0);
  CHECK(seen.equal(at::tensor({0, 1, 0, 0, 1, 1}).to(at::kBool)));
  CHECK(out.flatten()[0].item<float>() == -kInf);
  const at::Tensor filled =
      masked_attn::expand_mask(mask, at::kHalf, {.query_length = 1, .fill = -7});
  CHECK(filled.flatten()[0].item<float>() == -7.0f);
}

TEST_CASE("cached_attention writes its slots and attends over all of them") {
  at::manual_seed(3);
  const at::Tensor query = random({2, 4, 3, 16});
  const at::Tensor new_key = random({2, 2, 3, 16});
  const at::Tensor new_value = random({2, 2, 3, 16});
  at::Tensor key_cache = random({2, 2, 90, 16});
  at::Tensor value_cache = random({2, 2, 90, 16});
  at::Tensor keys_before = key_cache.clone();
  at::Tensor values_before = value_cache.clone();

  const at::Tensor out = masked_attn::cached_attention(query, new_key, new_value, key_cache,
                                                       value_cache, c10::SymInt(70));
  keys_before.narrow(2, 70, 3).copy_(new_key);
  values_before.narrow(2, 70, 3).copy_(new_value);
  CHECK(key_cache.equal(keys_before));
  CHECK(value_cache.equal(values_before));
  const at::Tensor expected =
      eager(query, key_cache.narrow(2, 0, 73).repeat_interleave(2, 1),
            value_cache.narrow(2, 0, 73).repeat_interleave(2, 1), causal_pairs(3, 73));
  CHECK(distance(out, expected) < 2e-6);

  SECTION("the position may lie on the device") {
    const at::Tensor again = masked_attn::cached_attention(
        query, new_key, new_value, key_cache, value_cache, at::scalar_tensor(70, at::kLong));
    CHECK(again.equal(out));
  }
}

TEST_CASE("packed_attention has the bits of each sequence alone") {
  at::manual_seed(4);
  const int64_t lengths[] = {3, 0, 70, 9};
  const at::Tensor cu_seqlens = at::tensor({0, 3, 3, 73, 82}, at::kInt);
  // Slices of one buffer, as a projection gives them.
  const std::vector<at::Tensor> parts = random({82, 3 * 4 * 16}).split(64, 1);
  const auto part = [&](int i) { return parts[i].view({82, 4, 16}); };
  const auto [out, logsumexp] = masked_attn::packed_attention_forward(
      part(0), part(1), part(2), cu_seqlens, 70, {.causal = true});
  CHECK(logsumexp.sizes() == at::IntArrayRef({4, 82}));
  int64_t first = 0;
  for (int64_t length : lengths) {
    const auto row = [&](const at::Tensor& tensor) {
      return tensor.narrow(0, first, length).transpose(0, 1).unsqueeze(0);
    };
    const auto [alone, sums] = masked_attn::masked_attention_forward(
        row(part(0)), row(part(1)), row(part(2)), {.causal = true});
    CHECK(row(out).equal(alone));
    CHECK(logsumexp.narrow(1, first, length).equal(sums[0]));
    first += length;
  }
  const std::string message =
      message_of([&] { masked_attn::packed_attention(part(0), part(1), part(2), cu_seqlens, 69); });
  CHECK(message.find("packed_attention: cu_seqlens[3] = 73 gives sequence 2 70 queries") !=
        std::string::npos);
}

TEST_CASE("linear equals torch's own, and a row has the bits of the row alone") {
  at::manual_seed(5);
  const at::Tensor x = random({3, 40, 300});
  const at::Tensor weight = random({70, 300}) * 0.06;
  const at::Tensor bias = random({70});
  const at::Tensor factors = random({3, 40, 70});
  const at::Tensor expected =
      at::gelu(at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble)),
               "tanh") *
      factors;
  masked_attn::LinearOptions options{.activation = "gelu_tanh", .multiplier = factors};
  const at::Tensor out = masked_attn::linear(x, weight, bias, options);
  REQUIRE(out.sizes() == at::IntArrayRef({3, 40, 70}));
  CHECK(distance(out, expected) < 1e-5);
  options.multiplier = factors[1][7];
  CHECK(masked_attn::linear(x[1][7], weight, bias, options).equal(out[1][7]));

  SECTION("the other layout of the weight is another order of memory, not another answer") {
    const at::Tensor turned = weight.t().contiguous();
    const at::Tensor plain = masked_attn::linear(x, turned, std::nullopt, {.transposed = true});
    CHECK(distance(plain, at::linear(x.to(at::kDouble), weight.to(at::kDouble))) < 1e-5);
  }
  SECTION("the defaults are a plain product") {
    CHECK(distance(masked_attn::linear(x, weight), at::linear(x, weight)) < 1e-5);
  }
  SECTION("errors name what is wrong") {
    CHECK(message_of([&] { masked_attn::linear(x, weight, bias, {.activation = "tanh"}); }) ==
          "linear: activation must be gelu_tanh, gelu, silu, relu or None, got tanh");
  }
}

TEST_CASE("meta tensors get shapes and checks") {
  const at::Tensor query = at::empty({2, 4, 5, 16}, at::device(at::kMeta));
  const at::Tensor key = at::empty({2, 2, 9, 16}, at::device(at::kMeta));
  const at::Tensor out = masked_attn::masked_attention(query, key, key);
  CHECK(out.is_meta());
  CHECK(out.sizes() == at::IntArrayRef({2, 4, 5, 16}));
  const std::string message = message_of([&] {
    masked_attn::masked_attention(query, key, key,
                                  {.key_mask = at::ones({2, 8}, at::kBool).to(at::kMeta)});
  });
  CHECK(message.find("masked_attention: key_mask must be [batch, keys] = [2, 9], got [2, 8]") !=
        std::string::npos);
}

TEST_CASE("every operator is registered where it should be") {
  for (const char* name :
       {"expand_mask", "masked_softmax", "masked_attention", "_masked_attention_forward",
        "packed_attention", "_packed_attention_forward", "cached_attention", "linear"}) {
    const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(
        (std::string("masked_attn::") + name).c_str(), "");
    INFO(name);
    CHECK(op.hasKernelForDispatchKey(c10::DispatchKey::CPU));
    CHECK(op.hasKernelForDispatchKey(c10::DispatchKey::Meta));
    CHECK(op.hasKernelForDispatchKey(c10::DispatchKey::Autograd));
  }
}

TEST_CASE("a wanted gradient is an error, not a missing one") {
  const at::Tensor query = random({1, 1, 2, 4}).requires_grad_();
  const std::string message =
      message_of([&] { masked_attn::masked_attention(query, query, query); });
  CHECK(message.find("no gradient yet") != std::string::npos);
}

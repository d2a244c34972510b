// Offsets beyond 2^31 elements, in memory that is reserved but, for the most part, never touched.
#include <sys/mman.h>

#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

constexpr int64_t kFar = (int64_t{1} << 31) + 64;  // elements between two rows of the batch

// Room for two rows of the batch, `kFar` elements apart.
class FarMemory {
 public:
  explicit FarMemory(int64_t element_size) : bytes_((kFar + (1 << 16)) * element_size) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~FarMemory() {
    if (ok()) munmap(data_, bytes_);
  }
  FarMemory(const FarMemory&) = delete;

  bool ok() const { return data_ != MAP_FAILED; }
  void* data() const { return data_; }

 private:
  int64_t bytes_;
  void* data_;
};

// Both rows of a contiguous float tensor, moved apart.
TensorView spread(const Tensor& tensor, const FarMemory& memory) {
  TensorView view = tensor.view();
  const float* from = static_cast<const float*>(view.data);
  float* to = static_cast<float*>(memory.data());
  std::memcpy(to, from, view.batch_stride * sizeof(float));
  std::memcpy(to + kFar, from + view.batch_stride, view.batch_stride * sizeof(float));
  view.data = memory.data();
  view.batch_stride = kFar;
  return view;
}

Tensor gather(const TensorView& view, const Tensor& like) {
  Tensor out = like;
  const int64_t stride = like.view().batch_stride;
  float* to = static_cast<float*>(out.view().data);
  const float* from = static_cast<const float*>(view.data);
  std::memcpy(to, from, stride * sizeof(float));
  std::memcpy(to + stride, from + kFar, stride * sizeof(float));
  return out;
}

bool have_room(std::initializer_list<const FarMemory*> parts) {
  for (const FarMemory* part : parts) {
    if (part->ok()) continue;
    note_skipped("offsets beyond 2^31", "no address space");
    return false;
  }
  return true;
}

AttentionInputs two_rows(int64_t queries) {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 2;
  shape.kv_heads = 2;
  shape.queries = queries;
  shape.keys = 70;
  Random random(1);
  AttentionInputs in = make_inputs(shape, &random);
  in.masks.add_attn(DType::kFloat32, {true, true, true, true});
  AttnMask& mask = in.masks.attn[0];
  Tensor(DType::kBool, 2, 2, queries, 70).for_each([&](auto... at) {
    mask.set(at..., random.uniform(-1, 1));
  });
  return in;
}

}  // namespace

TEST_CASE("attention with offsets beyond 2^31") {
  const FarMemory query(4), key(4), value(4), out(4), mask(4);
  if (!have_room({&query, &key, &value, &out, &mask})) return;
  for (int64_t queries : {3, 60}) {
    const AttentionInputs in = two_rows(queries);
    const int64_t mask_row = in.masks.attn[0].strides[0];
    const uint8_t* from = in.masks.attn[0].bytes.data();
    std::memcpy(mask.data(), from, mask_row * 4);
    std::memcpy(static_cast<float*>(mask.data()) + kFar, from + mask_row * 4, mask_row * 4);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult expected = run_attention(kernels, in);
      masked_attn::AttentionParams p = attention_params(in);
      p.query = spread(in.query, query);
      p.key = spread(in.key, key);
      p.value = spread(in.value, value);
      p.out = spread(expected.out, out);
      std::memset(out.data(), 0xff, 4096);
      p.mask.attn_mask = mask.data();
      p.mask.attn_mask_strides[0] = kFar;
      run_guarded(kernels.attention, p, masked_attn::cpu::attention_workspace(p), {}, in.query);
      REQUIRE(bits_differ(gather(p.out, expected.out), expected.out) == "");
    });
  }
}

TEST_CASE("softmax and append with offsets beyond 2^31") {
  const FarMemory near(4), far(4);
  if (!have_room({&near, &far})) return;
  Random random(1);
  const Tensor source = Tensor(DType::kFloat32, 2, 2, 33, 70).randomize(&random);
  Masks masks;
  masks.batch = 2;
  masks.heads = 2;
  masks.queries = 33;
  masks.keys = 70;
  for_each_isa([&](const Kernels& kernels, const char*) {
    const Tensor expected = run_softmax(kernels, source, masks, 1);
    masked_attn::SoftmaxParams s{};
    s.batch = 2;
    s.heads = 2;
    s.scores = spread(source, near);
    s.out = spread(source, far);
    s.mask = masks.params();
    s.scale = 1;
    run_guarded(kernels.masked_softmax, s, masked_attn::cpu::softmax_workspace(s), {}, source);
    REQUIRE(bits_differ(gather(s.out, expected), expected) == "");

    const masked_attn::AppendParams p{2, 2, 33, 70, 0, nullptr, 0, s.out, s.scores, {in_order, 1}};
    REQUIRE(kernels.append_cache(p) == 0);
    REQUIRE(bits_differ(gather(s.out, source), source) == "");
  });
}

TEST_CASE("expand_mask with a key mask whose rows lie beyond 2^31") {
  const FarMemory memory(1);
  if (!have_room({&memory})) return;
  uint8_t* key_mask = static_cast<uint8_t*>(memory.data());
  for (int64_t j = 0; j < 9; ++j) key_mask[j] = j % 2, key_mask[kFar + j] = j % 3 == 0;
  for_each_isa([&](const Kernels& kernels, const char*) {
    std::vector<uint16_t> out(18, 0xa5a5);
    masked_attn::ExpandParams p{};
    p.batch = 2;
    p.out = out.data();
    p.element_bytes = 2;
    p.fill_bits = 0xfc00;
    p.mask.queries = 1;
    p.mask.keys = 9;
    p.mask.key_mask = key_mask;
    p.mask.key_mask_strides[0] = kFar;
    p.mask.key_mask_strides[1] = 1;
    p.threads = {in_order, 1};
    REQUIRE(kernels.expand_mask(p) == 0);
    for (int64_t j = 0; j < 9; ++j) {
      REQUIRE(out[j] == (j % 2 ? 0 : 0xfc00));
      REQUIRE(out[9 + j] == (j % 3 == 0 ? 0 : 0xfc00));
    }
  });
}

// Defines MASKED_ATTN_TEST_ASAN in a build with an address sanitizer.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MASKED_ATTN_TEST_ASAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define MASKED_ATTN_TEST_ASAN
#endif

# Sanitizers for kernels and C++ tests; nothing else in the build is meant to run with them:
#   cmake -S . -B build/asan -DMASKED_ATTN_SANITIZE=address,undefined \
#         -DMASKED_ATTN_BUILD_OPS=OFF -DMASKED_ATTN_BUILD_TESTS=ON

set(MASKED_ATTN_SANITIZE "" CACHE STRING "Sanitizers for kernels and C++ tests: address,undefined")
if(MASKED_ATTN_SANITIZE)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MASKED_ATTN_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
  add_link_options(-fsanitize=${MASKED_ATTN_SANITIZE})
endif()

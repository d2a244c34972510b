# The CPU instruction sets: their names, in order of preference, and their compiler flags.
# Every kernel source is compiled once per set; only the flags differ.

set(MASKED_ATTN_SETS scalar)
set(MASKED_ATTN_X86_DEFINITION)  # defined for sources only where the AVX sets are built
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
  list(APPEND MASKED_ATTN_SETS avx2 avx512 avx512_bf16 amx)
  set(MASKED_ATTN_X86_DEFINITION MASKED_ATTN_X86_SETS=1)
endif()

set(MASKED_ATTN_FLAGS_scalar)
set(MASKED_ATTN_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(MASKED_ATTN_FLAGS_avx512 ${MASKED_ATTN_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq
                             -mprefer-vector-width=512)
set(MASKED_ATTN_FLAGS_avx512_bf16 ${MASKED_ATTN_FLAGS_avx512} -mavx512bf16)
set(MASKED_ATTN_FLAGS_amx ${MASKED_ATTN_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16)
# For tests only: the code of `amx` with its tiles in plain code, on a CPU that has none.
set(MASKED_ATTN_FLAGS_amx_stand_in ${MASKED_ATTN_FLAGS_avx2} -DMASKED_ATTN_TILE_STAND_IN=1)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 warns about variables inside its own header of AVX-512 intrinsics.
  foreach(set avx512 avx512_bf16 amx)
    list(APPEND MASKED_ATTN_FLAGS_${set} -Wno-uninitialized -Wno-maybe-uninitialized)
  endforeach()
endif()

# No fast-math: NaN, Inf and the order of sums are promises. Contraction is off so that a fused
# multiply-add happens only where the source asks for one.
set(MASKED_ATTN_KERNEL_FLAGS
    $<$<NOT:$<CONFIG:Debug>>:-O3> -fno-math-errno -fno-trapping-math -ffp-contract=off
    -fno-exceptions -fno-rtti -fvisibility=hidden -Wall -Wextra)

# Sources that choose or plan: compiled once, without any set's flags, so that they run on every CPU.
set(MASKED_ATTN_COMMON_SOURCES isa.cpp plan.cpp)

# Adds one object library for one set (or "common").
function(masked_attn_add_kernel_objects name)
  set(target masked_attn_kernels_${name})
  add_library(${target} OBJECT ${ARGN})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
  target_compile_options(${target} PRIVATE ${MASKED_ATTN_KERNEL_FLAGS} ${MASKED_ATTN_FLAGS_${name}})
  target_compile_definitions(${target} PRIVATE ${MASKED_ATTN_X86_DEFINITION})
  if(NOT name STREQUAL "common")
    target_compile_definitions(${target} PRIVATE MASKED_ATTN_TARGET=${name})
  endif()
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# Adds two libraries (no torch) from csrc/kernels/cpu: the static `masked_attn_kernels`, for programs
# that look inside, and the shared `masked_attn_kernels_shared`, which shows only the doors
# (kernels/cpu/isa.h and plan.h). Whoever meets in one process uses the shared one, so that each
# kernel, and the choice of the instruction set, is there once.
function(masked_attn_add_kernels)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/kernels/cpu/*.cpp)
  set(common)
  foreach(name IN LISTS MASKED_ATTN_COMMON_SOURCES)
    list(APPEND common ${PROJECT_SOURCE_DIR}/csrc/kernels/cpu/${name})
  endforeach()
  list(REMOVE_ITEM sources ${common})
  set(MASKED_ATTN_KERNEL_SOURCES ${sources} PARENT_SCOPE)

  masked_attn_add_kernel_objects(common ${common})
  set(objects $<TARGET_OBJECTS:masked_attn_kernels_common>)
  foreach(set IN LISTS MASKED_ATTN_SETS)
    masked_attn_add_kernel_objects(${set} ${sources})
    list(APPEND objects $<TARGET_OBJECTS:masked_attn_kernels_${set}>)
  endforeach()

  add_library(masked_attn_kernels STATIC ${objects})
  add_library(masked_attn_kernels_shared SHARED ${objects})
  set_target_properties(masked_attn_kernels_shared PROPERTIES
    PREFIX lib SUFFIX .so OUTPUT_NAME masked_attn_kernels)
  foreach(library masked_attn_kernels masked_attn_kernels_shared)
    target_include_directories(${library} PUBLIC ${PROJECT_SOURCE_DIR}/csrc)
    target_compile_definitions(${library} PUBLIC ${MASKED_ATTN_X86_DEFINITION})
  endforeach()
endfunction()

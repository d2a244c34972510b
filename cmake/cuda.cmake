# Decides whether CUDA kernels are built, and says so. They need sources in csrc/kernels/cuda, a CUDA
# build of torch, and an nvcc of the same major version: else two CUDA runtimes meet in one process.

# Sets in the caller `result` to the release of `nvcc`, such as 13.0, or to "" if it does not run.
function(masked_attn_nvcc_version nvcc result)
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE status)
  set(${result} "" PARENT_SCOPE)
  if(status EQUAL 0 AND text MATCHES "release ([0-9]+\\.[0-9]+)")
    set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
  endif()
endfunction()

# Sets in the caller `result` to why CUDA kernels can't be built, or to "".
function(masked_attn_why_no_cuda torch_version torch_cuda nvcc result)
  file(GLOB sources ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../csrc/kernels/cuda/*.cu)
  set(reason "")
  if(NOT torch_cuda)
    set(reason "torch ${torch_version} is a CPU build")
  elseif(NOT sources)
    set(reason "this version has no CUDA kernels")
  elseif(NOT nvcc)
    set(reason "torch ${torch_version} is a CUDA build, but no CUDA toolkit (nvcc) was found")
  else()
    masked_attn_nvcc_version(${nvcc} version)
    string(REGEX MATCH "^[0-9]+" wanted "${torch_cuda}")
    if(NOT version)
      set(reason "${nvcc} --version did not tell its version")
    elseif(NOT version MATCHES "^${wanted}\\.")
      set(reason "torch ${torch_version} was built with CUDA ${torch_cuda}, and ${nvcc} is CUDA ${version}")
    endif()
  endif()
  set(${result} "${reason}" PARENT_SCOPE)
endfunction()

# Sets in the caller MASKED_ATTN_CUDA (ON or OFF) and MASKED_ATTN_CUDA_REASON (why it is OFF).
function(masked_attn_detect_cuda torch_version torch_cuda nvcc)
  masked_attn_why_no_cuda("${torch_version}" "${torch_cuda}" "${nvcc}" reason)
  if(reason AND torch_cuda)
    message(WARNING "masked_attn: ${reason}: building for the CPU only. For CUDA kernels install "
                    "CUDA toolkit ${torch_cuda} and build again.")
  endif()
  if(reason)
    message(STATUS "masked_attn: CUDA kernels: no (${reason})")
    set(MASKED_ATTN_CUDA OFF PARENT_SCOPE)
  else()
    message(STATUS "masked_attn: CUDA kernels: yes (CUDA ${torch_cuda}, ${nvcc})")
    set(MASKED_ATTN_CUDA ON PARENT_SCOPE)
  endif()
  set(MASKED_ATTN_CUDA_REASON "${reason}" PARENT_SCOPE)
endfunction()

# The GPUs that kernels are compiled for: Ampere and Hopper as machine code, and PTX of the latter,
# from which a driver makes code for newer ones.
set(MASKED_ATTN_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "CUDA architectures, as CMake names them")

# `nvcc` names a variable. Adds the static library `masked_attn_cuda_kernels` (no torch). A macro,
# because a language can't be enabled inside a function.
macro(masked_attn_add_cuda_kernels nvcc)
  if(NOT ${nvcc})
    message(FATAL_ERROR "masked_attn: CUDA kernels need nvcc, and there is none in PATH.")
  endif()
  set(CMAKE_CUDA_COMPILER ${${nvcc}})
  if(CMAKE_CUDA_ARCHITECTURES)
    set(MASKED_ATTN_CUDA_ARCHITECTURES ${CMAKE_CUDA_ARCHITECTURES})
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${MASKED_ATTN_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  file(GLOB masked_attn_cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/kernels/cuda/*.cu)
  add_library(masked_attn_cuda_kernels STATIC ${masked_attn_cuda_sources})
  target_include_directories(masked_attn_cuda_kernels PUBLIC ${PROJECT_SOURCE_DIR}/csrc)
  target_compile_features(masked_attn_cuda_kernels PUBLIC cuda_std_20)
  target_compile_definitions(masked_attn_cuda_kernels PRIVATE MASKED_ATTN_TARGET=cuda_device)
  # As on the CPU: multiplications and additions are fused only where the source asks for it.
  target_compile_options(masked_attn_cuda_kernels PRIVATE -fmad=false -Xcompiler=-fvisibility=hidden)
  # The shared runtime is the one that torch uses, so both agree on the current device.
  set_target_properties(masked_attn_cuda_kernels PROPERTIES
    POSITION_INDEPENDENT_CODE ON CUDA_RUNTIME_LIBRARY Shared)
endmacro()

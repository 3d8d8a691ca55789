# kvtier_check_nvcc(result): whether KVTIER_NVCC compiles the device's kernels, tried once with a few lines that need what
# they need, and kvtier_device_targets, the GPU generations that it knows of those that get code of their own. A toolkit
# that is too old, or that does not take this compiler, is no toolkit; `result` then says why.
set(kvtier_nvcc_flags -std=c++20 -Werror all-warnings)
if(DEFINED ENV{NVCC_CCBIN} OR DEFINED ENV{CUDAHOSTCXX})
  # What the user chose for nvcc: it reads NVCC_CCBIN itself.
  if(NOT DEFINED ENV{NVCC_CCBIN})
    list(APPEND kvtier_nvcc_flags -ccbin $ENV{CUDAHOSTCXX})
  endif()
else()
  list(APPEND kvtier_nvcc_flags -ccbin ${CMAKE_CXX_COMPILER})
endif()

function(kvtier_check_nvcc result)
  set(${result} "" PARENT_SCOPE)
  # Turing, Ampere (which Ada runs as well), Hopper, Blackwell (two). Others run the nearest older one, or PTX. Code for
  # 8.6 and 8.9 too would put the addon over 1.5 MB and be no other.
  execute_process(COMMAND ${KVTIER_NVCC} --list-gpu-code OUTPUT_VARIABLE known ERROR_VARIABLE error RESULT_VARIABLE code)
  set(targets "")
  foreach(target IN ITEMS 75 80 90 100 120)
    if(known MATCHES "sm_${target}(\n|\r|$)")
      list(APPEND targets ${target})
    endif()
  endforeach()
  if(NOT code EQUAL 0)
    set(${result} "nvcc --list-gpu-code: ${code} ${error}" PARENT_SCOPE)
    return()
  elseif(NOT targets)
    set(${result} "It knows no GPU that kvtier has code for." PARENT_SCOPE)
    return()
  endif()
  set(kvtier_device_targets ${targets} PARENT_SCOPE)

  set(tried "${KVTIER_NVCC} ${kvtier_nvcc_flags}")
  if(KVTIER_NVCC_WORKS STREQUAL tried)
    return()
  endif()
  list(GET targets 0 oldest)
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/nvcc-probe)
  file(WRITE ${probe}.cu "#include <concepts>\n#include <cstring>\n#include <span>\nstruct Words { unsigned words[4]; };\n"
                         "extern \"C\" __global__ void probe(const __grid_constant__ Words words, unsigned* to) {\n"
                         "  to[threadIdx.x] = words.words[threadIdx.x];\n}\n")
  execute_process(COMMAND ${KVTIER_NVCC} ${kvtier_nvcc_flags} -fatbin -gencode arch=compute_${oldest},code=sm_${oldest}
                          ${probe}.cu -o ${probe}.fatbin
                  OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    string(STRIP "${output}${error}" error)
    set(${result} "${error}" PARENT_SCOPE)
    return()
  endif()
  set(KVTIER_NVCC_WORKS "${tried}" CACHE INTERNAL "The nvcc and its flags that have compiled a kernel")
endfunction()

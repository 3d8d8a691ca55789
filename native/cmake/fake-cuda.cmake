# Fake drivers for the unit tests of platform/cuda, in <build>/testing: the same functions, found in the three ways that
# drivers have had. kvtier_fake_cuda_<way> exports cuGetProcAddress_v2, the older cuGetProcAddress, or every name.
file(GLOB kvtier_fake_cuda_sources CONFIGURE_DEPENDS ${kvtier_test_dir}/support/fake-cuda/*.cc)
add_library(kvtier_fake_cuda_objects OBJECT ${kvtier_fake_cuda_sources})
target_include_directories(kvtier_fake_cuda_objects PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${kvtier_test_dir}/support)
target_link_libraries(kvtier_fake_cuda_objects PRIVATE kvtier_flags)
set_target_properties(kvtier_fake_cuda_objects PROPERTIES CXX_VISIBILITY_PRESET default)

set(kvtier_fake_cuda_exports_v2 "cuGetProcAddress_v2; cuInit; cuDriverGetVersion")
set(kvtier_fake_cuda_exports_v1 "cuGetProcAddress; cuInit; cuDriverGetVersion")
set(kvtier_fake_cuda_exports_names "cu*")
foreach(way IN ITEMS v2 v1 names)
  set(exports ${CMAKE_CURRENT_BINARY_DIR}/fake-cuda-${way}.map)
  set(hidden "*")
  if(way STREQUAL "names")
    set(hidden "cuGetProcAddress; cuGetProcAddress_v2; *")
  endif()
  file(WRITE ${exports} "{ global: kvtier_fake_control; ${kvtier_fake_cuda_exports_${way}}; local: ${hidden}; };\n")
  add_library(kvtier_fake_cuda_${way} MODULE $<TARGET_OBJECTS:kvtier_fake_cuda_objects>)
  target_link_libraries(kvtier_fake_cuda_${way} PRIVATE kvtier_flags)
  target_link_options(kvtier_fake_cuda_${way} PRIVATE -Wl,--version-script=${exports})
  set_target_properties(kvtier_fake_cuda_${way} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/testing
                                                           LINKER_LANGUAGE CXX)
endforeach()

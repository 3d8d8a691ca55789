# What only tests and benchmarks load, into <build>/testing. None of it is in the package.
set(kvtier_test_dir ${PROJECT_SOURCE_DIR}/test)
# So that the folder can be moved, as bundle-gpu does.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
file(GLOB_RECURSE kvtier_faulty_io_sources CONFIGURE_DEPENDS ${kvtier_test_dir}/support/faulty-io/*.cc)
file(GLOB_RECURSE kvtier_unit_test_sources CONFIGURE_DEPENDS ${kvtier_test_dir}/native/*.cc)
file(GLOB_RECURSE kvtier_limits_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/native/*.cc)
file(GLOB kvtier_verify_source CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/storage/verify.cc)

# The addon with `binding.testing`: faults and holds in the I/O seam. And the same with a comparison of checksums that
# always says yes: the crash tests must fail with it. Its own verify.cc comes before the storage layer's archive, so the
# linker never takes that one. The two share what does not know which of them it is in.
set(kvtier_shared_sources ${kvtier_binding_sources} ${kvtier_faulty_io_sources})
list(FILTER kvtier_shared_sources EXCLUDE REGEX "/testing_calls\\.cc$")
set(kvtier_differing_sources ${kvtier_binding_sources})
list(FILTER kvtier_differing_sources INCLUDE REGEX "/testing_calls\\.cc$")
if(kvtier_shared_sources)
  add_library(kvtier_testing_objects OBJECT ${kvtier_shared_sources})
  target_compile_definitions(kvtier_testing_objects PRIVATE KVTIER_TESTING KVTIER_ADDON_NAME=kvtier)
  target_include_directories(kvtier_testing_objects PRIVATE ${kvtier_test_dir})
  target_link_libraries(kvtier_testing_objects PRIVATE kvtier_layer_binding kvtier_node)
  # Compiled as the sources are: for size, where the binding is.
  get_source_file_property(kvtier_binding_options ${CMAKE_CURRENT_SOURCE_DIR}/binding/addon.cc COMPILE_OPTIONS)
  if(kvtier_binding_options)
    target_compile_options(kvtier_testing_objects PRIVATE ${kvtier_binding_options})
  endif()
  kvtier_precompile(kvtier_testing_objects <napi.h>)
  list(APPEND kvtier_differing_sources $<TARGET_OBJECTS:kvtier_testing_objects>)
endif()
kvtier_addon(kvtier_testing OUTPUT testing DEFINES KVTIER_TESTING SOURCES ${kvtier_differing_sources})
kvtier_addon(kvtier_unverified OUTPUT testing DEFINES KVTIER_TESTING KVTIER_UNVERIFIED
             SOURCES ${kvtier_differing_sources} ${kvtier_verify_source})
# Limits that benchmarks divide by: plain loops over the machine, measured in the same process.
kvtier_addon(limits OUTPUT testing SOURCES ${kvtier_limits_sources})
# The GPU's work beside which copies are measured: code for every generation, and PTX of the oldest and the newest.
if(kvtier_cuda)
  set(kvtier_product_source ${PROJECT_SOURCE_DIR}/bench/native/matrix_product.cu)
  set(kvtier_product_image ${CMAKE_CURRENT_BINARY_DIR}/matrix_product.fatbin)
  add_custom_command(
    OUTPUT ${kvtier_product_image}
    COMMAND ${KVTIER_NVCC} ${kvtier_device_flags} ${kvtier_device_codes}
            -gencode arch=compute_${kvtier_oldest},code=compute_${kvtier_oldest} --threads 2 -fatbin
            ${kvtier_product_source} -o ${kvtier_product_image}
    DEPENDS ${kvtier_product_source} ${PROJECT_SOURCE_DIR}/bench/native/matrix_product.h ${kvtier_device_headers}
    COMMENT "Compiling the benchmarks' matrix product"
    VERBATIM)
  target_sources(limits PRIVATE ${kvtier_product_image})
  set_source_files_properties(${PROJECT_SOURCE_DIR}/bench/native/device_work.cc
                              PROPERTIES OBJECT_DEPENDS ${kvtier_product_image}
                                         COMPILE_DEFINITIONS LIMITS_PRODUCT_IMAGE="${kvtier_product_image}")
endif()

# The simulated CUDA driver, and the simulated cuFile that goes with it: libraries with the vendors' symbols, which use
# nothing of the addon but its declarations of them.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(kvtier_sim_dir ${kvtier_test_dir}/support/sim-cuda)
  file(GLOB kvtier_sim_cuda_sources CONFIGURE_DEPENDS ${kvtier_sim_dir}/*.cc ${kvtier_sim_dir}/kernels/*.cc
       ${kvtier_test_dir}/gpu/engine/kernels_host.cc)
  file(GLOB kvtier_sim_cufile_sources CONFIGURE_DEPENDS ${kvtier_sim_dir}/cufile/*.cc)
  add_library(kvtier_sim_cuda SHARED ${kvtier_sim_cuda_sources})
  add_library(kvtier_sim_cufile SHARED ${kvtier_sim_cufile_sources})
  target_link_libraries(kvtier_sim_cufile PRIVATE kvtier_sim_cuda)
  foreach(target IN ITEMS kvtier_sim_cuda kvtier_sim_cufile)
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${kvtier_test_dir}
                                                 ${PROJECT_SOURCE_DIR})
    target_compile_options(${target} PRIVATE -fno-exceptions)
    kvtier_precompile(${target})
    target_link_libraries(${target} PRIVATE kvtier_flags)
    target_link_options(${target} PRIVATE -Wl,--version-script=${kvtier_sim_dir}/exports.map -Wl,-z,nodelete
                                            -Wl,--no-undefined)
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/testing
                                               BUILD_RPATH "$ORIGIN")
  endforeach()
  # An engine's streams, events and memory on the simulated driver, and its controls, for TypeScript tests.
  kvtier_addon(kvtier_sim_engine OUTPUT testing SOURCES ${kvtier_sim_dir}/engine/sim_engine.cc)
  target_link_libraries(kvtier_sim_engine PRIVATE kvtier_sim_cuda)
  set_target_properties(kvtier_sim_engine PROPERTIES BUILD_RPATH "$ORIGIN")
  include(cmake/gpu-engine.cmake)
endif()

# A sanitizer's build is for tests alone.
if(KVTIER_SANITIZE)
  foreach(target IN ITEMS kvtier kvtier_unverified limits)
    if(TARGET ${target})
      set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
  endforeach()
endif()

find_path(KVTIER_DOCTEST_INCLUDE doctest/doctest.h)
find_path(KVTIER_XXHASH_INCLUDE xxhash.h)
find_library(KVTIER_XXHASH_LIBRARY xxhash)
if(NOT KVTIER_DOCTEST_INCLUDE OR NOT KVTIER_XXHASH_INCLUDE OR NOT KVTIER_XXHASH_LIBRARY)
  message(STATUS "kvtier: no native unit tests: install doctest and xxhash (Debian: doctest-dev libxxhash-dev)")
  add_custom_target(kvtier_unit_tests)
else()
  # Tests are compiled more often than they are run: what they test is optimised, they are not.
  if("thread" IN_LIST KVTIER_SANITIZE)
    set(kvtier_test_optimisation -O0)
  elseif(KVTIER_SANITIZE)
    # What is tested is watched; to watch the tests as well takes twice as long to compile.
    set(kvtier_tests_plain ON)
  else()
    set(kvtier_test_optimisation -O1)
  endif()
  if(NOT kvtier_tests_plain)
    set_source_files_properties(${kvtier_unit_test_sources} PROPERTIES COMPILE_OPTIONS "${kvtier_test_optimisation}")
  endif()
  add_executable(kvtier_unit_tests ${kvtier_unit_test_sources} ${kvtier_faulty_io_sources})
  if(kvtier_tests_plain)
    set_target_properties(kvtier_unit_tests PROPERTIES KVTIER_PLAIN ON)
    target_compile_options(kvtier_unit_tests PRIVATE -O0 -g1)
    # A third of the time that a test takes to compile.
    kvtier_precompile(kvtier_unit_tests <doctest/doctest.h> <deque> <random> <set>)
    set_source_files_properties(${kvtier_test_dir}/native/main.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  endif()
  # Whoever runs them with sanitizers anyway needs no second program without.
  if("$ENV{KVTIER_UNIT_TESTS}" STREQUAL "sanitized" AND NOT KVTIER_SANITIZE)
    set_target_properties(kvtier_unit_tests PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  target_include_directories(kvtier_unit_tests PRIVATE ${kvtier_test_dir})
  target_include_directories(kvtier_unit_tests SYSTEM PRIVATE ${KVTIER_DOCTEST_INCLUDE} ${KVTIER_XXHASH_INCLUDE})
  # The compiler's own word for sanitizers is not there where only what is tested is watched.
  target_compile_definitions(kvtier_unit_tests PRIVATE KVTIER_TESTING $<$<BOOL:${KVTIER_SANITIZE}>:KVTIER_SANITIZED>)
  target_link_libraries(kvtier_unit_tests PRIVATE kvtier_layer_binding ${KVTIER_XXHASH_LIBRARY})
  set_target_properties(kvtier_unit_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/testing)
  if(TARGET kvtier_sim_cuda)
    add_dependencies(kvtier_unit_tests kvtier_sim_cuda kvtier_sim_cufile)
  endif()
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    include(cmake/fake-cuda.cmake)
    add_dependencies(kvtier_unit_tests kvtier_fake_cuda_v2 kvtier_fake_cuda_v1 kvtier_fake_cuda_names)
  endif()
  # For the two tests that compare kvtier's declarations with the vendor's. cufile.h is not in every toolkit.
  if(KVTIER_CUDA_INCLUDE)
    find_path(KVTIER_CUFILE_INCLUDE cufile.h HINTS ${KVTIER_CUDA_INCLUDE})
    set(kvtier_vendor_headers "-isystem;${KVTIER_CUDA_INCLUDE}")
    if(KVTIER_CUFILE_INCLUDE)
      list(APPEND kvtier_vendor_headers "-isystem;${KVTIER_CUFILE_INCLUDE}")
    endif()
    set_source_files_properties(${kvtier_test_dir}/native/platform/cuda/cuda_abi_test.cc
                                ${kvtier_test_dir}/native/platform/cufile/cufile_abi_test.cc
                                PROPERTIES COMPILE_OPTIONS "${kvtier_vendor_headers}")
  endif()
  add_test(NAME native COMMAND kvtier_unit_tests)
endif()

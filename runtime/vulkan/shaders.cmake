# Compiles every row of shaders/variants.txt into SPIR-V words inside the library. A source without a row, a row that no vulkan.cpp uses and
# a use without a row fail the build (the last one in the linker).
find_program(RUNNEL_GLSLANG glslangValidator REQUIRED)
find_program(RUNNEL_SPIRV_OPT spirv-opt REQUIRED)
# Smaller code; functions stay functions, since every driver inlines for itself and a copy per call is a fifth more bytes.
set(spirv_passes
    --eliminate-dead-branches --eliminate-dead-functions --private-to-local --scalar-replacement=0 --convert-local-access-chains --eliminate-local-single-block
    --eliminate-local-single-store --ssa-rewrite --ccp --cfg-cleanup --simplify-instructions --redundancy-elimination --eliminate-dead-inserts --merge-blocks
    --eliminate-dead-code-aggressive --eliminate-dead-const --unify-const --if-conversion --simplify-instructions --eliminate-dead-code-aggressive --compact-ids)
set(shader_folder ${PROJECT_SOURCE_DIR}/shaders)
set(shader_gen ${gen}/shaders)
file(MAKE_DIRECTORY ${shader_gen})
file(STRINGS ${shader_folder}/variants.txt rows REGEX "^[a-z]")
file(GLOB shader_sources CONFIGURE_DEPENDS RELATIVE ${shader_folder} ${shader_folder}/*/*.comp)
file(GLOB shader_headers CONFIGURE_DEPENDS ${shader_folder}/*/*.glsl)
file(GLOB shader_users CONFIGURE_DEPENDS ops/*/vulkan.cpp vulkan_session/*.cpp)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${shader_folder}/variants.txt)

set(used)
foreach(user IN LISTS shader_users)
  file(STRINGS ${user} lines REGEX "^RNL_SHADER")
  list(APPEND used ${lines})
endforeach()
set(hash)
# What is kept between runs, compiled pipelines and the outcome of self-checks, holds for these files.
foreach(file IN LISTS shader_headers shader_users)
  file(SHA256 ${file} one)
  string(APPEND hash ${one})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
endforeach()
set(includes)
set(declarations)
set(definitions)
set(names)
set(shader_words)
foreach(row IN LISTS rows)
  separate_arguments(row)
  list(POP_FRONT row name source)
  # `needs=` and `for=` are ours, the rest are glslangValidator's options.
  set(needs 0)
  set(replaces)
  foreach(option IN LISTS row)
    if(option MATCHES "^needs=(.*)$")
      string(REPLACE "+" " | " needs "${CMAKE_MATCH_1}")
    elseif(option MATCHES "^for=(.*)$")
      set(replaces ${CMAKE_MATCH_1})
    endif()
  endforeach()
  list(FILTER row EXCLUDE REGEX "^(needs|for)=")
  if(replaces)
    set(faster_${replaces} "&shader_${name}")
    set(user ${replaces})
  else()
    set(user ${name})
  endif()
  if(NOT "RNL_SHADER(${user})" IN_LIST used)
    message(FATAL_ERROR "shaders/variants.txt: no vulkan.cpp uses ${name}")
  endif()
  if(NOT EXISTS ${shader_folder}/${source})
    message(FATAL_ERROR "shaders/variants.txt: ${name} comes from ${source}, which does not exist")
  endif()
  list(APPEND named ${source})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${shader_folder}/${source})
  file(SHA256 ${shader_folder}/${source} one)
  string(APPEND hash ${one} ${row})
  add_custom_command(
    OUTPUT ${shader_gen}/${name}.h
    COMMAND ${RUNNEL_GLSLANG} -V --target-env vulkan1.1 -g0 --quiet ${row} -o ${shader_gen}/${name}.spv ${shader_folder}/${source}
    COMMAND ${RUNNEL_SPIRV_OPT} --target-env=vulkan1.1 ${spirv_passes} ${shader_gen}/${name}.spv -o ${shader_gen}/${name}.small.spv
    COMMAND ${CMAKE_COMMAND} -DSPIRV=${shader_gen}/${name}.small.spv -DNAME=${name} -DHEADER=${shader_gen}/${name}.h -P ${CMAKE_CURRENT_SOURCE_DIR}/vulkan/embed.cmake
    DEPENDS ${shader_folder}/${source} ${shader_headers} ${CMAKE_CURRENT_SOURCE_DIR}/vulkan/embed.cmake
    VERBATIM)
  list(APPEND shader_words ${shader_gen}/${name}.h)
  string(APPEND includes "#include \"shaders/${name}.h\"\n")
  string(APPEND declarations "extern const ShaderCode shader_${name};\n")
  set(needs_${name} ${needs})
  list(APPEND names ${name})
endforeach()
foreach(name IN LISTS names)
  if(NOT faster_${name})
    set(faster_${name} nullptr)
  endif()
  string(APPEND definitions "extern const ShaderCode shader_${name}{\"${name}\", words_${name}, sizeof words_${name} / 4, ${needs_${name}}, ${faster_${name}}};\n")
endforeach()
foreach(source IN LISTS shader_sources)
  if(NOT source IN_LIST named)
    message(FATAL_ERROR "shaders/${source} has no row in shaders/variants.txt")
  endif()
endforeach()
string(SHA256 hash "${hash}")
string(SUBSTRING ${hash} 0 16 hash)
file(CONFIGURE OUTPUT ${shader_gen}/shaders.cpp @ONLY CONTENT "// Made by runtime/vulkan/shaders.cmake.
#include \"vulkan/pipelines.h\"
${includes}
namespace runnel::vulkan {
extern const char kShadersHash[] = \"${hash}\";
${declarations}${definitions}}  // namespace runnel::vulkan
")
set_source_files_properties(${shader_gen}/shaders.cpp PROPERTIES OBJECT_DEPENDS "${shader_words}")
set(shader_cpp ${shader_gen}/shaders.cpp)

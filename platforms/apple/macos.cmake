# Cross build for macOS on arm64 by the compiler in RUNNEL_ZIG (compile_macos.sh).
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES RUNNEL_ZIG)
foreach(pair IN ITEMS C_COMPILER:cc CXX_COMPILER:c++ AR:ar RANLIB:ranlib)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 variable)
  list(GET pair 1 tool)
  set(CMAKE_${variable} ${RUNNEL_ZIG}/${tool} CACHE FILEPATH "" FORCE)
endforeach()
# Apple's own tool is not needed without shared libraries.
set(CMAKE_INSTALL_NAME_TOOL true)
# The host's headers that are the same everywhere.
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(RUNNEL_FLATBUFFERS_INCLUDE /usr/include CACHE PATH "Folder with flatbuffers/flatbuffers.h")

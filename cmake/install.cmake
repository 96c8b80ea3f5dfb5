# cmake --install: the library, on Linux as a shared and as a static one, with its headers and package config, the programs, the licences of what
# was linked. Components are the packages that package.cmake makes: library, development, programs, examples.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/runnel)

foreach(target runnel runnel_other runnel_json_schema)
  if(TARGET ${target})
    install(TARGETS ${target} EXPORT runnel-targets
      ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
      LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development
      RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT library)
  endif()
endforeach()
install(DIRECTORY runtime/include/runnel DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
foreach(program runnel_cli runnel_convert)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
  endif()
endforeach()
install(EXPORT runnel-targets NAMESPACE runnel:: DESTINATION ${package_dir} COMPONENT development)
# For projects of other build systems, and of C alone: a static library needs the C++ runtime that it was built with.
set(RUNNEL_CXX_RUNTIME ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER RUNNEL_CXX_RUNTIME INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|c\\+\\+_static|c\\+\\+_shared)$")
list(REMOVE_DUPLICATES RUNNEL_CXX_RUNTIME)
set(pc_private_libs "")
foreach(library ${RUNNEL_CXX_RUNTIME} m ${CMAKE_DL_LIBS})
  string(APPEND pc_private_libs " -l${library}")
endforeach()
string(APPEND pc_private_libs " ${CMAKE_THREAD_LIBS_INIT}")
set(pc_libs "")
if(NOT RUNNEL_SHARED AND NOT TARGET runnel_other)
  set(pc_libs "${pc_private_libs}")
endif()
file(RELATIVE_PATH prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" prefix_from_pc "${prefix_from_pc}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/runnel.pc.in ${PROJECT_BINARY_DIR}/runnel.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/runnel.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/runnel-config.cmake.in ${PROJECT_BINARY_DIR}/runnel-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/runnel-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/runnel-config.cmake ${PROJECT_BINARY_DIR}/runnel-config-version.cmake DESTINATION ${package_dir} COMPONENT development)

# Third parties' terms, as the system's packages state them: FlatBuffers is in the library, the others in the programs alone.
set(notices "")
foreach(package libflatbuffers-dev nlohmann-json3-dev libcli11-dev libprotobuf-dev)
  set(file /usr/share/doc/${package}/copyright)
  if(EXISTS ${file})
    file(READ ${file} text)
    string(APPEND notices "==== ${package}\n${text}\n")
  endif()
endforeach()
file(WRITE ${PROJECT_BINARY_DIR}/THIRD_PARTY_NOTICES "${notices}")
install(FILES LICENSE NOTICE ${PROJECT_BINARY_DIR}/THIRD_PARTY_NOTICES DESTINATION ${CMAKE_INSTALL_DOCDIR})

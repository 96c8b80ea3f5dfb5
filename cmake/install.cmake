# cmake --install: the library with its headers and package config, the programs, the licences of what was linked.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/runnel)

install(TARGETS runnel EXPORT runnel-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY runtime/include/runnel DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(program runnel_cli runnel_convert)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
install(EXPORT runnel-targets NAMESPACE runnel:: DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/runnel-config.cmake.in ${PROJECT_BINARY_DIR}/runnel-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/runnel-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/runnel-config.cmake ${PROJECT_BINARY_DIR}/runnel-config-version.cmake DESTINATION ${package_dir})

# Third parties' terms, as the system's packages state them: FlatBuffers is in the library, the others in the programs alone.
set(notices "")
foreach(package libflatbuffers-dev nlohmann-json3-dev libcli11-dev)
  set(file /usr/share/doc/${package}/copyright)
  if(EXISTS ${file})
    file(READ ${file} text)
    string(APPEND notices "==== ${package}\n${text}\n")
  endif()
endforeach()
file(WRITE ${PROJECT_BINARY_DIR}/THIRD_PARTY_NOTICES "${notices}")
install(FILES LICENSE NOTICE ${PROJECT_BINARY_DIR}/THIRD_PARTY_NOTICES DESTINATION ${CMAKE_INSTALL_DOCDIR})

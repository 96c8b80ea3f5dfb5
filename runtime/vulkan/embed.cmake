# cmake -DSPIRV=file -DNAME=name -DHEADER=file -P embed.cmake: the words of a SPIR-V file as a C++ array.
file(READ ${SPIRV} hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1,\n" words "${hex}")
file(WRITE ${HEADER} "static const uint32_t words_${NAME}[] = {\n${words}};\n")

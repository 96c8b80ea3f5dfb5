# The headers' plain comments as Doxygen reads them: of the file, of what follows, of what stands before them on the line.
s,\\(.),\\\\\1,g
s,^/\* ---- (.*[^- ]) -*$,/** @file\n * \1:,
s,^/\* ----.*,,
1s,^/\* ,/** @file\n * ,
1s,^// ,/// @file\n/// ,
s,^( *)/\* ,\1/** ,
s,([^ ] *) /\* ([^*]*(\*/)?)$,\1 /**< \2,
s,^( *)// ?,\1/// ,
s,([^ /] *) // ,\1 ///< ,

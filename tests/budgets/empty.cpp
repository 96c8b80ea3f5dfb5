// The shared library is linked from the static one.

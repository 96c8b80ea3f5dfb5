// Bounds of segment s of a sequence; without bounds there is one of all tokens.
uvec2 segment(uint bounds, uint s, uint tokens) { return bounds == kAbsent ? uvec2(0, tokens) : uvec2(heap_u[bounds + s], heap_u[bounds + s + 1u] - heap_u[bounds + s]); }

// Positions of several axes, such as those of a picture's patches: what a call leaves out counts on behind the largest
// that was given before, as the models that have them count. Positions of one axis are those of the stream.
//
// The header notes where they were given. What moves the stream back leaves the notes alone: the next call drops those
// that lie behind its start, and of one that it cuts the next position is not known.
#include <algorithm>
#include <cstring>

#include "session/pass.h"

namespace runnel {

void Session::forget_positions() {
  StateHeader* h = header();
  GivenPositions* g = h->given;
  const int64_t now = position();
  for (;;) {
    GivenPositions& newest = g[kGivenPositions - 1];
    if (newest.end <= now) return;
    if (newest.begin < now) {
      newest.end = now, newest.next = -1;
      return;
    }
    std::memmove(g + 1, g, sizeof h->given - sizeof *g);
    *g = {};
  }
}

// Of a pass that gave positions and has run from `begin` on.
void Session::note_positions(const Pass& pass, int64_t begin) {
  StateHeader* h = header();
  GivenPositions* g = h->given;
  GivenPositions& newest = g[kGivenPositions - 1];
  if (pass.begin == 0) {
    if (g[0].end > 0) g[1].begin = g[0].begin;
    std::memmove(g, g + 1, sizeof h->given - sizeof *g);
    newest = {begin, 0, 0};
  }
  newest.end = h->position, newest.next = std::max(pass.next_position, newest.next);
}

bool Session::are_positions(const StateHeader& h) {
  int64_t end = 0;
  for (const GivenPositions& g : h.given) {
    if (g.begin < end || g.end < g.begin || g.end > h.high_water || g.next < -1 || g.next > kMaxSize) return false;
    end = g.end;
  }
  return true;
}

}  // namespace runnel

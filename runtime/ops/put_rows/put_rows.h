// put_rows: y = base with some of its rows replaced: y[rows[i]] = values[i], all other rows as they are. Of equal rows
// the last one stays.
//
// inputs   base    any element type, [n, ...]
//          rows    i32 [count], each in [0, n); checked before each run
//          values  base's type, [count, ...], behind axis 0 as base
// outputs  y       as base; shares no memory with it
// attrs    none
// states   none
// tolerance exact
// source   numpy: y = base.copy(); y[rows] = values
#pragma once

#include "contract/op.h"

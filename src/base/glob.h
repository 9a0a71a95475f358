// SPDX-License-Identifier: BSD-3-Clause
// Patterns of key names, as KEYS and SCAN of the servers take them, on any bytes.
//
//   *         any bytes, also none      [abc]  one of these     \x   x itself, also in [...]
//   ?         any one byte              [a-c]  one of a range   (in either order)
//   else      itself, case and all      [^a]   one that is none of these
//
// What has no end is taken as the servers take it: "[ab" as "[ab]", a last backslash as itself.
#ifndef KEYHAUL_BASE_GLOB_H
#define KEYHAUL_BASE_GLOB_H

#include "base/span.h"

/* Does the whole text match? Takes pattern.n * text.n steps at worst, whatever the pattern. */
bool glob_match(struct span pattern, struct span text);

#endif

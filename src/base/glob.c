// SPDX-License-Identifier: BSD-3-Clause
// Patterns of key names.
#include "base/glob.h"

/* Is the byte in the set whose '[' stands right before *at? *at goes behind its end. */
static bool in_set(struct span p, size_t *at, uint8_t c)
{
    size_t i = *at;
    bool not = i < p.n && p.p[i] == '^', found = false;
    for (i += not ; i < p.n && p.p[i] != ']'; i++) {
        if (p.p[i] == '\\' && i + 1 < p.n) {
            found |= p.p[++i] == c;
        } else if (i + 2 < p.n && p.p[i + 1] == '-') {
            uint8_t a = p.p[i], b = p.p[i + 2];
            found |= a <= b ? a <= c && c <= b : b <= c && c <= a;
            i += 2;
        } else {
            found |= p.p[i] == c;
        }
    }
    *at = i < p.n ? i + 1 : i;
    return found != not ;
}

/* What stands at *at stands for one byte: is it this one? *at goes behind it. */
static bool takes_byte(struct span p, size_t *at, uint8_t c)
{
    uint8_t b = p.p[(*at)++];
    if (b == '?') return true;
    if (b == '[') return in_set(p, at, c);
    if (b == '\\' && *at < p.n) b = p.p[(*at)++];
    return b == c;
}

/* Only the last '*' ever has to take more: one before it gains nothing by that. */
bool glob_match(struct span pattern, struct span text)
{
    size_t at = 0, i = 0, star = SIZE_MAX, from = 0;
    while (i < text.n) {
        if (at < pattern.n && pattern.p[at] == '*') {
            star = ++at;
            from = i;
            continue;
        }
        if (at < pattern.n && takes_byte(pattern, &at, text.p[i])) {
            i++;
            continue;
        }
        if (star == SIZE_MAX) return false;
        at = star;
        i = ++from;
    }
    while (at < pattern.n && pattern.p[at] == '*')
        at++;
    return at == pattern.n;
}

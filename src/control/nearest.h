// SPDX-License-Identifier: BSD-3-Clause
// "Did you mean ...?": the nearest of some names to a mistyped one.
#ifndef KEYHAUL_CONTROL_NEAREST_H
#define KEYHAUL_CONTROL_NEAREST_H

struct nearest {
    const char *word;
    const char *best; /* NULL: none is near */
    unsigned distance;
};

void nearest_init(struct nearest *n, const char *word);
void nearest_try(struct nearest *n, const char *name); /* name must live as long as n */

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Stand-ins until the spool is a log.
#include "io/spool.h"
#define WEAK __attribute__((weak))
WEAK int spool_keep(struct spool *s, struct err *err) { (void)s; (void)err; return 0; }
WEAK void spool_done(struct spool *s, uint64_t pos) { (void)s; (void)pos; }
WEAK uint64_t spool_first(const struct spool *s) { return spool_tail(s); }
WEAK int spool_seek(struct spool *s, uint64_t pos, struct err *err) { (void)s; (void)pos; return err_set(err, ERR_INTERNAL, "not yet"); }
WEAK int spool_recover(struct spool **ret, const struct spool_config *cfg, uint64_t *ret_pos, struct err *err) { *ret_pos = UINT64_MAX; return spool_open(ret, cfg, err); }
WEAK int spool_sync(struct spool *s, struct err *err) { (void)s; (void)err; return 0; }

// SPDX-License-Identifier: BSD-3-Clause
// The transitions of a task and of its run: see the diagrams in the header.
#include "control/task_flow.h"

#include "control/metrics.h"

#define TO(x) (1u << (x))

static const unsigned state_next[] = {
    [STATE_NEW] = TO(STATE_LOADING) | TO(STATE_STREAM),
    [STATE_LOADING] = TO(STATE_LOADING) | TO(STATE_STREAM) | TO(STATE_DONE),
    [STATE_STREAM] = TO(STATE_LOADING) | TO(STATE_STREAM) | TO(STATE_DONE),
    [STATE_DONE] = 0,
};

/* A side may be lost from CHECK on; then both are met again. */
static const unsigned phase_next[] = {
    [PHASE_CONNECT] = TO(PHASE_CONNECT) | TO(PHASE_CHECK) | TO(PHASE_WAIT_DUMP) |
                      TO(PHASE_CATCH_UP),
    [PHASE_CHECK] = TO(PHASE_CONNECT) | TO(PHASE_WAIT_DUMP) | TO(PHASE_SNAPSHOT) |
                    TO(PHASE_CATCH_UP),
    [PHASE_WAIT_DUMP] = TO(PHASE_CONNECT) | TO(PHASE_WAIT_DUMP) | TO(PHASE_SNAPSHOT),
    [PHASE_SNAPSHOT] = TO(PHASE_CONNECT) | TO(PHASE_SNAPSHOT) | TO(PHASE_CATCH_UP) | TO(PHASE_DONE),
    [PHASE_CATCH_UP] = TO(PHASE_CONNECT) | TO(PHASE_CATCH_UP) | TO(PHASE_STREAM) | TO(PHASE_DONE),
    [PHASE_STREAM] = TO(PHASE_CONNECT) | TO(PHASE_CATCH_UP) | TO(PHASE_STREAM) | TO(PHASE_DONE),
    [PHASE_DONE] = 0,
};

#define STATES (sizeof(state_next) / sizeof(state_next[0]))
#define PHASES (sizeof(phase_next) / sizeof(phase_next[0]))

int task_flow_state(enum state_phase *state, enum state_phase to, struct err *err)
{
    if (*state >= STATES || to >= STATES || !(state_next[*state] & TO(to)))
        return err_set(err, ERR_INTERNAL, "a task that is %s cannot become %s",
                       state_phase_name(*state), state_phase_name(to));
    *state = to;
    return 0;
}

int task_flow_phase(counter *phase, enum phase to, struct err *err)
{
    uint64_t now = counter_get(phase);
    if (now >= PHASES || to >= PHASES || !(phase_next[now] & TO(to)))
        return err_set(err, ERR_INTERNAL, "a run in the phase %s cannot come to %s",
                       metrics_phase_name(now, false), metrics_phase_name(to, false));
    counter_set(phase, to);
    return 0;
}

// SPDX-License-Identifier: BSD-3-Clause
// What a task may become, and what the run of it: one transition function for each, pure.
//
// The task, as state.json keeps it (enum state_phase):
//
//   NEW ──▶ LOADING ──loaded──▶ STREAM ──finished──▶ DONE
//    │       ▲ │ ▲               │ ▲ ▲                ▲
//    │ again └─┤ └─ hole in the ─┘ │ └ gone on with   │
//    │         │    history        │                  │
//    │         └─ --type full ─────┼──────────────────┘
//    └─ the target knows the task ─┘
//
// The run, as the counters tell it (enum phase); the engine itself sets CATCH-UP and STREAM, when
// the replay begins and when it has reached the source:
//
//   CONNECT ─▶ CHECK ─▶ WAIT-DUMP ─▶ SNAPSHOT ─▶ CATCH-UP ◀─▶ STREAM ─▶ DONE
//
//   a side is lost      any but DONE ─▶ CONNECT, and on without CHECK
//   no snapshot needed  CONNECT, CHECK ─▶ CATCH-UP
//   a file is restored  CHECK ─▶ SNAPSHOT, again for each part of it
//   nothing follows     SNAPSHOT ─▶ DONE   (--type full, restore, backup)
//   stopped behind      CATCH-UP ─▶ DONE
//
// Any other step is a fault of ours, and ends the run: ERR_INTERNAL.
#ifndef KEYHAUL_CONTROL_TASK_FLOW_H
#define KEYHAUL_CONTROL_TASK_FLOW_H

#include "control/state.h"
#include "engine/counters.h"

/* *state becomes `to`; to be saved by the caller. */
KH_MUST int task_flow_state(enum state_phase *state, enum state_phase to, struct err *err);

/* The phase of the counters becomes `to`. */
KH_MUST int task_flow_phase(counter *phase, enum phase to, struct err *err);

#endif

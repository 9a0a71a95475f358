# SPDX-License-Identifier: BSD-3-Clause
# Tests, sanitizers, fuzzing, measuring.

.PHONY: test unit-build list-unit e2e chaos chaos-cluster chaos-named chaos-proof matrix asan ubsan tsan asan-build \
        fuzz fuzz-build bench demo

test: ## every test and check, with a total at the end (what ./run test does)
	@$(PYTHON) tools/test-all

unit-build: $(TEST_BIN)
list-unit:
	@printf '%s\n' $(TEST_BIN)

e2e: $(BUILD)/keyhaul ## tests on real servers; E2E_ARGS="-k name" selects
	$(PYTHON) -m pytest -q -p no:cacheprovider $(E2E_ARGS) tests/e2e

# SEED: of the first round. Also: WITHOUT=oom,disk (faults to leave out), SECONDS=20 (each round).
ROUNDS  ?= 20
SECONDS ?= 20
chaos: $(BUILD)/keyhaul ## kills, crashes, failovers, cuts under load; SEED=n ROUNDS=n again
	KEYHAUL=$(abspath $(BUILD)/keyhaul) KEYHAUL_CHAOS=1 KEYHAUL_CHAOS_ROUNDS=$(ROUNDS) \
	    KEYHAUL_CHAOS_SEED=$(or $(SEED),$(shell date +%s)) KEYHAUL_CHAOS_SECONDS=$(SECONDS) \
	    KEYHAUL_CHAOS_WITHOUT=$(WITHOUT) \
	    $(PYTHON) -m pytest -q -s -p no:cacheprovider $(CHAOS_ARGS) tests/e2e/chaos/test_rounds.py
# SHAPES: "one to cluster3,cluster3 to one"; WITHOUT also: functions, cluster:failover, target:oom.
chaos-cluster: $(BUILD)/keyhaul ## the same between shapes, resharded as well; SHAPES="one to cluster3"
	KEYHAUL=$(abspath $(BUILD)/keyhaul) KEYHAUL_CHAOS=1 KEYHAUL_CHAOS_ROUNDS=$(ROUNDS) \
	    KEYHAUL_CHAOS_SEED=$(or $(SEED),$(shell date +%s)) KEYHAUL_CHAOS_SECONDS=$(SECONDS) \
	    KEYHAUL_CHAOS_WITHOUT="$(WITHOUT)" KEYHAUL_CHAOS_SHAPES="$(SHAPES)" \
	    $(PYTHON) -m pytest -q -s -p no:cacheprovider $(CHAOS_ARGS) \
	    tests/e2e/chaos/test_cluster_rounds.py
chaos-named: $(BUILD)/keyhaul ## each promise of exactly once by itself; CHAOS_ARGS="-k name"
	KEYHAUL=$(abspath $(BUILD)/keyhaul) KEYHAUL_CHAOS=1 \
	    $(PYTHON) -m pytest -q -p no:cacheprovider $(CHAOS_ARGS) tests/e2e/chaos/test_named.py
chaos-proof: $(BUILD)/keyhaul ## do those suites find what broken movers lose?
	KEYHAUL=$(abspath $(BUILD)/keyhaul) KEYHAUL_CHAOS=1 \
	    $(PYTHON) -m pytest -q -p no:cacheprovider $(CHAOS_ARGS) \
	    tests/e2e/chaos/test_finds_loss.py tests/e2e/chaos/test_cluster_finds_loss.py

matrix: $(BUILD)/keyhaul ## every fetched server to every other; writes docs/reference/compatibility.md
	tests/servers
	KEYHAUL=$(abspath $(BUILD)/keyhaul) KEYHAUL_MATRIX_SECONDS=7200 \
	    KEYHAUL_MATRIX_DOC=docs/reference/compatibility.md \
	    $(PYTHON) -m pytest -q -p no:cacheprovider tests/e2e/test_matrix.py

# One build serves address and undefined: their reports do not mix.
ASAN  = $(MAKE) BUILD=$(BUILD)-asan SANITIZE=address,undefined OPT="-O1 -g"
asan: ## unit tests under the address and undefined sanitizers
	@$(ASAN) unit
ubsan: asan ## the same build and run as asan
asan-build:
	@$(ASAN) unit-build

# Thread sanitizer of gcc 12 cannot live with as much address randomisation as newer kernels do.
tsan: ## unit tests under the thread sanitizer
	@$(MAKE) BUILD=$(BUILD)-tsan SANITIZE=thread OPT="-O1 -g" RUN_UNIT="setarch -R" unit

# Fuzzing: one libFuzzer program for each tests/fuzz/fuzz_*.c, other files there are helpers.
# The unit tests' helpers are at hand as well. Seeds of fuzz_rdb: tests/golden/rdb and
# tests/fuzz/corpus/fuzz_rdb, where there are such; what is found goes on in build-fuzz/corpus.
# An input that crashes is kept as build-fuzz/found-<program>-*.
FUZZ_SECONDS ?= 60
FUZZ_MAX_LEN ?= 65536
FUZZ_BUILD   := $(BUILD)-fuzz
FUZZ_SRC     := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_HELP    := $(filter-out $(FUZZ_SRC),$(sort $(wildcard tests/fuzz/*.c)))
FUZZ_NAMES   := $(FUZZ_SRC:tests/fuzz/%.c=%)
FUZZ         = $(MAKE) CC=clang BUILD=$(FUZZ_BUILD) OPT="-O1 -g" \
               SANITIZE=fuzzer-no-link,address,undefined

fuzz: fuzz-build ## fuzz every parser, FUZZ_SECONDS=60 each
	@fail=0; for t in $(FUZZ_NAMES); do $(MAKE) -s fuzz-run-$$t || fail=1; done; exit $$fail

fuzz-build:
	@$(FUZZ) fuzz-programs

.PHONY: fuzz-programs
fuzz-programs: $(FUZZ_NAMES:%=$(BUILD)/fuzz/%)

# LLVMFuzzerTestOneInput has no prototype anywhere.
$(BUILD)/obj/tests/fuzz/%.o: CPP_TEST := -Itests/fuzz -Wno-missing-prototypes
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/libhelp.a $(BUILD)/libkeyhaul.a
	@mkdir -p $(@D)
	@echo "  FUZZ  $@"
	@$(CC) $(CFLAGS_ALL) -o $@ $^ $(LD_ALL) -fsanitize=fuzzer -lcmocka $(LIBS_ALL)
$(BUILD)/libhelp.a: $(FUZZ_HELP:%.c=$(BUILD)/obj/%.o) $(TEST_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

.PHONY: $(FUZZ_NAMES:%=fuzz-run-%)
$(FUZZ_NAMES:%=fuzz-run-%): fuzz-run-%:
	@mkdir -p $(FUZZ_BUILD)/corpus/$*
	$(FUZZ_BUILD)/fuzz/$* -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=1024 \
	    -max_len=$(FUZZ_MAX_LEN) -print_final_stats=1 -verbosity=1 -artifact_prefix=$(FUZZ_BUILD)/found-$*- \
	    $(patsubst %,-dict=%,$(wildcard tests/fuzz/$*.dict)) \
	    $(FUZZ_BUILD)/corpus/$* $(wildcard tests/fuzz/corpus/$* tests/golden/$(*:fuzz_%=%))

# Damaged dumps and payloads, as many as asked for, under the sanitizers of asan; what is wrong is
# named by a number, with which it can be had again.
MUTATE_ARGS ?= --count 200000
MUTATE_SRC  := $(sort $(wildcard tests/mutate/*.c))
MUTATE_WRAP := $(foreach f,malloc calloc realloc free,-Wl,--wrap=$(f))
.PHONY: mutate mutate-program
mutate: ## 200,000 damaged dumps and values, under the sanitizers; MUTATE_ARGS="--count 5000"
	@$(ASAN) mutate-program
	$(BUILD)-asan/mutate $(MUTATE_ARGS)

mutate-program: $(BUILD)/mutate
$(BUILD)/mutate: $(MUTATE_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/libkeyhaul.a
	@echo "  LINK  $@"
	@$(CC) $(CFLAGS_ALL) -o $@ $^ $(LD_ALL) $(MUTATE_WRAP) $(LIBS_ALL)

# Instructions for fixed work, against those in tests/cost/counts: what the machine is busy with, or
# how fast it is, does not show in them.
COST_SRC := $(sort $(wildcard tests/cost/*.c))
COST_ARGS = --cc "$(CC)" --flags "$(strip $(OPT) $(CFLAGS) $(CPPFLAGS) $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(if $(ISAL),,no-isal))"
.PHONY: cost counts-accept
cost: $(BUILD)/cost ## instructions per key and command, against those noted in tests/cost/counts
	@$(PYTHON) tools/check-cost $(COST_ARGS) $<
counts-accept: $(BUILD)/cost ## note what they are now, of this compiler
	@$(PYTHON) tools/check-cost --accept $(COST_ARGS) $<

$(BUILD)/obj/tests/cost/%.o: CPP_TEST := -Itests/cost
$(BUILD)/cost: $(COST_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/libkeyhaul.a
	@echo "  LINK  $@"
	@$(CC) $(CFLAGS_ALL) -o $@ $^ $(LD_ALL) $(LIBS_ALL)

bench: $(BUILD)/keyhaul ## measure against native replication; BENCH_ARGS
	$(PYTHON) bench/bench.py $(BENCH_ARGS)

demo: $(BUILD)/keyhaul ## move a live server into another and compare them
	$(PYTHON) tools/demo $(DEMO_ARGS)

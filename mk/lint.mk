# SPDX-License-Identifier: BSD-3-Clause
# What the machine can check of the house's rules. Each part is a target of its own.

LINT_PARTS := text layers budget format gcc clang globals docs shell tidy
.PHONY: lint $(LINT_PARTS:%=lint-%)
lint: $(LINT_PARTS:%=lint-%) ## all checks of style and rules; lint-tidy, lint-format ... for one

C_FILES = $(shell find $(wildcard src tests bench tools) -name '*.[ch]' | LC_ALL=C sort)

lint-text:
	@$(PYTHON) tools/check-text
lint-layers:
	@$(PYTHON) tools/check-layers
lint-budget:
	@$(PYTHON) tools/check-budget
lint-format: ## is every C file as clang-format would have it? (`make format` mends)
	@clang-format --dry-run -Werror $(C_FILES)
lint-shell:
	@if command -v shellcheck >/dev/null; then shellcheck run .ci/run tools/tidy; fi

# Every file under both compilers, warnings as errors, objects only. gcc finds some things only
# when it optimises.
lint-gcc:
	@$(MAKE) CC=gcc BUILD=$(BUILD)-strict/gcc WERROR=-Werror objects
lint-clang:
	@$(MAKE) CC=clang BUILD=$(BUILD)-strict/clang WERROR=-Werror OPT=-O1 objects
lint-globals: $(BUILD)/libkeyhaul.a
	@$(PYTHON) tools/check-globals $<

.PHONY: objects
objects: $(SRC:%.c=$(BUILD)/obj/%.o) $(TEST_SRC:%.c=$(BUILD)/obj/%.o) $(TEST_OBJ) \
         $(FUZZ_SRC:%.c=$(BUILD)/obj/%.o) $(FUZZ_HELP:%.c=$(BUILD)/obj/%.o) \
         $(MUTATE_SRC:%.c=$(BUILD)/obj/%.o) $(COST_SRC:%.c=$(BUILD)/obj/%.o)

# One process per file, one for each processor; the list of checks is .clang-tidy.
TIDY_JOBS ?= $(shell nproc)
lint-tidy:
	@printf '%s\n' $(SRC) | xargs -P$(TIDY_JOBS) -I{} tools/tidy {} -std=gnu17 -O1 $(CPP_ALL)

# The reference and the manual are what the program says of itself.
DOCS_MADE := $(patsubst %,docs/reference/%.md,migrate restore backup inspect status stop finish) docs/keyhaul.1
SAY = $(if $(filter %.1,$(1)),help --man,help --markdown $(basename $(notdir $(1))))
lint-docs: $(BUILD)/keyhaul
	@$(foreach d,$(DOCS_MADE),$(BUILD)/keyhaul $(call SAY,$d) | cmp -s - $d || \
	    { echo "$d: not what build/keyhaul says; run make docs"; exit 1; };)

.PHONY: docs format
docs: $(BUILD)/keyhaul ## write the reference and the manual from the program's own tables
	@mkdir -p docs/reference
	@$(foreach d,$(DOCS_MADE),$(BUILD)/keyhaul $(call SAY,$d) >$d.new && mv $d.new $d || exit 1;)
format: ## lay out every C file with clang-format
	@clang-format -i $(C_FILES)

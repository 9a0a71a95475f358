# SPDX-License-Identifier: BSD-3-Clause
# keyhaul: GNU make, no configure step. `make help` lists what there is.
#
# Yours to set: PREFIX DESTDIR BUILD CC OPT SANITIZE WERROR CPPFLAGS CFLAGS LDFLAGS LDLIBS.
# Several builds side by side: `make CC=clang BUILD=build-clang`.

VERSION   := 0.1.0
PREFIX    ?= /usr/local
DESTDIR   ?=
BUILD     ?= build
PYTHON    ?= /usr/bin/python3
PKGCONF   ?= pkg-config
OPT       ?= -O2 -g
SANITIZE  ?=
WERROR    ?=
# make's own default is cc; a CC from the environment or the command line wins over ours.
ifeq ($(origin CC),default)
CC        := gcc
endif

PKGS      := openssl libxxhash liblzf jansson
ISAL      := $(shell $(PKGCONF) --exists libisal 2>/dev/null && echo 1)

WARN      := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
             -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wvla -Wundef -Wconversion \
             -Wno-sign-conversion
CPP_ALL   := -Isrc -I$(BUILD)/gen -D_GNU_SOURCE -DKEYHAUL_VERSION='"$(VERSION)"' \
             $(shell $(PKGCONF) --cflags $(PKGS)) \
             $(if $(ISAL),-DHAVE_ISAL $(shell $(PKGCONF) --cflags libisal)) $(CPPFLAGS)
# Fortify needs an optimiser, and hides from the sanitizers what they look for.
FORTIFY   := $(if $(SANITIZE)$(findstring -O0,$(OPT)),-D_FORTIFY_SOURCE=0,-D_FORTIFY_SOURCE=2)
CFLAGS_ALL = -std=gnu17 $(OPT) $(WARN) $(WERROR) -fno-strict-aliasing -fstack-protector-strong \
             -fPIE -U_FORTIFY_SOURCE $(FORTIFY) -pthread \
             $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all) \
             $(CFLAGS)
LD_ALL     = -pie -pthread -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)
LIBS_ALL  := $(shell $(PKGCONF) --libs $(PKGS)) \
             $(if $(ISAL),$(shell $(PKGCONF) --libs libisal)) -lm $(LDLIBS)

SRC       := $(shell find src -name '*.c' | LC_ALL=C sort)
LIB_SRC   := $(filter-out src/cli/main.c,$(SRC))
LIB_OBJ   := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
TEST_SRC  := $(shell find tests/unit -name 'test_*.c' | LC_ALL=C sort)
TEST_HELP := $(shell find tests/unit -name '*.c' ! -name 'test_*.c' | LC_ALL=C sort)
TEST_BIN  := $(TEST_SRC:tests/unit/%.c=$(BUILD)/unit/%)
TEST_OBJ  := $(TEST_HELP:%.c=$(BUILD)/obj/%.o)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

.PHONY: all build unit clean distclean FORCE
all build: $(BUILD)/keyhaul ## build the program (build/keyhaul)

$(BUILD)/libkeyhaul.a: $(LIB_OBJ) $(BUILD)/objects
	@rm -f $@
	@$(AR) rcs $@ $(LIB_OBJ)

$(BUILD)/keyhaul: $(BUILD)/obj/src/cli/main.o $(BUILD)/libkeyhaul.a
	@echo "  LINK  $@"
	@$(CC) $(CFLAGS_ALL) -o $@ $^ $(LD_ALL) $(LIBS_ALL)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CPP_ALL) $(CPP_TEST) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# cmocka's macros cast const away.
$(BUILD)/obj/tests/%.o: CPP_TEST := -Itests/unit -Wno-cast-qual

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(TEST_OBJ) $(BUILD)/libkeyhaul.a
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	@$(CC) $(CFLAGS_ALL) -o $@ $^ $(LD_ALL) -lcmocka $(LIBS_ALL)

unit: $(TEST_BIN) ## build and run the unit tests
	@fail=0; for t in $(TEST_BIN); do $(RUN_UNIT) $$t || { echo "FAILED: $$t"; fail=1; }; done; exit $$fail

# What was compiled with other flags is compiled again; what was archived from other files too.
# Each of these files is written only when its content changes.
$(BUILD)/flags: FORCE
	@$(call keep,$(CC) $(CPP_ALL) $(CFLAGS_ALL) | $(LD_ALL) $(LIBS_ALL))
$(BUILD)/objects: FORCE
	@$(call keep,$(LIB_OBJ))
quote      = '$(subst ','\'',$(strip $(1)))'
keep       = mkdir -p $(@D); printf '%s\n' $(call quote,$(1)) >$@.new.$$$$; \
             if cmp -s $@.new.$$$$ $@; then rm $@.new.$$$$; else mv $@.new.$$$$ $@; fi
FORCE:

clean: ## remove build/
	rm -rf $(BUILD)

-include $(wildcard mk/*.mk)
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

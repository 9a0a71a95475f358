# SPDX-License-Identifier: BSD-3-Clause
# keyhaul: GNU make, no configure step. `make help` lists what there is.

VERSION   := 0.1.0
PREFIX    ?= /usr/local
DESTDIR   ?=
BUILD     ?= build
CC        ?= gcc
PYTHON    ?= /usr/bin/python3
PKGCONF   ?= pkg-config
OPT       ?= -O2 -g
SANITIZE  ?=

PKGS      := openssl libxxhash liblzf
ISAL      := $(shell $(PKGCONF) --exists libisal 2>/dev/null && echo 1)

WARN      := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
             -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wvla -Wundef -Wconversion \
             -Wno-sign-conversion
CPPFLAGS  += -Isrc -I$(BUILD)/gen -D_GNU_SOURCE -DKEYHAUL_VERSION='"$(VERSION)"' \
             $(shell $(PKGCONF) --cflags $(PKGS)) $(if $(ISAL),-DHAVE_ISAL $(shell $(PKGCONF) --cflags libisal))
CFLAGS_ALL = -std=gnu17 $(OPT) $(WARN) $(WERROR) -fno-strict-aliasing -fstack-protector-strong \
             -D_FORTIFY_SOURCE=$(if $(SANITIZE),0,2) -pthread \
             $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all) \
             $(CFLAGS)
LDFLAGS   += -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LDLIBS    += $(shell $(PKGCONF) --libs $(PKGS)) $(if $(ISAL),$(shell $(PKGCONF) --libs libisal)) -lm

SRC       := $(shell find src -name '*.c' | LC_ALL=C sort)
LIB_SRC   := $(filter-out src/cli/main.c,$(SRC))
LIB_OBJ   := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
TEST_SRC  := $(shell find tests/unit -name 'test_*.c' | LC_ALL=C sort)
TEST_HELP := $(filter-out $(TEST_SRC),$(shell find tests/unit -name '*.c' | LC_ALL=C sort))
TEST_BIN  := $(TEST_SRC:tests/unit/%.c=$(BUILD)/unit/%)

.PHONY: all build unit clean
all build: $(BUILD)/keyhaul

$(BUILD)/libkeyhaul.a: $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/keyhaul: $(BUILD)/obj/src/cli/main.o $(BUILD)/libkeyhaul.a
	@echo "  LINK  $@"
	@$(CC) $(CFLAGS_ALL) -o $@ $^ $(LDFLAGS) $(LDLIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/unit/%: tests/unit/%.c $(TEST_HELP:%.c=$(BUILD)/obj/%.o) $(BUILD)/libkeyhaul.a
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	@$(CC) $(CPPFLAGS) -Itests/unit $(CFLAGS_ALL) -Wno-cast-qual -MMD -MP -o $@ $< $(TEST_HELP:%.c=$(BUILD)/obj/%.o) \
	    $(BUILD)/libkeyhaul.a $(LDFLAGS) -lcmocka $(LDLIBS)

unit: $(TEST_BIN)
	@fail=0; for t in $(TEST_BIN); do $$t || { echo "FAILED: $$t"; fail=1; }; done; exit $$fail

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

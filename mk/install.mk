# SPDX-License-Identifier: BSD-3-Clause
# Installing, the packages needed, and the list of targets.

BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
DOCDIR  ?= $(PREFIX)/share/doc/keyhaul
INSTALL ?= install
DOCS    := $(wildcard README.md ARCHITECTURE.md) $(shell find docs -name '*.md' | LC_ALL=C sort)

.PHONY: install uninstall deps help
install: $(BUILD)/keyhaul ## program, manual and docs; PREFIX=/usr/local, DESTDIR=
	$(INSTALL) -D -m 755 $(BUILD)/keyhaul $(DESTDIR)$(BINDIR)/keyhaul
	$(INSTALL) -D -m 644 LICENSE $(DESTDIR)$(DOCDIR)/LICENSE
	@set -e; for f in $(DOCS); do $(INSTALL) -D -m 644 $$f $(DESTDIR)$(DOCDIR)/$$f; done
ifneq ($(wildcard docs/keyhaul.1),)
	$(INSTALL) -D -m 644 docs/keyhaul.1 $(DESTDIR)$(MANDIR)/man1/keyhaul.1
endif

uninstall: ## remove what install put there, with the same PREFIX and DESTDIR
	rm -f $(DESTDIR)$(BINDIR)/keyhaul $(DESTDIR)$(MANDIR)/man1/keyhaul.1
	rm -rf $(DESTDIR)$(DOCDIR)

deps: ## install the Debian packages of deps.txt
	@./run deps

distclean: clean ## remove every build folder
	rm -rf $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-strict $(BUILD)-clang $(BUILD)-tidy.log

help: ## this list
	@sed -nE 's/^([a-z][a-z0-9 -]*):[^#]* ## (.*)/\1\t\2/p' Makefile mk/test.mk mk/lint.mk mk/install.mk | \
	    while IFS="$$(printf '\t')" read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done
